"""Settle: write what was decided and what came of it, in one transaction with its audit and its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from prunella.core.records import Category, Credential, Diagnosis, Failure, Gate, Incident, Level, Run
from prunella.core.services import Service
from prunella.core.states import INCIDENT, GateState, IncidentState, OperationState, RunState
from prunella.engine import follow, gates, lane, notices, rate, trail
from prunella.engine.follow import Result, Step
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.learning import autofix, consent, judging
from prunella.engine.parts import ADVISE, LEASE_S, Parts
from prunella.engine.plan import WAIT_MAX_S, WAVE_MAX, Case, Plan
from prunella.engine.verify import Verification
from prunella.remedies.contract import Outcome
from prunella.store.contract import Transaction

_I = IncidentState
_NEWS = timedelta(seconds=1)  # a shorter wait is the lane's rhythm


async def hold(parts: Parts, tx: Transaction, case: Case, plan: Plan, verdict: Verdict) -> None:
    """Record that nothing runs now, why, and when to look again."""
    incident = case.incident
    waits = plan.remedy is None and bool(case.operations.get("waiting"))
    behind = await tx.operations.behind(incident.id) if waits else None
    step = follow.held(case, plan, verdict, await tx.operations.next_due(incident.id), behind)
    if plan.fix is not None and verdict.answer is Answer.PROPOSE:
        step = replace(step, held_reason=await consent.ask(parts, tx, case, plan))
    news = (incident.held_reason, incident.action_taken) != (step.held_reason, step.action)
    if news and (verdict.until is None or verdict.until - case.now >= _NEWS):
        name = f"incident.{verdict.answer.value}"
        await trail.note(
            parts, tx, name, incident.service, reason=step.held_reason or verdict.reason, incident=incident.id
        )
    await _advance(parts, tx, case, incident, case.gate, step)


async def settle(
    parts: Parts, tx: Transaction, case: Case, plan: Plan, results: Sequence[Result], *, goes_on: bool = False
) -> Case | None:
    """Record how the attempts ended and decide where the incident goes.

    Args:
        goes_on: the caller takes the next step itself where it is due at once. Then what is known is returned, and
            the incident in it is still this worker's and has yet to be saved.
    """
    now = parts.clock.now()
    incident = await tx.incidents.take(case.incident.id)
    gate = before = await tx.gates.take(case.incident.service, now)
    case = replace(case, now=now, credential=await _tokens_now(tx, case))
    gate = await _settle_results(parts, tx, case, gate, results)
    await lane.moved(parts, tx, before, gate)
    await trail.note(
        parts, tx, f"{plan.remedy}.settled", case.incident.service, reason=_summary(results), incident=incident.id
    )
    if (incident.claimed_by, incident.lease_until) != (parts.worker, case.incident.lease_until):
        await tx.gates.save(gate)  # the lease was lost: what the calls brought about counts, the incident is another's
        return None
    incident = await _judge_fix(parts, tx, case, incident, plan, results)
    due = await tx.operations.next_due(incident.id)
    if due is None or due > now:
        case = replace(case, operations=await tx.operations.tally(incident.id))
    else:
        case = replace(case, operations={"waiting": 1})  # there is more to do: nothing can be proven yet
    joined = await tx.operations.any_new(incident.id)
    step = follow.after(case, plan, results, parts.rng, joined=joined, due=due)
    if step.proof is None and _has_another(replace(case, incident=incident), step):
        step = replace(step, state=_I.OPEN, next_at=now, held_reason=None, person=None)
    taken_over = incident.state in (_I.ESCALATED, _I.SUPPRESSED)  # by a person, while we were calling
    if taken_over and step.proof is None:
        step = replace(step, state=incident.state, next_at=None, held_reason=incident.held_reason, person=None)
    if step.state is _I.ESCALATED and not taken_over:
        why = step.held_reason or step.action
        await trail.note(parts, tx, "incident.escalated", incident.service, reason=why, incident=incident.id)
    if step.next_at is not None and step.held_reason is not None:
        await trail.note(parts, tx, "incident.wait", incident.service, reason=step.held_reason, incident=incident.id)
    incident = replace(incident, wave=follow.next_wave(incident.wave, results))
    return await _advance(parts, tx, case, incident, gate, step, goes_on=goes_on)


async def _judge_fix(
    parts: Parts, tx: Transaction, case: Case, incident: Incident, plan: Plan, results: Sequence[Result]
) -> Incident:
    """Note what a bound remedy came to, or that it did not help."""
    if plan.fix is not None:
        incident = judging.acted(incident, plan, results[0], case.now)
        if results[0].outcome.ok:
            await tx.operations.hasten(incident.id, case.now)
            await _take_back(tx, incident, case.now)
        elif not results[0].outcome.busy:
            incident = await judging.failed(parts, tx, incident, plan.fix)
    elif judging.disproven(case, incident, results, await tx.operations.next_due(incident.id)):
        incident = await judging.failed(parts, tx, incident, judging.fix_of(incident)["now"])
    return incident


async def _take_back(tx: Transaction, incident: Incident, now: datetime) -> None:
    """Let requests be tried anew that were refused as they are: after a remedy they may be accepted."""
    dead = await tx.operations.list(most=WAVE_MAX, incident_id=incident.id, state=OperationState.DEAD.value)
    refused = [one for one in dead if (one.last_kind or "").startswith("data.")]
    due = [replace(one, state=OperationState.WAITING, due_at=now) for one in refused]  # one more try, not a new round
    await tx.operations.save_all(due, OperationState.DEAD)


def _has_another(case: Case, step: Step) -> bool:
    """Tell whether a bound remedy has its turn now: at once where it needs no leave, else once nothing else goes on."""
    fix = autofix.weigh(case)[1]
    return fix is not None and (fix.level < Level.L2 or step.next_at is None)


async def note_attempt(parts: Parts, tx: Transaction, case: Case, plan: Plan, *, again: bool = False) -> None:
    """Count the pass and tell, once per incident, that a recovery begins; `again`: the next wave of the same."""
    incident = replace(case.incident, attempts=case.incident.attempts + 1, action_taken=plan.action, held_reason=None)
    if plan.fix is not None:
        incident = await autofix.begin(tx, incident, plan, case.now)
        await consent.close(parts, tx, incident, "it is carried out without this answer")
    await tx.incidents.save(incident)
    if not again:
        await trail.note(
            parts, tx, f"{plan.remedy}.begun", incident.service, reason=case.diagnosis.because, incident=incident.id
        )
    if incident.attempts == 1:
        link = trail.link(parts, incident.id)
        await trail.tell(parts, tx, [notices.attempt(incident, plan.action, incident.attempts, case.failure, link)])
    tx.on_commit(
        lambda: parts.listeners.emit(
            "plan.decided", incident=incident.id, service=incident.service, remedy=plan.remedy, action=plan.action
        )
    )


async def resolve(parts: Parts, tx: Transaction, incident: Incident, failure: Failure, proof: Verification) -> None:
    """Close an incident that is proven to be well again, and note what that says about its problem."""
    await close(parts, tx, incident, failure, proof)
    await judging.proven(parts, tx, incident, proof.how)


async def close(parts: Parts, tx: Transaction, incident: Incident, failure: Failure, proof: Verification) -> None:
    """Close an incident that is proven to be well again, and say so once; its issue is the caller's, after gates."""
    now = parts.clock.now()
    INCIDENT.check(incident.state, _I.RESOLVED)
    closed = replace(
        incident,
        state=_I.RESOLVED,
        resolved_at=now,
        next_at=None,
        held_reason=None,
        action_taken=f"{incident.action_taken}; {proof.how}",
        claimed_by=None,
        lease_until=None,
        watched_until=judging.watched_until(parts, incident),
    )
    await tx.incidents.save(closed)
    await consent.close(parts, tx, incident, "the incident is over")
    await trail.note(parts, tx, "incident.resolved", incident.service, reason=proof.how, incident=incident.id)
    link = trail.link(parts, incident.id)
    await trail.tell(parts, tx, [notices.recovered(incident, closed.action_taken, failure, now, link)])
    took_s = (now - incident.first_seen).total_seconds()
    tx.on_commit(
        lambda: parts.listeners.emit(
            "incident.resolved",
            incident=incident.id,
            service=incident.service,
            category=incident.category.value,
            how=proof.how,
            took_s=took_s,
            forced=incident.forced,
        )
    )


async def settle_gate(parts: Parts, tx: Transaction, gate: Gate, service: Service | None, network_count: int) -> Gate:
    """Save a gate whose counters moved; disable the service, and say so, where a threshold is reached."""
    over = gates.over_threshold(gate, service.disable_after, network_count) if service is not None else None
    if over is None:
        return await tx.gates.save(gate)
    reason, count = over
    gate = await tx.gates.save(gates.move(gate, GateState.DISABLED, parts.clock.now(), reason=reason))
    await trail.note(parts, tx, "gate.disabled", gate.service, reason=reason)
    await trail.tell(parts, tx, [notices.disabled(gate, count, f"{parts.public_url}/services/{gate.service}")])
    tx.on_commit(
        lambda: parts.listeners.emit("gate.changed", service=gate.service, state=gate.state.value, reason=reason)
    )
    return gate


async def _settle_results(parts: Parts, tx: Transaction, case: Case, gate: Gate, results: Sequence[Result]) -> Gate:
    """Write how the attempts of a wave ended and what they say about the service, statements for all of them."""
    ended = {result.run.id: _ended(case, result) for result in results}
    settled = await tx.runs.settle_those(list(ended.values()), RunState.RUNNING)
    # Whoever took us for dead meanwhile has decided what becomes of the others' operations.
    ours = [result for result in results if result.run.id in settled]
    said = [follow.diagnose(case, result.outcome) for result in ours]
    operations = [
        follow.of_operation(case, result.operation, result.outcome, diagnosis, parts.rng)
        for result, diagnosis in zip(ours, said, strict=True)
        if result.operation is not None
    ]
    await tx.operations.save_all(operations, OperationState.RUNNING)
    ended_ids = [one.id for one in operations if one.ordering_key and one.state is not OperationState.WAITING]
    if ended_ids:
        await lane.call_next(parts, tx, ended_ids, by=case.incident.id)
    for result in ours:
        _emit_finished(parts, tx, ended[result.run.id])
    return _learn_gate(parts, case, gate, ours, said)


def _ended(case: Case, result: Result) -> Run:
    outcome = result.outcome
    return replace(
        result.run, state=_run_state(outcome), ended_at=case.now, status=outcome.status, detail=outcome.detail
    )


def _emit_finished(parts: Parts, tx: Transaction, run: Run) -> None:
    tx.on_commit(
        lambda: parts.listeners.emit(
            "run.finished",
            incident=run.incident_id,
            service=run.service,
            remedy=run.remedy,
            state=run.state.value,
            attempt=run.attempt,
            detail=run.detail,
        )
    )


def _run_state(outcome: Outcome) -> RunState:
    if outcome.ok:
        return RunState.VERIFIED  # the reply itself was looked at and is what the service promises
    return RunState.TIMED_OUT if outcome.timed_out else RunState.FAILED


def _learn_gate(
    parts: Parts, case: Case, gate: Gate, results: Sequence[Result], said: Sequence[Diagnosis | None]
) -> Gate:
    """Let our own calls count towards the gate and its rate."""
    assert case.service is not None
    counted = [pair for pair in zip(results, said, strict=True) if _speaks(gate, pair[0])]
    for result, diagnosis in counted:
        gate = _learn_call(parts, case, gate, result.outcome, diagnosis)
    bad = sum(diagnosis is not None and diagnosis.category is Category.NETWORK for _, diagnosis in counted)
    gate = gates.stop(gate, len(counted), bad, case.service.gate, case.now, parts.rng)
    if not counted:
        return gate
    good = sum(result.outcome.ok for result, _ in counted)
    refused = sum(diagnosis is not None and diagnosis.category is Category.RATE_LIMIT for _, diagnosis in counted)
    began = min(result.run.started_at for result, _ in counted)
    return rate.learned(gate, case.service, case.now, began=began, good=good, refused=refused)


def _speaks(gate: Gate, result: Result) -> bool:
    """Tell whether an attempt says something about the service: refusals of ours, bound remedies and refreshes do not.

    A refresh that fails while the gate is half open was the probe: it does, or each incident would try its own.
    """
    if result.outcome.busy or result.outcome.needs_person:
        return False
    if result.run.remedy == "refresh_token":
        return gate.state is GateState.HALF_OPEN and not result.outcome.ok
    return not result.run.issue


def _learn_call(parts: Parts, case: Case, gate: Gate, outcome: Outcome, diagnosis: Diagnosis | None) -> Gate:
    assert case.service is not None
    if diagnosis is not None and diagnosis.category is Category.RATE_LIMIT and diagnosis.retry_after_s is not None:
        return gates.throttle(gate, case.now + timedelta(seconds=min(diagnosis.retry_after_s, WAIT_MAX_S)))
    failures = {Category.NETWORK}
    if gate.state is GateState.HALF_OPEN:
        failures.add(Category.RATE_LIMIT)  # asked for fewer calls, there are no more probes now
    if diagnosis is not None and diagnosis.category not in failures:
        return gate
    return gates.record_call(gate, outcome.ok, case.service.gate, case.now, parts.rng)


async def _tokens_now(tx: Transaction, case: Case) -> Credential | None:
    """Read the tokens anew: another incident of the account may have refreshed them while we were calling."""
    if case.credential is None:
        return None
    return await tx.credentials.read(case.credential.service, case.credential.account)


async def _advance(
    parts: Parts, tx: Transaction, case: Case, incident: Incident, gate: Gate, step: Step, *, goes_on: bool = False
) -> Case | None:
    """Write the incident's next state and the gate, tell whom it concerns, and submit the next look.

    Where that is now and the caller goes on, the incident is kept instead.
    """
    if step.refresh_failed and not incident.refresh_failed:
        gate = gates.count_failures(gate, Category.AUTH, incident.count)
        gate = replace(gate, recovery_fail_count=gate.recovery_fail_count + 1)
    if gate is not case.gate:
        gate = await settle_gate(parts, tx, gate, case.service, 0)
    incident = replace(
        incident,
        action_taken=step.action,
        held_reason=step.held_reason,
        next_at=step.next_at,
        refresh_failed=incident.refresh_failed or step.refresh_failed,
        claimed_by=None,
        lease_until=None,
    )
    tx.on_commit(lambda: parts.bulletin.announce(incident.id))
    if step.proof is not None:
        await resolve(parts, tx, incident, case.failure, step.proof)
        return None
    if goes_on and step.state is _I.OPEN and step.next_at is not None and step.next_at <= case.now:
        kept = replace(incident, claimed_by=parts.worker, lease_until=case.now + timedelta(seconds=LEASE_S))
        return replace(case, incident=kept, gate=gate)
    INCIDENT.check(incident.state, step.state)
    if step.state is _I.ESCALATED and incident.state is not _I.ESCALATED:
        incident = await judging.given_up(parts, tx, incident)
    if step.state is _I.ESCALATED:
        await tx.operations.rest(incident.id, step.held_reason or step.action)
    await tx.incidents.save(replace(incident, state=step.state))
    if step.person is not None and case.incident.held_reason != step.held_reason:
        link = trail.link(parts, incident.id)
        await trail.tell(parts, tx, [notices.needs_person(incident, case.failure, step.person, link)])
    if step.next_at is not None:
        await parts.runner.submit("heal", incident.id, at=step.next_at, tx=tx)
    if parts.advised and (incident.category is Category.UNKNOWN or step.state is _I.ESCALATED):
        await parts.runner.submit(ADVISE, incident.id, tx=tx)  # once this decision is durable; nobody waits for it
    return None


def _summary(results: Sequence[Result]) -> str:
    """Say how the attempts ended, in one line."""
    good = sum(result.outcome.ok for result in results)
    details = sorted({result.outcome.detail for result in results if result.outcome.detail})
    return f"{good} of {len(results)} succeeded ({'; '.join(details)[:300]})"
