"""What a person may do to one piece of waiting work: look at it, replay, cancel or quarantine it.

What was in mid-call when its worker died has an unknown outcome: it stays in quarantine until a person says so, and
nothing here is ever called by a schedule. Payloads are shown by their structure only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunella.core import redact
from prunella.core.errors import IllegalTransition, PrunellaError
from prunella.core.records import AuditEntry, Incident, Operation, Run
from prunella.core.states import IncidentState, OperationState
from prunella.engine import lane, learn, patrol, payloads, trail, verify
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction, again_on_conflict

_O = OperationState
ALLOWED: Mapping[str, tuple[OperationState, ...]] = {
    "replay": (_O.WAITING, _O.DEAD),
    "cancel": (_O.WAITING, _O.DEAD),
    "quarantine": (_O.WAITING,),
}
"""Act -> the states in which an operation may be meant by it."""
DONE_TO = {"replay": "replayed", "cancel": "cancelled", "quarantine": "quarantined"}
_WHY_NOT = {
    _O.RUNNING: "is being tried right now; wait for the outcome",
    _O.DONE: "is done; what went through is not sent a second time",
    _O.CANCELLED: "was cancelled; let its sender report it anew",
    _O.DEAD: "is in quarantine already",
}
_UNKNOWN = "outcome unknown"
_TO_HEAL = (IncidentState.PENDING, IncidentState.OPEN, IncidentState.VERIFYING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One operation with all that may be shown of it.

    Args:
        shape: the payload's structure, None where there is none or it can't be opened.
        trouble: why it can't be replayed or opened, None when nothing stands in the way.
        entries: what people did to it; `runs`: every attempt.
    """

    operation: Operation
    incident: Incident | None
    shape: Any
    trouble: str | None
    entries: Sequence[AuditEntry]
    runs: Sequence[Run]

    @property
    def acts(self) -> tuple[str, ...]:
        """Return what may be done to it as it stands."""
        return tuple(act for act in ALLOWED if objection(self.operation, self.incident, act, self.trouble) is None)


def outcome_unknown(operation: Operation) -> bool:
    """Tell whether nobody knows if the request arrived: its worker died in mid-call."""
    return operation.state is _O.DEAD and (operation.last_error or "").startswith(_UNKNOWN)


async def look(parts: Parts, operation_id: str) -> Look | None:
    """Return one operation as it may be shown; None when there is no such operation."""
    async with parts.store.transaction() as tx:
        operation = await tx.operations.get(operation_id)
        if operation is None:
            return None
        entries, runs = await tx.backlog.trace(operation)
        incident = await tx.incidents.get(operation.incident_id)
    shape, trouble = opened(parts, operation)
    return Look(operation=operation, incident=incident, shape=shape, trouble=trouble, entries=entries, runs=runs)


async def act(
    parts: Parts, operation_id: str, wish: str, *, by: str, reason: str = "", dry_run: bool = False
) -> Operation | None:
    """Replay, cancel or quarantine one operation, and let its incident go on; None when there is no such operation.

    Args:
        dry_run: only say whether it could be done; the operation is returned as it stands.

    Raises:
        IllegalTransition: it is not in a state for that, its incident is resolved, or it can't be replayed.
    """
    if not dry_run:
        return await _act(parts, operation_id, wish, by, redact.scrub(reason))
    standing = await look(parts, operation_id)
    if standing is None:
        return None
    must_be_possible(standing.operation, standing.incident, wish, standing.trouble)
    return standing.operation


@again_on_conflict
async def _act(parts: Parts, operation_id: str, wish: str, by: str, reason: str) -> Operation | None:
    async with parts.store.transaction() as tx:
        operation = await tx.operations.get(operation_id)
        if operation is None:
            return None
        incidents = await tx.incidents.take_all([operation.incident_id])
        operation = await tx.operations.get(operation_id)  # as it stands now that nobody else decides about it
        assert operation is not None
        incident = incidents.get(operation.incident_id)
        must_be_possible(operation, incident, wish, opened(parts, operation)[1])
        moved = await move(parts, tx, wish, [operation], by=by, reason=reason)
        if not moved:
            raise IllegalTransition(f"operation {operation_id} was begun at this very moment; wait for the outcome")
        incident_id = operation.incident_id
        await trail.note(parts, tx, f"operation.{wish}", operation_id, reason=reason, incident=incident_id, by=by)
        if incident is not None:
            await go_on(parts, tx, incident, wish)
        return await tx.operations.get(operation_id)


async def move(
    parts: Parts, tx: Transaction, wish: str, operations: Sequence[Operation], *, by: str, reason: str
) -> set[str]:
    """Write what was wished where it is still possible; return the ids of those that moved."""
    ids = [one.id for one in operations]
    if wish == "replay":
        return await tx.backlog.again(ids, ALLOWED[wish], parts.clock.now())
    state = _O.CANCELLED if wish == "cancel" else _O.DEAD
    because = f"{DONE_TO[wish]} by {by}" + (f": {reason}" if reason else "")
    moved = await tx.backlog.end(ids, ALLOWED[wish], state, because)
    await lane.call_next(parts, tx, sorted(moved))
    return moved


async def go_on(parts: Parts, tx: Transaction, incident: Incident, wish: str) -> None:
    """Let an incident, locked by this transaction, take note of what was done to its operations.

    Who holds it right now reads the operations as they stand when it settles. Otherwise a replay begins at once, as
    after a person's retry; where nothing is left and all that was sent went through, that is the proof.
    """
    now = parts.clock.now()
    if not incident.is_open or (incident.lease_until is not None and incident.lease_until > now):
        return
    tx.on_commit(lambda: parts.bulletin.announce(incident.id))
    if wish == "replay":
        await patrol.wake(parts, tx, incident, by_person=True, resting=False)
        return
    operations = await tx.operations.tally(incident.id)
    proof = verify.by_operations(operations)
    if proof.proven:
        await learn.resolve(parts, tx, incident, await tx.signals.failure(incident.signal_id), proof)
    elif incident.state in _TO_HEAL or (incident.state is IncidentState.ESCALATED and not _left(operations)):
        await tx.incidents.save(replace(incident, state=IncidentState.OPEN, next_at=now))
        await parts.runner.submit("heal", incident.id, tx=tx)


def opened(parts: Parts, operation: Operation) -> tuple[Any, str | None]:
    """Return the structure of an operation's payload, and why it could not be replayed, where it could not."""
    try:
        request = payloads.open_request(parts, operation)
    except PrunellaError:
        return None, "the payload was sealed with a key that this deployment no longer has; send the request again"
    shape = redact.shape(request.payload) if request.payload is not None else None
    if not request.endpoint:  # what can't be replayed is not kept
        return shape, operation.last_error or "the original request is not kept; send it again yourself"
    return shape, None


def must_be_possible(operation: Operation, incident: Incident | None, wish: str, trouble: str | None) -> None:
    """Raise `IllegalTransition` with what stands in the way of a wish."""
    objected = objection(operation, incident, wish, trouble)
    if objected is not None:
        raise IllegalTransition(f"operation {operation.id} {objected}")


def objection(operation: Operation, incident: Incident | None, wish: str, trouble: str | None) -> str | None:
    """Say why a wish can't be carried out, None when it can."""
    if operation.state not in ALLOWED[wish]:
        return _WHY_NOT[operation.state]
    if wish != "replay":
        return None
    if trouble is not None:
        return f"can't be replayed: {trouble}"
    if incident is None or not incident.is_open:
        return "belongs to an incident that is resolved; let its sender report it anew"
    return None


def _left(operations: Mapping[str, int]) -> bool:
    return any(count for state, count in operations.items() if state not in (_O.DONE, _O.CANCELLED))
