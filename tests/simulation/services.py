"""Who takes part: the third parties as configured, their accounts and secrets, and what their integrations report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prunella.core.issues import MACHINE, Binding, KnownIssue
from prunella.core.records import Level
from prunella.core.redact import Secret
from prunella.core.services import Cache, GateLimits, Health, OAuth, SecretRef, Service

USERS = ("ada", "bob")
ACCOUNTS = (("crm", "ada"), ("crm", "bob"), ("shop", ""))
SECRETS = ("crm-client", "shop-client", "books-key")

FAILURES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "network": (
        {"http_status": 503, "error_code": "service_unavailable", "error_message": "try later"},
        {"error_code": "ECONNRESET", "error_message": "socket hang up"},
        {"http_status": 504, "error_message": "gateway timeout"},
    ),
    "auth": ({"http_status": 401, "error_code": "invalid_token", "error_message": "Token expired"},),
    "rate_limit": (
        {"http_status": 429, "error_code": "rate_limit_exceeded", "headers": {"retry-after": "2"}},
        {"http_status": 429, "error_code": "rate_limit_exceeded", "headers": {"retry-after": "30"}},
        {"http_status": 429, "error_code": "rate_limit_exceeded"},
    ),
    "data": ({"http_status": 422, "error_code": "validation_error", "error_message": "amount is missing"},),
    "unknown": ({"error_message": "the flux is out of order"},),
}
HOW_OFTEN = {"network": 6, "auth": 3, "rate_limit": 3, "data": 1, "unknown": 1}


def services() -> list[Service]:
    """Return the third parties: with and without tokens, honouring keys or not, patient or not."""
    health = Health(path="/health", every_s=1200.0)
    return [
        Service(
            name="crm",
            base_url="https://crm.example",
            oauth=_oauth("crm", per_user=True),
            health=health,
            honours_idempotency_key=True,
        ),
        Service(name="shop", base_url="https://shop.example", oauth=_oauth("shop", per_user=False)),
        Service(
            name="mail",
            base_url="https://mail.example",
            bearer=Secret("a-bearer-for-the-mail"),
            health=health,
            enable_again="by_probe",
            cache=Cache(path="/cache"),
        ),
        Service(
            name="books",
            base_url="https://books.example",
            bearer=SecretRef("books-key"),
            gate=GateLimits(failures=3, successes=2, open_s=20.0),
            honours_idempotency_key=True,
            calls_max=2,
            cache=Cache(path="/cache"),
        ),
    ]


FOR_PEOPLE = ("gateway", "hang-up")
"""Known issues whose remedy waits for a person once nothing else goes on."""


def known_issues() -> list[KnownIssue]:
    """Return what is known when the story begins, each with the same remedy: with leave, with a question, or none."""
    levels = (
        ("flux", "the flux is out of order", Level.L1, True),
        ("later", "try later", Level.L1, True),
        ("gateway", "gateway timeout", Level.L1, False),
        ("amount", "amount is missing", Level.L0, True),
        ("hang-up", "socket hang up", Level.L3, True),
    )
    return [
        KnownIssue(
            id=name,
            title=name,
            expression=words,
            remedies=(
                Binding(remedy="invalidate_cache", level=level, by="ann" if trusted else MACHINE, trusted=trusted),
            ),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            created_by="ann",
        )
        for name, words, level, trusted in levels
    ]


def _oauth(name: str, *, per_user: bool) -> OAuth:
    secret = SecretRef(f"{name}-client")
    return OAuth(token_url=f"https://{name}.example/token", client_id=name, client_secret=secret, per_user=per_user)
