"""What becomes of a service's lane when its gate moves: told once, and what waited resumes.

Always in the transaction that saves the gate: its row lock and version let one worker be the one who says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from prunella.core.records import Gate
from prunella.core.states import GateState
from prunella.engine import notices, trail
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction

_SAYS = {GateState.OPEN: "gate.opened", GateState.HALF_OPEN: "gate.half_open", GateState.CLOSED: "gate.closed"}


async def moved(parts: Parts, tx: Transaction, before: Gate, gate: Gate) -> None:
    """Note that a gate moved by itself; where the service is back, record the downtime, say so and resume its lane."""
    if gate.state is not before.state and gate.state in _SAYS:
        reason = gate.reason or f"was {before.state.value}: {before.reason or 'no reason given'}"
        await trail.note(parts, tx, _SAYS[gate.state], gate.service, reason=reason)
        tx.on_commit(
            lambda: parts.listeners.emit("gate.changed", service=gate.service, state=gate.state.value, reason=reason)
        )
    if before.down_since is not None and gate.down_since is None:
        downtime = await trail.recovered(parts, tx, gate.service, before.down_since)
        link = f"{parts.public_url}/services/{gate.service}"
        await trail.tell(parts, tx, [notices.back(gate.service, downtime, before.down_since, link)])
        await resume(parts, tx, gate.service)


async def resume(parts: Parts, tx: Transaction, service: str) -> None:
    """Let all that waits go on now, in small waves at first.

    An incident that is somebody's, the one that found the service well among them, goes on once that one settles or
    has decided: both read its operations after the gate that is held here.
    """
    now = parts.clock.now()
    await tx.operations.wake_all(service, now)
    woken = await tx.incidents.wake_all(service, now)
    await parts.runner.submit_many([(("heal", incident_id), None) for incident_id in woken], tx)


async def call_next(parts: Parts, tx: Transaction, ended_ids: Sequence[str], *, by: str = "") -> None:
    """Let those go on that stood back behind operations that have ended.

    Args:
        by: the incident that goes on anyway.
    """
    for incident_id in sorted(await tx.operations.call_next(ended_ids, parts.clock.now()) - {by}):
        await parts.runner.submit("heal", incident_id, tx=tx)
