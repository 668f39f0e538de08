"""From checked sections to the records that the engine works with. What is not given keeps the record's own default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunella.core.advice import Allowance
from prunella.core.redact import Secret
from prunella.core.retention import Retention
from prunella.core.services import Cache, DisableAfter, GateLimits, Health, Issuing, OAuth, SecretSource, Service
from prunella.settings.addresses import host_of
from prunella.settings.model import (
    AdvisorSection,
    AuthSection,
    DisableSection,
    File,
    RetentionSection,
    RuleSection,
    ServiceSection,
)

Seeds = Mapping[str, tuple[Secret, Secret | None]]
"""Service -> access token and refresh token that count while the store holds none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorSettings:
    """Whom to ask for a second opinion, and how often.

    Args:
        base_url: of an OpenAI-compatible endpoint, without `/chat/completions`.
        deadline_s: for a whole call (document B: 5 s).
    """

    base_url: str
    model: str
    api_key: SecretSource
    deadline_s: float = 5.0
    allowance: Allowance = field(default_factory=Allowance)


def retention(section: RetentionSection | None) -> Retention:
    """Return how long what is over is kept."""
    given = section.given() if section is not None else {}
    return Retention(**{f"{name}_s": seconds for name, seconds in given.items()})


def advisor(section: AdvisorSection | None) -> AdvisorSettings | None:
    """Return the advisor, None where it is not switched on."""
    if section is None or not section.enabled:
        return None
    names = {"calls_per_day": "calls", "tokens_per_day": "tokens"}
    given = {name: value for name, value in section.given().items() if name != "enabled"}
    limits = {names[name]: given.pop(name) for name in names if name in given}
    deadline = {"deadline_s": given.pop("deadline")} if "deadline" in given else {}
    return AdvisorSettings(**given, **deadline, allowance=Allowance(**limits))


def issuing(section: AuthSection | None) -> Issuing | None:
    """Return whose tokens count beside our own, None where nobody's do."""
    if section is None or (section.jwt is None and section.supabase is None):
        return None
    if section.supabase is not None:
        issuer = f"{section.supabase.project.rstrip('/')}/auth/v1"
        if section.supabase.secret is not None:
            shared = section.supabase.secret
            return Issuing(issuer=issuer, audience="authenticated", secret=shared, algorithms=("HS256",))
        return Issuing(issuer=issuer, audience="authenticated", jwks_url=f"{issuer}/.well-known/jwks.json")
    assert section.jwt is not None
    given: dict[str, Any] = section.jwt.given()
    if section.jwt.secret is not None:
        given["algorithms"] = ("HS256",)
    elif "algorithms" in given:
        given["algorithms"] = tuple(given["algorithms"])
    return Issuing(**given)


def services(file: File) -> dict[str, Service]:
    """Return the services by name."""
    return {name: _service(name, section) for name, section in (file.services or {}).items()}


def _service(name: str, section: ServiceSection) -> Service:
    oauth, health, gate, cache = section.oauth, section.health, section.gate, section.cache
    known: dict[str, Any] = {
        "base_url": section.base_url,
        "hosts": _hosts(section),
        "health": health and Health(**_seconds(health.given())),
        "cache": cache and Cache(**cache.given()),
        "oauth": oauth and OAuth(**_oauth(oauth.given())),
        "bearer": section.bearer,
        "headers": {
            header: Secret(value) if isinstance(value, str) else value
            for header, value in (section.headers or {}).items()
        },
        "gate": gate and GateLimits(**_seconds(gate.given())),
        "disable_after": section.disable_after and _disable_after(section.disable_after),
        "enable_again": section.enable_again,
        "validate": section.reply,
        "honours_idempotency_key": section.honours_idempotency_key,
        "calls_max": section.calls_max,
        "rate_per_s": section.rate and section.rate.initial_per_s,
        "timeout_s": section.timeout,
        "rules": tuple(_rule(rule) for rule in section.classify or ()),
    }
    return Service(name=name, **{field: value for field, value in known.items() if value is not None})


def _hosts(section: ServiceSection) -> frozenset[str]:
    if section.hosts is None and section.base_url is not None:
        return frozenset({host_of(section.base_url)})
    return frozenset(section.hosts or ())


def _seconds(given: dict[str, Any]) -> dict[str, Any]:
    """Name durations as records do: units last."""
    return {f"{name}_s" if name in ("every", "timeout", "open") else name: value for name, value in given.items()}


def _oauth(given: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in given.items() if name not in ("access_token", "refresh_token")}
    return {**kept, "scopes": tuple(given.get("scopes", ()))}


def _disable_after(section: DisableSection) -> DisableAfter:
    limits = section.given()
    network = section.network
    if network is not None:
        given = network.given()
        names = {"count": "network", "within": "network_within_s"}
        limits = {name: value for name, value in limits.items() if name != "network"}
        limits |= {names[name]: value for name, value in given.items()}
    return DisableAfter(**limits)


def _rule(rule: RuleSection) -> dict[str, Any]:
    wait = {} if rule.retry_after is None else {"retry_after": rule.retry_after}
    return {"when": rule.when.given(), "kind": rule.kind, **wait}


def seeds(file: File) -> dict[str, tuple[Secret, Secret | None]]:
    """Return the tokens that the file brings along."""
    sections = {name: section.oauth for name, section in (file.services or {}).items()}
    return {
        name: (oauth.access_token, oauth.refresh_token)
        for name, oauth in sections.items()
        if oauth is not None and oauth.access_token is not None
    }
