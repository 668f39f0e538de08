"""Records as tests of the store need them: every field has a value, each test changes what it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prunella.core.records import (
    AuditEntry,
    Category,
    Credential,
    Failure,
    Incident,
    Notification,
    Operation,
    Run,
    Severity,
    Signal,
)
from prunella.core.states import IncidentState, RunState
from prunella.store.contract import Store

NOW = datetime(2026, 3, 1, 12, 30, 5, 123_456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=20)

T = TypeVar("T")
Outside = Callable[[str], list[tuple[Any, ...]]]
"""Run SQL on a connection of its own and return the rows: what somebody else would see at this moment."""


def at(seconds: float) -> datetime:
    """Return the moment `seconds` after NOW."""
    return NOW + timedelta(seconds=seconds)


def signal(number: object = 1, **changed: Any) -> Signal:
    fields: dict[str, Any] = {
        "id": f"signal-{number}",
        "source": "shop",
        "event_id": f"event-{number}",
        "service": "hubspot",
        "occurred_at": NOW,
        "received_at": NOW,
        "failure": Failure(service="hubspot", status=503, message="Service Unavailable"),
    }
    return Signal(**{**fields, **changed})


def incident(number: object = 1, **changed: Any) -> Incident:
    fields: dict[str, Any] = {
        "id": f"incident-{number}",
        "service": "hubspot",
        "account": "",
        "fingerprint": f"print-{number}",
        "signal_id": f"signal-{number}",
        "title": "hubspot: network.server (HTTP 503)",
        "category": Category.NETWORK,
        "kind": "network.server",
        "confidence": 0.95,
        "because": "status 503",
        "advice": "wait",
        "severity": Severity.MEDIUM,
        "first_seen": NOW,
        "last_seen": NOW,
    }
    return Incident(**{**fields, **changed})


def operation(number: object = 1, **changed: Any) -> Operation:
    fields: dict[str, Any] = {
        "id": f"operation-{number}",
        "incident_id": "incident-1",
        "signal_id": f"signal-{number}",
        "service": "hubspot",
        "account": "",
        "method": "POST",
        "endpoint": "/contacts",
        "payload_sealed": b"sealed",
        "idempotency_key": f"key-{number}",
        "created_at": NOW,
    }
    return Operation(**{**fields, **changed})


def run(number: object = 1, **changed: Any) -> Run:
    fields: dict[str, Any] = {
        "id": f"run-{number}",
        "incident_id": "incident-1",
        "operation_id": f"operation-{number}",
        "service": "hubspot",
        "procedure": "heal",
        "remedy": "replay",
        "state": RunState.RUNNING,
        "attempt": 1,
        "idempotency_key": f"key-{number}",
        "worker": "worker-1",
        "started_at": NOW,
    }
    return Run(**{**fields, **changed})


def credential(account: str = "", **changed: Any) -> Credential:
    fields: dict[str, Any] = {"service": "hubspot", "account": account, "access_sealed": b"a1", "refresh_sealed": b"r1"}
    return Credential(**{**fields, **changed})


def notification(number: object = 1, **changed: Any) -> Notification:
    fields: dict[str, Any] = {
        "id": f"notification-{number}",
        "key": f"incident-{number}/detected",
        "channel": "ops",
        "kind": "detected",
        "severity": Severity.HIGH,
        "title": "Integration Failure Detected",
        "facts": (("Service", "hubspot"), ("Error", "status 503")),
        "incident_id": f"incident-{number}",
        "link": None,
        "next_at": NOW,
        "created_at": NOW,
    }
    return Notification(**{**fields, **changed})


def entry(number: object = 1, **changed: Any) -> AuditEntry:
    fields: dict[str, Any] = {
        "id": f"entry-{number}",
        "at": NOW,
        "actor": "prunella",
        "action": "incident.opened",
        "target": "incident-1",
    }
    return AuditEntry(**{**fields, **changed})


async def opened(store: Store, number: object = 1, **changed: Any) -> Incident:
    """Open an incident and return it as it stands."""
    async with store.transaction() as tx:
        return await tx.incidents.open_or_join(incident(number, **changed))


async def resolved(store: Store, number: object, when: datetime, **changed: Any) -> Incident:
    """Open an incident, resolve it at `when`, and return it as it was before."""
    fresh = await opened(store, number, **changed)
    async with store.transaction() as tx:
        await tx.incidents.save(replace(fresh, state=IncidentState.RESOLVED, resolved_at=when))
    return fresh


async def at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Let all of them run at the same time and return what each brought."""
    return await asyncio.gather(*calls)
