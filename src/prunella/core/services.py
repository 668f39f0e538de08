"""The inventory: what prunella knows about each service it looks after. Defaults are the figures of document B."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from prunella.core.errors import InvalidInput
from prunella.core.redact import Secret

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Name a secret kept in the store (`secret://name`); opened only where it is used."""

    name: str


SecretSource = Secret | SecretRef


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """How to refresh a token (RFC 6749 section 6).

    Args:
        reuse_s: how long the provider takes a spent refresh token once more, from its first use; None: what the
            provider documents, 0: not at all.
    """

    token_url: str
    client_id: str
    client_secret: SecretSource | None = None
    scopes: tuple[str, ...] = ()
    per_user: bool = False
    reuse_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How to ask a service whether it is well; 10 s is document A's limit for a health check."""

    path: str
    every_s: float = 60.0
    timeout_s: float = 10.0
    status_page: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """When the Gate opens and closes again (documents C and E: 5 failures, 2 successes, 60 s)."""

    failures: int = 5
    successes: int = 2
    open_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Where a service is told to forget what it keeps (`invalidate_cache`)."""

    path: str
    method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableAfter:
    """How many failures from outside disable a service (document B); None never does, rate limits never do."""

    auth: int | None = 3
    network: int | None = 9
    network_within_s: float = 3600.0
    data: int | None = 5
    unknown: int | None = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One configured service.

    Args:
        hosts: where a replay may go, as `host` or `host:port`; default: the host of `base_url`.
        validate: what a 2xx reply must look like to count as success: json, graphql or none.
        honours_idempotency_key: the receiver answers a repeated `Idempotency-Key` from its memory. Only then is
            a call whose outcome nobody knows (the worker died in it) repeated by machine.
        rate_per_s: how many of our calls may begin per second, over all workers, until the service teaches better
            (HEAL_RATE_001); None: only `calls_max` limits them.
        enable_again: `by_person`, or `by_probe` where a passed health probe may lift a disablement.
    """

    name: str
    base_url: str | None = None
    hosts: frozenset[str] = frozenset()
    health: Health | None = None
    cache: Cache | None = None
    oauth: OAuth | None = None
    bearer: SecretSource | None = None
    headers: Mapping[str, SecretSource] = field(default_factory=dict)
    gate: GateLimits = field(default_factory=GateLimits)
    disable_after: DisableAfter = field(default_factory=DisableAfter)
    enable_again: str = "by_person"
    validate: str = "json"
    honours_idempotency_key: bool = False
    calls_max: int = 8
    rate_per_s: float | None = None
    timeout_s: float = 5.0
    rules: tuple[Mapping[str, object], ...] = ()

    @property
    def vendors(self) -> tuple[str, ...]:
        """Return what its host calls it: `hubapi` for https://api.hubapi.com; that leads to the vendor's profile."""
        return _vendors(self.base_url or "")

    def url(self, endpoint: str) -> str:
        """Return the absolute address of `endpoint`, refused where it leaves the service's own hosts."""
        below = f"{(self.base_url or '').rstrip('/')}/{endpoint.lstrip('/')}"
        url = endpoint if _ABSOLUTE.match(endpoint) else below
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # a port or an IPv6 address that is none
            raise InvalidInput(f"services.{self.name}: {endpoint!r} is no address; send a full URL or a path") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"services.{self.name}: {endpoint!r} is no address; set base_url or send a full URL")
        if parts.username or parts.password:
            raise InvalidInput(f"services.{self.name}: an address with a user or password is not replayed")
        allowed = self.hosts or frozenset({urlsplit(self.base_url or "").netloc})
        default_port = {"http": 80, "https": 443}[parts.scheme]
        here = parts.hostname if port in (None, default_port) else f"{parts.hostname}:{port}"
        if here not in allowed and f"{parts.hostname}:{port or default_port}" not in allowed:
            listed = ", ".join(sorted(filter(None, allowed))) or "none"
            raise InvalidInput(
                f"services.{self.name}: host {here} is not its own; allowed: {listed}; "
                f"add it to services.{self.name}.hosts if it belongs to the service"
            )
        return url

    def account_of(self, user: str | None) -> str:
        """Return the account that `user` stands for: one per user, or one for the whole service."""
        return (user or "") if self.oauth is not None and self.oauth.per_user else ""


@cache
def _vendors(base_url: str) -> tuple[str, ...]:
    labels = (urlsplit(base_url).hostname or "").split(".")
    if len(labels) < 2 or labels[-1].isdigit():
        return ()
    of_country = len(labels) > 2 and labels[-2] in ("co", "com", "net", "org")
    return (labels[-3 if of_country else -2],)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing:
    """Whose tokens open this deployment, beside its own.

    Args:
        jwks_url: where the issuer's public keys stand; None where a secret is shared instead.
        secret: what HS256 tokens are signed with (Supabase projects of before 2025).
        algorithms: pinned; a token that names another one is no good.
        role_claim: where the role stands, with dots between; never where users write themselves (`user_metadata`).
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    secret: SecretSource | None = None
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    role_claim: str = "app_metadata.prunella_role"
