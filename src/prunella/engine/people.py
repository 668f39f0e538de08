"""What a person may do to an incident or a service. A person outranks the machine; every act leaves its audit entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunella.core.errors import IllegalTransition, InvalidInput, Outdated
from prunella.core.records import Credential, Gate, Incident, Level
from prunella.core.states import INCIDENT, GateState, IncidentState, OperationState
from prunella.engine import gates, learn, patrol, trail, verify
from prunella.engine.learning import judging
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction, again_on_conflict

INCIDENT_ACTS = ("ack", "retry", "suppress", "escalate", "resolve")
SERVICE_ACTS = ("disable", "enable", "pause", "resume", "probe")
_FORGOTTEN = frozenset({"gave_up", "flapping", "clean_since", "healed", "runbook"})
"""What of an incident's memory would keep it a person's."""


@again_on_conflict
async def act_on_incident(
    parts: Parts, incident_id: str, act: str, *, by: str, reason: str = "", seen: int | None = None
) -> Incident | None:
    """Carry out one of `INCIDENT_ACTS`; None when there is no such incident, `IllegalTransition` in a wrong state.

    Args:
        seen: the version that the person decided on; None: whatever stands. `Outdated` where it is another.
    """
    async with parts.store.transaction() as tx:
        if await tx.incidents.get(incident_id) is None:
            return None
        incident = await tx.incidents.take(incident_id)
        _must_stand(f"incident {incident_id}", incident.version, seen)
        if not incident.is_open:
            raise IllegalTransition(f"incident {incident_id} is resolved; {act} needs an open one")
        await trail.note(parts, tx, f"incident.{act}", incident.service, reason=reason, incident=incident_id, by=by)
        await _INCIDENT[act](parts, tx, incident, by)
        tx.on_commit(lambda: parts.bulletin.announce(incident_id))
        return await tx.incidents.get(incident_id)


@again_on_conflict
async def act_on_service(
    parts: Parts, name: str, act: str, *, by: str, reason: str = "", seen: int | None = None
) -> Gate | None:
    """Carry out one of `SERVICE_ACTS`; None when the service is not configured; `seen` as above."""
    if name not in parts.services:
        return None
    if seen is not None:
        async with parts.store.transaction() as tx:
            _must_stand(f"service {name}", (await tx.gates.take(name, parts.clock.now())).version, seen)
    if act == "probe":
        if parts.services[name].health is None:
            raise InvalidInput(
                f"service {name} has no health address to probe; set services.{name}.health in prunella.yaml"
            )
        told = await patrol.probe(parts, name, by_person=True)
        reason = _answer(told) + (f" ({reason})" if reason else "")
    async with parts.store.transaction() as tx:
        now = parts.clock.now()
        gate = await tx.gates.take(name, now)
        if act != "probe":  # a probe has changed it itself
            _must_stand(f"service {name}", gate.version, seen)
        if act in ("enable", "resume"):
            _must_be(gate, GateState.DISABLED if act == "enable" else GateState.PAUSED, act)
            await patrol.enable(parts, tx, name, by=by, person=True)
        elif act in ("disable", "pause"):
            state = GateState.DISABLED if act == "disable" else GateState.PAUSED
            _must_not_be(gate, state)
            await tx.gates.save(gates.move(gate, state, now, reason=reason or f"by {by}", by=by))
            await trail.note(parts, tx, f"gate.{act}", name, reason=reason, by=by)
        elif act == "probe":
            await trail.note(parts, tx, "gate.probe", name, reason=reason, by=by)
        return await tx.gates.read(name)


def _answer(told: Mapping[str, Any]) -> str:
    """Say how a service answered a probe."""
    if "well" not in told:
        return f"it was not asked: it is {told['gate']}"
    return "it is well" if told["well"] else f"it is not well: {told['detail']}"


@again_on_conflict
async def put_credential(parts: Parts, credential: Credential, *, by: str) -> None:
    """Store tokens that a person handed over, and try anew what waited for them."""
    async with parts.store.transaction() as tx:
        known = await tx.credentials.read(credential.service, credential.account)
        version = known.version + 1 if known is not None else 1
        await tx.credentials.put(replace(credential, version=version))
        await trail.note(
            parts, tx, "credentials.put", credential.service, reason=f"account {credential.account or 'default'}", by=by
        )
        await patrol.wake_service(parts, tx, credential.service, by_person=True)


async def put_secret(parts: Parts, sealed: bytes, name: str, *, by: str) -> None:
    """Store a named secret that a person handed over."""
    async with parts.store.transaction() as tx:
        await tx.credentials.put_secret(name, sealed, parts.clock.now())
        await trail.note(parts, tx, "secret.put", name, reason="", by=by)


async def drop_secret(parts: Parts, name: str, *, by: str) -> bool:
    """Forget a named secret; False when there was none."""
    async with parts.store.transaction() as tx:
        dropped = await tx.credentials.drop_secret(name)
        if dropped:
            await trail.note(parts, tx, "secret.dropped", name, reason="", by=by)
        return dropped


async def _ack(parts: Parts, tx: Transaction, incident: Incident, by: str) -> None:
    await tx.incidents.save(replace(incident, acknowledged_by=by))


async def _retry(parts: Parts, tx: Transaction, incident: Incident, by: str) -> None:
    if incident.state is IncidentState.HEALING:
        raise IllegalTransition(f"incident {incident.id} is being healed right now; wait for the outcome")
    if incident.procedure:
        await _begin_anew(parts, tx, incident)
    else:
        await parts.runner.cancel("heal", incident.id)  # one that was put off begins for nobody but a person
        await patrol.wake(parts, tx, incident, by_person=True)


async def _begin_anew(parts: Parts, tx: Transaction, incident: Incident) -> None:
    """Forget what was tried in vain, and let the procedure that found it look again."""
    name = incident.procedure
    if name not in parts.procedures:
        raise IllegalTransition(f"incident {incident.id} is of procedure {name}, which is no longer in prunella.yaml")
    memory = {key: value for key, value in incident.memory.items() if key not in _FORGOTTEN}
    fresh = replace(
        incident, state=IncidentState.OPEN, attempts=0, regressions=0, next_at=None, held_reason=None, memory=memory
    )
    await tx.incidents.save(replace(fresh, level=parts.procedures[name].policy.level))
    await parts.runner.cancel("procedure", name)
    await parts.runner.submit("procedure", name, tx=tx)


async def _suppress(parts: Parts, tx: Transaction, incident: Incident, by: str) -> None:
    await _move(parts, tx, incident, IncidentState.SUPPRESSED, f"suppressed by {by}")


async def _escalate(parts: Parts, tx: Transaction, incident: Incident, by: str) -> None:
    handed_over = replace(incident, level=Level.L3)  # it stays a person's, whatever joins it
    await _move(parts, tx, handed_over, IncidentState.ESCALATED, f"escalated by {by}")


async def _resolve(parts: Parts, tx: Transaction, incident: Incident, by: str) -> None:
    """Close what a person says is over; never what something still waits of, or what a check can look at itself."""
    if incident.procedure:
        raise IllegalTransition(
            f"incident {incident.id} is resolved when procedure {incident.procedure} finds it well; "
            "retry has it look again, suppress leaves it alone"
        )
    if incident.lease_until is not None:
        raise IllegalTransition(f"incident {incident.id} is being healed right now; wait for the outcome")
    left = await tx.operations.tally(incident.id)
    held = sum(count for state, count in left.items() if state != OperationState.CANCELLED)
    if held:
        raise IllegalTransition(
            f"incident {incident.id} has {held} request{'' if held == 1 else 's'} in a lane or in quarantine; "
            f"replay or cancel first what is listed by: prunella operations --incident {incident.id}"
        )
    failure, nobodys = await tx.signals.failure(incident.signal_id), judging.with_fix(incident, now=None)
    await learn.resolve(parts, tx, nobodys, failure, verify.by_person(by))


async def _move(parts: Parts, tx: Transaction, incident: Incident, state: IncidentState, reason: str) -> None:
    INCIDENT.check(incident.state, state)
    await tx.incidents.save(replace(incident, state=state, next_at=None, held_reason=reason))
    if incident.lease_until is not None:  # its worker may die before it has written what came of its calls
        await parts.runner.submit("heal", incident.id, at=incident.lease_until, tx=tx)


_INCIDENT = {"ack": _ack, "retry": _retry, "suppress": _suppress, "escalate": _escalate, "resolve": _resolve}


def _must_not_be(gate: Gate, state: GateState) -> None:
    if gate.state is state:
        because = f": {gate.reason}" if gate.reason else ""
        raise IllegalTransition(f"service {gate.service} is {state.value} already, by {gate.changed_by}{because}")


def _must_stand(what: str, version: int, seen: int | None) -> None:
    if seen is not None and version != seen:
        raise Outdated(f"{what} is at version {version}, not {seen}; read it again and decide anew")


def _must_be(gate: Gate, state: GateState, act: str) -> None:
    if gate.state is not state:
        raise IllegalTransition(f"service {gate.service} is {gate.state.value}; {act} needs {state.value}")
