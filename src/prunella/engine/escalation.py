"""Tell the next ones when nobody answers: tier after tier, each once, over all workers and restarts.

It ends when a person has acknowledged, when what it is about is over, or when there is nobody left to tell.
"""

from __future__ import annotations

from datetime import timedelta

from prunella.core.records import Notification
from prunella.core.states import ApprovalState, GateState
from prunella.engine import trail
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction, again_on_conflict

HANDLER = "escalate"
_APPROVAL = "APPROVAL_REQUIRED"


@again_on_conflict
async def climb(parts: Parts, notification_id: str) -> None:
    """Tell the next tier what nobody has answered, or note why there is no need."""
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        told = await tx.outbox.get(notification_id)
        if told is None or told.escalates_at is None:
            return
        if told.escalates_at > now:
            await parts.runner.submit(HANDLER, told.id, at=told.escalates_at, tx=tx)
            return
        over = await _over(tx, told)
        rows = [] if over else parts.routes.escalated(told, parts.ids, now)
        if not rows:
            await tx.outbox.stay(told.id)
            return
        tiers = parts.routes.tiers(told.severity)
        after = tiers[told.tier + 1].after_s if told.tier + 1 < len(tiers) else None
        next_at = None if after is None else min(row.next_at or now for row in rows) + timedelta(seconds=after)
        if not await tx.outbox.climb(told.id, told.tier, next_at):
            return  # another worker was quicker, or a person
        await trail.queue(parts, tx, rows)
        channels = ", ".join(row.channel for row in rows)
        reason = f"{told.title}: {rows[0].facts[-1][1]}; told {channels}"
        target = told.resource or told.id
        await trail.note(parts, tx, "notification.escalated", target, reason=reason, incident=told.incident_id)
        if next_at is not None:
            await parts.runner.submit(HANDLER, told.id, at=next_at, tx=tx)


async def _over(tx: Transaction, told: Notification) -> str | None:
    """Return why nobody needs to be told any more, None where somebody does."""
    if told.acknowledged_at is not None:
        return "acknowledged"
    if told.incident_id is not None:
        incident = await tx.incidents.get(told.incident_id)
        if incident is not None and not incident.is_open:
            return "the incident is over"
        if incident is not None and incident.acknowledged_by:
            return "the incident was acknowledged"
    if told.kind == _APPROVAL:
        approval = await tx.approvals.get(told.key.removeprefix(f"{_APPROVAL}:"))
        return None if approval is not None and approval.state is ApprovalState.WAITING else "the plan was answered"
    return await _service_is_back(tx, told)


async def _service_is_back(tx: Transaction, told: Notification) -> str | None:
    """Look at the gate of a service that was disabled, or down."""
    service = dict(told.facts).get("Service")
    gate = await tx.gates.read(service) if service is not None and told.incident_id is None else None
    if gate is None:
        return None
    if told.kind == "disabled" and gate.state is not GateState.DISABLED:
        return "the service is used again"
    if told.kind == "SERVICE_STILL_DOWN" and gate.down_since is None:
        return "the service answers again"
    return None
