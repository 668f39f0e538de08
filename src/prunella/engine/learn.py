"""Settle: write what was decided and what came of it, in one transaction with its audit and its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from prunella.core.errors import Conflict
from prunella.core.records import Category, Credential, Diagnosis, Failure, Gate, Incident
from prunella.core.services import Service
from prunella.core.states import INCIDENT, GateState, IncidentState, OperationState, RunState
from prunella.engine import follow, gates, notices, trail
from prunella.engine.follow import Result, Step
from prunella.engine.gatekeeper import Verdict
from prunella.engine.parts import ADVISE, Parts
from prunella.engine.plan import WAIT_MAX_S, Case, Plan
from prunella.engine.verify import Verification
from prunella.remedies.contract import Outcome
from prunella.store.contract import Transaction

_I = IncidentState


async def hold(parts: Parts, tx: Transaction, case: Case, plan: Plan, verdict: Verdict) -> None:
    """Record that nothing runs now, why, and when to look again."""
    incident = case.incident
    step = follow.held(case, plan, verdict, await tx.operations.next_due(incident.id))
    if (incident.held_reason, incident.action_taken) != (step.held_reason, step.action):
        name = f"incident.{verdict.answer.value}"
        await trail.note(
            parts, tx, name, incident.service, reason=step.held_reason or verdict.reason, incident=incident.id
        )
    await _advance(parts, tx, case, incident, case.gate, step)


async def settle(parts: Parts, tx: Transaction, case: Case, plan: Plan, results: Sequence[Result]) -> None:
    """Record how the attempts ended and decide where the incident goes."""
    now = parts.clock.now()
    incident = await tx.incidents.take(case.incident.id)
    gate = before = await tx.gates.take(case.incident.service, now)
    case = replace(case, now=now, credential=await _tokens_now(tx, case))
    for result in results:
        gate = await _settle_result(parts, tx, case, gate, result)
    if before.down_since is not None and gate.down_since is None:
        await trail.recovered(parts, tx, gate.service, before.down_since)
    case = replace(case, operations=await tx.operations.tally(incident.id))
    await trail.note(
        parts, tx, f"{plan.remedy}.settled", case.incident.service, reason=_summary(results), incident=incident.id
    )
    if (incident.claimed_by, incident.lease_until) != (parts.worker, case.incident.lease_until):
        await tx.gates.save(gate)  # the lease was lost: what the calls brought about counts, the incident is another's
        return
    joined = bool(await tx.operations.count_new(incident.id))
    due = await tx.operations.next_due(incident.id)
    step = follow.after(case, plan, results, parts.rng, joined=joined, due=due)
    taken_over = incident.state in (_I.ESCALATED, _I.SUPPRESSED)  # by a person, while we were calling
    if taken_over and step.proof is None:
        step = replace(step, state=incident.state, next_at=None, held_reason=incident.held_reason, person=None)
    if step.next_at is not None and step.held_reason is not None:
        await trail.note(parts, tx, "incident.wait", incident.service, reason=step.held_reason, incident=incident.id)
    incident = replace(incident, wave=follow.next_wave(incident.wave, results))
    await _advance(parts, tx, case, incident, gate, step)


async def note_attempt(parts: Parts, tx: Transaction, case: Case, plan: Plan) -> None:
    """Count the pass and tell, once per incident, that a recovery begins."""
    incident = replace(case.incident, attempts=case.incident.attempts + 1, action_taken=plan.action, held_reason=None)
    await tx.incidents.save(incident)
    await trail.note(
        parts, tx, f"{plan.remedy}.begun", incident.service, reason=case.diagnosis.because, incident=incident.id
    )
    link = trail.link(parts, incident.id)
    await trail.tell(parts, tx, [notices.attempt(incident, plan.action, incident.attempts, case.failure, link)])
    tx.on_commit(
        lambda: parts.listeners.emit(
            "plan.decided", incident=incident.id, service=incident.service, remedy=plan.remedy, action=plan.action
        )
    )


async def resolve(parts: Parts, tx: Transaction, incident: Incident, failure: Failure, proof: Verification) -> None:
    """Close an incident that is proven to be well again, and say so once."""
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
    )
    await tx.incidents.save(closed)
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
        await tx.gates.save(gate)
        return gate
    reason, count = over
    gate = gates.move(gate, GateState.DISABLED, parts.clock.now(), reason=reason)
    await tx.gates.save(gate)
    await trail.note(parts, tx, "gate.disabled", gate.service, reason=reason)
    await trail.tell(parts, tx, [notices.disabled(gate, count, f"{parts.public_url}/services/{gate.service}")])
    tx.on_commit(
        lambda: parts.listeners.emit("gate.changed", service=gate.service, state=gate.state.value, reason=reason)
    )
    return gate


async def _settle_result(parts: Parts, tx: Transaction, case: Case, gate: Gate, result: Result) -> Gate:
    """Write one attempt's end and what it says about the service."""
    outcome = result.outcome
    diagnosis = follow.diagnose(case, outcome)
    run = replace(
        result.run, state=_run_state(outcome), ended_at=case.now, status=outcome.status, detail=outcome.detail
    )
    try:
        await tx.runs.settle(run, RunState.RUNNING)
    except Conflict:  # we were taken for dead, and whoever did so has decided what becomes of the operation
        return gate
    if result.operation is not None:
        await tx.operations.save(
            follow.of_operation(case, result.operation, outcome, diagnosis, parts.rng), OperationState.RUNNING
        )
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
    return _learn_gate(parts, case, gate, result, diagnosis)


def _run_state(outcome: Outcome) -> RunState:
    if outcome.ok:
        return RunState.VERIFIED  # the reply itself was looked at and is what the service promises
    return RunState.TIMED_OUT if outcome.timed_out else RunState.FAILED


def _learn_gate(parts: Parts, case: Case, gate: Gate, result: Result, diagnosis: Diagnosis | None) -> Gate:
    """Let our own call count towards the gate; refusals of ours and token refreshes say nothing about the service."""
    assert case.service is not None
    if result.run.remedy == "refresh_token" or result.outcome.busy or result.outcome.needs_person:
        return gate
    if diagnosis is not None and diagnosis.category is Category.RATE_LIMIT:
        asked = diagnosis.retry_after_s
        return gate if asked is None else gates.throttle(gate, case.now + timedelta(seconds=min(asked, WAIT_MAX_S)))
    if diagnosis is not None and diagnosis.category is not Category.NETWORK:
        return gate
    return gates.record_call(gate, result.outcome.ok, case.service.gate, case.now, parts.rng)


async def _tokens_now(tx: Transaction, case: Case) -> Credential | None:
    """Read the tokens anew: another incident of the account may have refreshed them while we were calling."""
    if case.credential is None:
        return None
    return await tx.credentials.read(case.credential.service, case.credential.account)


async def _advance(parts: Parts, tx: Transaction, case: Case, incident: Incident, gate: Gate, step: Step) -> None:
    """Write the incident's next state and the gate, tell whom it concerns, and submit the next look."""
    if step.refresh_failed and not incident.refresh_failed:
        gate = gates.count_failures(gate, Category.AUTH, incident.count)
        gate = replace(gate, recovery_fail_count=gate.recovery_fail_count + 1)
    gate = await settle_gate(parts, tx, gate, case.service, 0) if gate is not case.gate else gate
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
        return
    INCIDENT.check(incident.state, step.state)
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


def _summary(results: Sequence[Result]) -> str:
    """Say how the attempts ended, in one line."""
    good = sum(result.outcome.ok for result in results)
    details = sorted({result.outcome.detail for result in results if result.outcome.detail})
    return f"{good} of {len(results)} succeeded ({'; '.join(details)[:300]})"
