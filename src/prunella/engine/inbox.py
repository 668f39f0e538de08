"""What people were told and may acknowledge: one entry per notice, with how far its other channels came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunella.core.errors import IllegalTransition
from prunella.core.records import Notification
from prunella.engine import trail
from prunella.engine.notices import DASHBOARD
from prunella.engine.parts import Parts

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


async def pending(parts: Parts, *, kinds: Sequence[str] = (), everything: bool = False, most: int) -> list[Told]:
    """Return what nobody has acknowledged yet, newest first; with `everything`, the rest as well.

    Args:
        kinds: only these; empty: all.
    """
    equal: dict[str, Any] = {"channel": DASHBOARD}
    equal |= {"kind": list(kinds)} if kinds else {}
    equal |= {} if everything else {"acknowledged_at": None}
    async with parts.store.transaction() as tx:
        told = await tx.outbox.list(most=most, **equal)
        rows = await tx.outbox.list(most=most * _CHANNELS_MAX, key=[one.key for one in told]) if told else []
    delivery: dict[str, dict[str, str]] = {}
    for row in rows:
        delivery.setdefault(row.key, {})[row.channel] = row.state
    return [Told(notification=one, delivery=delivery[one.key]) for one in told]


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
            raise IllegalTransition(f"notification {notification_id} was acknowledged by {found.acknowledged_by}")
        target = found.resource or notification_id
        await trail.note(parts, tx, "notification.ack", target, reason=found.title, incident=found.incident_id, by=by)
        return await tx.outbox.get(notification_id)
