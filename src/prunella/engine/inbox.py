"""What people were told and may acknowledge: one entry per notice, with how far its other channels came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prunella.core.errors import IllegalTransition
from prunella.core.records import Notification, Severity
from prunella.engine import trail
from prunella.engine.notices import DASHBOARD, tier_key
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction

DOCUMENTED = ("HEALING_FAILED", "MANUAL_INTERVENTION_REQUIRED", "SYSTEM_ALERT")
"""Document D's kinds, the ones that wait for somebody."""
_CHANNELS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One notice as it stands on the dashboard.

    Args:
        delivery: channel -> state of its row (`waiting`, `sending`, `sent`, `dead`).
    """

    notification: Notification
    delivery: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a channel does.

    Args:
        failing_since: nothing arrived since then; None: the last try arrived, or none was made.
        failures: tries in a row that did not arrive.
        last_error: what went wrong last, also when it is over.
        waiting: messages that are not sent yet; `next_at`: when the next one is tried.
    """

    name: str
    kind: str
    succeeded_at: datetime | None
    failed_at: datetime | None
    failing_since: datetime | None
    failures: int
    last_error: str | None
    waiting: int
    next_at: datetime | None


async def pending(
    parts: Parts,
    *,
    kinds: Sequence[str] = (),
    everything: bool = False,
    most: int,
    severity: Severity | None = None,
    before: tuple[datetime, str] | None = None,
) -> list[Told]:
    """Return what nobody has acknowledged yet, newest first; with `everything`, the rest as well.

    Args:
        kinds: only these; empty: all.
        before: continues a listing.
    """
    equal: dict[str, Any] = {"channel": DASHBOARD}
    equal |= {"kind": list(kinds)} if kinds else {}
    equal |= {"severity": severity.value} if severity is not None else {}
    equal |= {} if everything else {"acknowledged_at": None}
    async with parts.store.transaction() as tx:
        told = await tx.outbox.list(most=most, before=before, **equal)
        keys = {key: one.key for one in told for key in _keys(one)}
        rows = await tx.outbox.list(most=most * _CHANNELS_MAX, key=list(keys)) if told else []
    delivery: dict[str, dict[str, str]] = {}
    for row in rows:  # the newest first: of a channel that was told twice, the later row counts
        delivery.setdefault(keys[row.key], {}).setdefault(row.channel, row.state)
    return [Told(notification=one, delivery=delivery[one.key]) for one in told]


async def rows_of(parts: Parts, notification_id: str) -> list[Notification]:
    """Return one notice on all its channels, tier by tier, oldest first; empty when there is none of that id."""
    async with parts.store.transaction() as tx:
        found = await tx.outbox.get(notification_id)
        return [] if found is None else await _rows_of(tx, found)


async def shown_as(parts: Parts, told: Notification) -> Notification | None:
    """Return the dashboard's entry of a notice that went to a channel; None where it is not shown there."""
    async with parts.store.transaction() as tx:
        shown = await tx.outbox.list(most=1, key=first_key(told), channel=DASHBOARD)
    return shown[0] if shown else None


async def resend(parts: Parts, notification_id: str, *, by: str) -> list[Notification] | None:
    """Send a notice once more: on one channel, or by its entry on the dashboard on all; None when there is none.

    Raises:
        IllegalTransition: nothing of it can be sent: it is on its way, or on the dashboard only.
    """
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        found = await tx.outbox.get(notification_id)
        if found is None:
            return None
        rows = [found] if found.channel != DASHBOARD else await _rows_of(tx, found)
        again = await tx.outbox.again([row.id for row in rows if row.channel != DASHBOARD], now)
        if not again:
            why = "is on its way already" if len(rows) > 1 or found.channel != DASHBOARD else "was sent to no channel"
            raise IllegalTransition(f"notification {notification_id} {why}; look at: prunella notify channels")
        channels = sorted({row.channel for row in rows if row.id in again})
        for channel in channels:
            await parts.runner.submit("deliver", channel, tx=tx)
        target, words = found.resource or notification_id, f"{found.title}: once more to {', '.join(channels)}"
        await trail.note(parts, tx, "notification.resent", target, reason=words, incident=found.incident_id, by=by)
        return [row for row in await _rows_of(tx, found) if row.id in again]


async def health(parts: Parts, kinds: Mapping[str, str]) -> list[Health]:
    """Return how each channel does.

    Args:
        kinds: channel -> its kind, for those that are configured.
    """
    async with parts.store.transaction() as tx:
        known = await tx.channels.all()
        waiting = {row["channel"]: row for row in await tx.outbox.waiting()}
    nothing: Mapping[str, Any] = {}
    found = []
    for name, kind in kinds.items():
        row, line = known.get(name, nothing), waiting.get(name, nothing)
        facts = {fact: row.get(fact) for fact in ("succeeded_at", "failed_at", "failing_since", "last_error")}
        failures, queued = row.get("failures", 0), line.get("waiting", 0)
        found.append(
            Health(name=name, kind=kind, failures=failures, waiting=queued, next_at=line.get("next_at"), **facts)
        )
    return found


async def _rows_of(tx: Transaction, found: Notification) -> list[Notification]:
    first = first_key(found)
    shown = await tx.outbox.list(most=1, key=first, channel=DASHBOARD)
    keys = _keys(shown[0]) if shown else [first, found.key]
    return (await tx.outbox.list(most=_CHANNELS_MAX * len(keys), key=keys))[::-1]


def first_key(told: Notification) -> str:
    """Return the key under which a notice was told first: what a later tier hears bears its number."""
    return told.key.removesuffix(f"#{told.tier}") if told.channel != DASHBOARD and told.tier else told.key


def _keys(told: Notification) -> list[str]:
    """Return all keys under which a notice was told so far."""
    return [tier_key(told.key, tier) for tier in range(told.tier + 1)]


async def acknowledge(parts: Parts, notification_id: str, *, by: str) -> Notification | None:
    """Note that a person has seen a notice; None when there is none of that id.

    Raises:
        IllegalTransition: somebody already had.
    """
    async with parts.store.transaction() as tx:
        found = await tx.outbox.get(notification_id)
        if found is None or found.channel != DASHBOARD:
            return None
        if not await tx.outbox.acknowledge(notification_id, by, parts.clock.now()):
            first = await tx.outbox.get(notification_id) or found  # who was quicker, perhaps in this very moment
            raise IllegalTransition(f"notification {notification_id} was acknowledged by {first.acknowledged_by}")
        target = found.resource or notification_id
        await trail.note(parts, tx, "notification.ack", target, reason=found.title, incident=found.incident_id, by=by)
        return await tx.outbox.get(notification_id)
