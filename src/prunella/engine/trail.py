"""Leave a trace: audit entries, messages and links, always in the transaction of the change they speak of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from prunella.core.records import AuditEntry, Notice, Notification
from prunella.engine import notices
from prunella.engine.notices import Routes
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction


async def note(
    parts: Parts, tx: Transaction, action: str, target: str, *, reason: str, incident: str | None = None, by: str = ""
) -> None:
    """Append to the audit: `by` did `action` to `target` because of `reason`."""
    await tx.audit.add([entry(parts, action, target, reason=reason, incident=incident, by=by)])


def entry(
    parts: Parts, action: str, target: str, *, reason: str, incident: str | None = None, by: str = ""
) -> AuditEntry:
    """Return an entry of the audit, for those who write several at once."""
    return AuditEntry(
        id=parts.ids.new(),
        at=parts.clock.now(),
        actor=by or "prunella",
        action=action,
        target=target,
        incident_id=incident,
        reason=reason,
    )


async def recovered(parts: Parts, tx: Transaction, service: str, down_since: datetime) -> str:
    """Record how long a service was down, whoever noticed that it is back; return it in words."""
    downtime = notices.spell_duration((parts.clock.now() - down_since).total_seconds())
    await note(parts, tx, "gate.recovered", service, reason=f"down for {downtime}")
    return downtime


async def tell(parts: Parts, tx: Transaction, told: Sequence[Notice]) -> None:
    """Put messages into the outbox and wake its delivery once they are durable."""
    await queue(parts, tx, notices.rows(told, parts.routes, parts.ids, parts.clock.now()))


async def queue(parts: Parts, tx: Transaction, queued: list[Notification]) -> None:
    """Put rows into the outbox, and wake what delivers them, and what tells others when nobody answers."""
    if not queued:
        return
    now = parts.clock.now()
    silent_until = parts.pauses.messages(now)
    if silent_until is not None:  # a maintenance window: they go out together at its end
        queued = [_held(row, silent_until, parts.routes) for row in queued]
    await tx.outbox.add(queued)
    for row in queued:
        if row.state == "waiting":
            await parts.runner.submit("deliver", row.channel, at=row.next_at, tx=tx)
        if row.escalates_at is not None:
            await parts.runner.submit("escalate", row.id, at=row.escalates_at, tx=tx)


def _held(row: Notification, rest_ends: datetime, routes: Routes) -> Notification:
    """Let a message wait for the end of a rest, and those who are told after it for the time that it leaves."""
    until = routes.after(row.severity, rest_ends)
    next_at = row.next_at and max(row.next_at, until)
    if row.escalates_at is None:
        return replace(row, next_at=next_at)
    climbs_at = until + timedelta(seconds=routes.tiers(row.severity)[0].after_s)
    return replace(row, next_at=next_at, escalates_at=max(row.escalates_at, climbs_at))


def link(parts: Parts, incident_id: str) -> str:
    """Return where a person can look at an incident."""
    return f"{parts.public_url}/incidents/{incident_id}"
