"""heal(incident): the story of one recovery, on one screen. It holds every branch; what it calls holds none.

A step (refresh, replay one wave, probe) is written in the transaction that begins the next one, where that is due at
once. Nothing sleeps here: a wait is a due time in the tables, so a killed process goes on where it stood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from prunella.core.records import Category, Gate, Incident, Level, Operation, Run
from prunella.core.services import Service
from prunella.core.states import DIED, GateState, OperationState, RunState
from prunella.diagnosis.classify import classify
from prunella.engine import lane, learn, payloads, rate, trail
from prunella.engine.follow import Result
from prunella.engine.gatekeeper import Answer, admit, wave
from prunella.engine.gates import begin_probe
from prunella.engine.learning import autofix, judging
from prunella.engine.parts import LEASE_S, Parts
from prunella.engine.pauses import Rest
from prunella.engine.perform import perform
from prunella.engine.plan import TRIES, WAVE_MAX, Case, Plan, choose, first_wait_s
from prunella.remedies.contract import Outcome, Target
from prunella.store.contract import Transaction, insist

_PASS_S = 5.0  # then others of the queue have their turn, and a stop is heard
_SPREAD_S = 60.0
_STAND_BACK_S = 60.0
_LOOKS = 8
_CROWD = timedelta(seconds=5)
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 section 9.2.2


Work = tuple[Case, Plan, list[Run]]
"""What has begun: why, what, and the attempts that stand in the tables."""


async def heal(parts: Parts, incident_id: str) -> None:
    """Take one incident further: a step, and the next one for as long as it is due at once and its lane lets it."""
    until = parts.clock.monotonic() + _PASS_S
    rest = await _rest(parts)
    async with parts.store.transaction() as tx:
        case = await take(parts, tx, incident_id)
        work = await decide(parts, tx, replace(case, rest=rest)) if case is not None else None
    while work is not None:
        results = await carry_out(parts, *work)
        goes_on = parts.clock.monotonic() < until
        rest = await _rest(parts)
        begun = partial(settle, parts, work, results, rest, goes_on=goes_on)
        work = await insist(parts.clock, begun)


async def _rest(parts: Parts) -> Rest | None:
    """Return what holds everything back; at its end not everything that waited begins at the same moment."""
    rest = await parts.pauses.now()
    if rest is None or rest.until is None:
        return rest
    return replace(rest, until=rest.until + timedelta(seconds=parts.rng.random() * _SPREAD_S))


async def decide(parts: Parts, tx: Transaction, case: Case, *, again: bool = False) -> Work | None:
    """Begin the next step of an incident, or note why none begins; `again`: it follows one of its kind at once."""
    case, plan = await _chosen(tx, await judging.seen_again(parts, tx, case))
    verdict = admit(case, plan)
    if verdict.answer is not Answer.RUN:
        await learn.hold(parts, tx, case, plan, verdict)
        return None
    plan = wave(case, plan)
    return case, plan, await begin(parts, tx, case, plan, again=again and plan.remedy == "replay")


async def _chosen(tx: Transaction, case: Case) -> tuple[Case, Plan]:
    """Choose the next step: a remedy of a known problem first; one that asks a person, once nothing else goes on."""
    weighed, fix = autofix.weigh(case)
    ordinary = choose(weighed)
    if fix is None or fix.level < Level.L2:
        return weighed, fix or ordinary
    if ordinary.remedy is not None:
        return case, ordinary
    waits = not ordinary.person and await tx.operations.next_due(case.incident.id) is not None
    return (case, ordinary) if waits else (weighed, fix)


async def take(parts: Parts, tx: Transaction, incident_id: str) -> Case | None:
    """Claim the incident and read all that is known; None when it is closed, not due, or somebody else's."""
    now = parts.clock.now()
    incident = await tx.incidents.claim(incident_id, parts.worker, now, now + timedelta(seconds=LEASE_S))
    if incident is None:
        await _come_back(parts, tx, incident_id, now)
        return None
    await _recover_interrupted(parts, tx, incident)
    return await _known(parts, tx, incident)


async def _known(parts: Parts, tx: Transaction, incident: Incident) -> Case:
    """Read all that is known, and plan what has no plan yet."""
    case = await read_case(parts, tx, incident, stands_back=True)
    if not await tx.operations.any_new(incident.id):
        return case
    due = case.now + timedelta(seconds=first_wait_s(case, parts.rng))
    await tx.operations.schedule_new(incident.id, due)
    if due > case.now:
        return case
    return replace(case, due=_of_one_account(await _in_turn(tx, incident, case.now)))


async def _in_turn(tx: Transaction, incident: Incident, now: datetime) -> list[Operation]:
    """Return what may begin; what is another's turn stands back, so that it is not in the way of the rest."""
    for _ in range(_LOOKS):
        turn = await tx.operations.turn(incident.id, now, WAVE_MAX)
        if not turn.behind:
            break
        await tx.operations.stand_back(turn.behind, now + timedelta(seconds=_STAND_BACK_S))
    return turn.free


def _of_one_account(due: Sequence[Operation]) -> tuple[Operation, ...]:
    """Return those of the first one's account: a wave carries one account's tokens."""
    return tuple(one for one in due if one.account == due[0].account)


async def read_case(parts: Parts, tx: Transaction, incident: Incident, *, stands_back: bool = False) -> Case:
    """Read what planning needs to know about an incident; `stands_back`: for who is about to begin something."""
    now = parts.clock.now()
    service = parts.services.get(incident.service)
    failure = await tx.signals.failure(incident.signal_id)
    gate = await tx.gates.take(incident.service, now)
    tally = await tx.operations.tally(incident.id)
    due = await (_in_turn(tx, incident, now) if stands_back else tx.operations.due(incident.id, now, WAVE_MAX))
    in_flight = await tx.runs.in_flight(incident.service, now - timedelta(seconds=LEASE_S))
    account = due[0].account if due else incident.account
    return Case(
        incident=incident,
        failure=failure,
        diagnosis=classify(
            failure,
            now=incident.last_seen,
            rules=service.rules if service else (),
            names=service.vendors if service else (),
        ),
        service=service,
        gate=rate.filled(gate, service, now),
        credential=await tx.credentials.read(incident.service, account) if service and service.oauth else None,
        due=_of_one_account(due),
        operations=tally,
        quarantined=await tx.operations.quarantined_because(incident.id) if tally.get("dead") else None,
        in_flight=in_flight,
        now=now,
        known=await autofix.standing(parts, tx, incident),
        crowd=await _crowd(tx, service, gate, in_flight, now),
    )


async def _crowd(tx: Transaction, service: Service | None, gate: Gate, in_flight: int, now: datetime) -> int:
    """Count who wants a turn, where not all can have it."""
    if service is None or (
        gate.state is GateState.CLOSED and in_flight < service.calls_max and service.rate_per_s is None
    ):
        return 1
    return max(await tx.incidents.crowd(service.name, now + _CROWD), 1)


async def begin(parts: Parts, tx: Transaction, case: Case, plan: Plan, *, again: bool = False) -> list[Run]:
    """Record every attempt before its call is made, so that a death in mid-call leaves a trace."""
    won = set(await tx.operations.begin([one.id for one in plan.targets])) if plan.targets else set()
    targets = [one for one in plan.targets if one.id in won]
    runs = [_run(parts, case, plan, one.id, one.attempts + 1, one.idempotency_key) for one in targets]
    if plan.remedy != "replay":
        key = f"{case.incident.id}:{case.incident.attempts + 1}"
        runs = [_run(parts, case, plan, None, case.incident.attempts + 1, key)]
    await tx.runs.add(runs)
    gate = begin_probe(case.gate, case.now)
    await lane.moved(parts, tx, case.gate, gate)
    if plan.remedy == "replay":
        gate = rate.begun(gate, case.service, len(runs))
    if gate is not case.gate:
        await tx.gates.save(gate)
    await learn.note_attempt(parts, tx, case, plan, again=again)
    return runs


async def carry_out(parts: Parts, case: Case, plan: Plan, runs: Sequence[Run]) -> list[Result]:
    """Act on every target at once and gather what came of it."""
    operations = {one.id: one for one in plan.targets}
    pairs = [(run, operations.get(run.operation_id or "")) for run in runs]
    outcomes = await asyncio.gather(*(_act(parts, case, plan, run, operation) for run, operation in pairs))
    return [Result(run, operation, outcome) for (run, operation), outcome in zip(pairs, outcomes, strict=True)]


async def settle(
    parts: Parts, work: Work, results: Sequence[Result], rest: Rest | None, *, goes_on: bool
) -> Work | None:
    """Write down what came of it and where the incident goes; where it goes on at once, begin that, too."""
    case, plan, _ = work
    async with parts.store.transaction() as tx:
        kept = await learn.settle(parts, tx, case, plan, results, goes_on=goes_on)
        await parts.runner.gets_on("heal", case.incident.id, tx=tx)
        if kept is None:
            return None
        joined = kept.incident.count != case.incident.count
        known = plan.remedy == "replay" and not joined
        following = await (_following(parts, tx, kept) if known else _known(parts, tx, kept.incident))
        return await decide(parts, tx, replace(following, rest=rest), again=plan.remedy == "replay")


async def _following(parts: Parts, tx: Transaction, kept: Case) -> Case:
    """Return what is known for the next wave: only what the last one can have changed is read."""
    now, incident = parts.clock.now(), kept.incident
    due = await _in_turn(tx, incident, now)
    if not due or due[0].account != kept.due[0].account:
        return await read_case(parts, tx, incident)
    in_flight = await tx.runs.in_flight(incident.service, now - timedelta(seconds=LEASE_S))
    return replace(
        kept,
        gate=rate.filled(kept.gate, kept.service, now),
        due=_of_one_account(due),
        in_flight=in_flight,
        now=now,
        known=kept.known and await autofix.standing(parts, tx, incident),
        crowd=await _crowd(tx, kept.service, kept.gate, in_flight, now),
    )


async def _act(parts: Parts, case: Case, plan: Plan, run: Run, operation: Operation | None) -> Outcome:
    """Perform one attempt."""
    assert plan.remedy is not None  # the gate keeper lets nothing else through
    acted_s = (case.now - case.incident.first_seen).total_seconds() if run.attempt == 1 else None
    parts.listeners.emit(
        "run.started", incident=case.incident.id, service=run.service, remedy=run.remedy, acted_s=acted_s
    )
    return await perform(parts, plan.remedy, lambda: _target(parts, case, plan, run, operation))


def _target(parts: Parts, case: Case, plan: Plan, run: Run, operation: Operation | None) -> Target:
    assert case.service is not None  # the gate keeper lets nothing else through
    return Target(
        service=case.service,
        account=_account(case, operation),
        incident_id=case.incident.id,
        idempotency_key=run.idempotency_key,
        request=payloads.open_request(parts, operation) if operation else None,
        stale_version=plan.stale_version,
        attempt=run.attempt,
        facts=_facts(case) if plan.fix is not None else {},
        parameters=plan.parameters,
    )


def _facts(case: Case) -> dict[str, Any]:
    """Return what a bound remedy is told of what failed."""
    incident, failure = case.incident, case.failure
    return {
        "key": incident.id,
        "incident": incident.id,
        "issue": incident.issue_id,
        "service": incident.service,
        "account": incident.account,
        "category": incident.category.value,
        "kind": incident.kind,
        "code": failure.code,
        "status": failure.status,
        "message": failure.message,
        "operation": failure.operation,
        "count": incident.count,
    }


def _account(case: Case, operation: Operation | None) -> str:
    """Return whose tokens it is about: an incident of a whole service holds requests of many accounts."""
    if operation is not None:
        return operation.account
    return case.credential.account if case.credential is not None else case.incident.account


async def _come_back(parts: Parts, tx: Transaction, incident_id: str, now: datetime) -> None:
    """Look again when the lease of whoever has the incident ends: it may be dead, or have failed to settle."""
    incident = await tx.incidents.get(incident_id)
    if incident is None or incident.lease_until is None:
        return
    if incident.lease_until > now:
        await parts.runner.submit("heal", incident_id, at=incident.lease_until, tx=tx)
    else:
        await _bury(parts, tx, await tx.incidents.take(incident_id))


async def _bury(parts: Parts, tx: Transaction, incident: Incident) -> None:
    """End the lease of a dead worker on an incident that a person took over: no claim will ever do it."""
    await _recover_interrupted(parts, tx, incident)
    await tx.incidents.save(replace(incident, claimed_by=None, lease_until=None))


async def _recover_interrupted(parts: Parts, tx: Transaction, incident: Incident) -> None:
    """Face what a dead worker left in mid-call: nobody knows its outcome, so only a repeatable call is repeated."""
    now = parts.clock.now()
    for run in await tx.runs.running_of(incident.id):
        ended = replace(run, state=RunState.UNKNOWN, ended_at=now, detail=DIED)
        await tx.runs.settle(ended, RunState.RUNNING)
        await trail.note(parts, tx, "run.unknown", run.service, reason=ended.detail, incident=incident.id)
    service = parts.services.get(incident.service)
    for operation in await tx.operations.running(incident.id):
        await tx.operations.save(_after_death(service, operation, now), OperationState.RUNNING)


def _after_death(service: Service | None, operation: Operation, now: datetime) -> Operation:
    """Repeat at once what may be repeated, but not for ever: it may be what kills the workers."""
    if operation.method not in _REPEATABLE and not (service is not None and service.honours_idempotency_key):
        reason = (
            f"outcome unknown: {DIED} and the service is not declared to honour "
            "idempotency keys; look whether the request arrived, then replay or cancel it"
        )
        # not refused any more, whatever it was before: no remedy makes a repetition safe
        return replace(operation, state=OperationState.DEAD, due_at=None, last_error=reason, last_kind=None)
    due = now if operation.attempts < TRIES[Category.NETWORK] else None
    return replace(operation, state=OperationState.WAITING, due_at=due, last_error=DIED)


def _run(parts: Parts, case: Case, plan: Plan, operation_id: str | None, attempt: int, idempotency_key: str) -> Run:
    assert plan.remedy is not None
    return Run(
        id=parts.ids.new(),
        incident_id=case.incident.id,
        operation_id=operation_id,
        service=case.incident.service,
        procedure=plan.procedure,
        remedy=plan.remedy,
        state=RunState.RUNNING,
        attempt=attempt,
        idempotency_key=idempotency_key,
        worker=parts.worker,
        started_at=case.now,
        issue=case.incident.issue_id or "" if plan.fix is not None else "",
    )
