"""Settle: write what was decided and what came of it, in one transaction with its audit and its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from prunella.core.errors import Conflict
from prunella.core.records import Category, Credential, Diagnosis, Failure, Gate, Incident, Operation, Run
from prunella.core.services import Service
from prunella.core.states import INCIDENT, GateState, IncidentState, OperationState, RunState
from prunella.diagnosis.classify import classify
from prunella.engine import gates, notices, trail, verify
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.parts import Parts
from prunella.engine.plan import (
    INLINE_WAIT_MAX_S,
    TRIES,
    WAIT_MAX_S,
    Case,
    Plan,
    cut,
    refreshed_for_it,
    refreshed_lately,
    wait_s,
)
from prunella.engine.verify import Verification
from prunella.remedies.contract import Outcome
from prunella.store.contract import Transaction

_WAVE_MAX = 16
_BUSY = timedelta(seconds=0.5)
_GIVE_UP_AFTER = timedelta(hours=24)
_TOLD_AFTER = timedelta(hours=24)  # a person hears of longer waits (DECISIONS: waits)
_BAD_MIN = 2  # a single failing target never stops the others
_REPLAYED = "replayed the original request"
_I = IncidentState


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt with what came of it."""

    run: Run
    operation: Operation | None
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where an incident goes next.

    Args:
        person: why a person is asked, None where none is.
        refresh_failed: the recovery failed although the token was refreshed (or could not be).
        proof: what proves that it is well again; only this resolves.
    """

    state: IncidentState
    action: str
    next_at: datetime | None = None
    held_reason: str | None = None
    person: str | None = None
    refresh_failed: bool = False
    proof: Verification | None = None


async def hold(parts: Parts, tx: Transaction, case: Case, plan: Plan, verdict: Verdict) -> None:
    """Record that nothing runs now, why, and when to look again."""
    incident = case.incident
    step = await _held(tx, case, plan, verdict)
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
    gate = await tx.gates.take(case.incident.service, now)
    case = replace(case, now=now, credential=await _tokens_now(tx, case))
    for result in results:
        gate = await _settle_result(parts, tx, case, gate, result, now)
    case = replace(case, operations=await tx.operations.tally(incident.id))
    await trail.note(
        parts, tx, f"{plan.remedy}.settled", case.incident.service, reason=_summary(results), incident=incident.id
    )
    if (incident.claimed_by, incident.lease_until) != (parts.worker, case.incident.lease_until):
        await tx.gates.save(gate)  # the lease was lost: what the calls brought about counts, the incident is another's
        return
    step = await _next_step(parts, tx, case, plan, results)
    if (
        incident.state in (_I.ESCALATED, _I.SUPPRESSED) and step.proof is None
    ):  # a person did that while we were calling
        step = replace(step, state=incident.state, next_at=None, held_reason=incident.held_reason, person=None)
    if step.next_at is not None and step.held_reason is not None:
        await trail.note(parts, tx, "incident.wait", incident.service, reason=step.held_reason, incident=incident.id)
    incident = replace(incident, wave=_next_wave(incident.wave, results))
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


async def _held(tx: Transaction, case: Case, plan: Plan, verdict: Verdict) -> Step:
    """Turn the gate keeper's objection into the incident's next step."""
    if verdict.answer is Answer.PROPOSE:
        return Step(state=_I.AWAITING_APPROVAL, action=plan.action, held_reason=verdict.reason)
    if verdict.answer is Answer.REFUSE:
        dead_token = case.credential is not None and case.credential.needs_person is not None
        return Step(
            state=_I.ESCALATED,
            action=verdict.reason,
            held_reason=verdict.reason,
            person=verdict.reason if case.incident.category is Category.AUTH and case.service else None,
            refresh_failed=dead_token and case.incident.category is Category.AUTH,
        )
    if verdict.reason == plan.action and case.operations.get("waiting"):  # nothing but time holds it
        return await _waiting_for_due(tx, case)
    state = _I.VERIFYING if plan.remedy is None and case.incident.attempts else _I.OPEN
    return Step(state=state, action=plan.action, next_at=verdict.until, held_reason=verdict.reason)


async def _waiting_for_due(tx: Transaction, case: Case) -> Step:
    """Say when the next replay is due, or that everything rests until the next scan."""
    due = await tx.operations.next_due(case.incident.id)
    if due is None:
        reason = case.incident.held_reason or "rests until the next scan or a person looks again"
        return Step(state=_I.OPEN, action=case.incident.action_taken, held_reason=reason)
    wait = (due - case.now).total_seconds()
    if wait < INLINE_WAIT_MAX_S:
        return Step(state=_I.OPEN, action="retry sequence started", next_at=due)
    reason = f"waits until {due:%Y-%m-%d %H:%M:%S} UTC, as {case.incident.service} asked"
    return _long_wait(case, due, reason, case.diagnosis.retry_after_s)


def _long_wait(case: Case, due: datetime, reason: str, asked_s: float | None) -> Step:
    """Wait beyond this request: what was cut says so, what lasts beyond a day is told."""
    was_cut = cut(asked_s)
    held = f"{reason}; {was_cut}" if was_cut else reason
    return Step(
        state=_I.OPEN,
        action=f"retry scheduled for {due:%Y-%m-%d %H:%M:%S} UTC",
        next_at=due,
        held_reason=held,
        person=held if due - case.now > _TOLD_AFTER else None,
    )


async def _settle_result(parts: Parts, tx: Transaction, case: Case, gate: Gate, result: Result, now: datetime) -> Gate:
    """Write one attempt's end and what it says about the service."""
    outcome = result.outcome
    diagnosis = _diagnose(case, outcome, now)
    run = replace(result.run, state=_run_state(outcome), ended_at=now, status=outcome.status, detail=outcome.detail)
    try:
        await tx.runs.settle(run, RunState.RUNNING)
    except Conflict:  # we were taken for dead, and whoever did so has decided what becomes of the operation
        return gate
    if result.operation is not None:
        await tx.operations.save(
            _next_of(parts, case, result.operation, outcome, diagnosis, now), OperationState.RUNNING
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
    return _learn_gate(parts, case, gate, result, diagnosis, now)


def _diagnose(case: Case, outcome: Outcome, now: datetime) -> Diagnosis | None:
    """Read the evidence of our own call as that of events is read: the user's rules first."""
    rules = case.service.rules if case.service is not None else ()
    return classify(outcome.failure, now=now, rules=rules) if outcome.failure is not None else None


def _run_state(outcome: Outcome) -> RunState:
    if outcome.ok:
        return RunState.VERIFIED  # the reply itself was looked at and is what the service promises
    return RunState.TIMED_OUT if outcome.timed_out else RunState.FAILED


def _learn_gate(
    parts: Parts, case: Case, gate: Gate, result: Result, diagnosis: Diagnosis | None, now: datetime
) -> Gate:
    """Let our own call count towards the gate; refusals of ours and token refreshes say nothing about the service."""
    assert case.service is not None
    if result.run.remedy == "refresh_token" or result.outcome.busy or result.outcome.needs_person:
        return gate
    if diagnosis is not None and diagnosis.category is Category.RATE_LIMIT:
        asked = diagnosis.retry_after_s
        return gate if asked is None else gates.throttle(gate, now + timedelta(seconds=min(asked, WAIT_MAX_S)))
    if diagnosis is not None and diagnosis.category is not Category.NETWORK:
        return gate
    return gates.record_call(gate, result.outcome.ok, case.service.gate, now, parts.rng)


def _next_of(
    parts: Parts, case: Case, operation: Operation, outcome: Outcome, diagnosis: Diagnosis | None, now: datetime
) -> Operation:
    """Return what becomes of one replayed operation."""
    if outcome.busy:
        return replace(operation, due_at=now + _BUSY)
    tried = replace(
        operation,
        attempts=operation.attempts + 1,
        last_error=None if outcome.ok else outcome.detail,
        last_kind=diagnosis.kind if diagnosis else None,
        token_version=outcome.token_version,
        due_at=None,
    )
    if outcome.ok:
        return replace(tried, state=OperationState.DONE)
    if diagnosis is not None and diagnosis.category is Category.DATA:
        return replace(tried, state=OperationState.DEAD)
    return replace(tried, state=OperationState.WAITING, due_at=_due_again(parts, case, tried, outcome, diagnosis, now))


def _due_again(
    parts: Parts, case: Case, tried: Operation, outcome: Outcome, diagnosis: Diagnosis | None, now: datetime
) -> datetime | None:
    """Return when to try again; None: rest until a scan or a person."""
    if outcome.needs_person or diagnosis is None:
        return None
    if diagnosis.category is Category.AUTH and _is_fresh(case, outcome.token_version):
        return None  # a fresh token was refused: asking again the same way is pointless
    if diagnosis.category is Category.AUTH and _is_behind(case, outcome) and not _first_round_is_over(case, tried):
        return now  # somebody refreshed while we were calling: the newer token has not been tried
    asked = diagnosis.retry_after_s
    wait = wait_s(case.incident.category, diagnosis, tried.attempts + 1, parts.rng)
    if asked is not None and asked >= INLINE_WAIT_MAX_S and diagnosis.category is Category.RATE_LIMIT:
        return now + timedelta(seconds=wait)
    return now + timedelta(seconds=wait) if tried.attempts < TRIES[case.incident.category] else None


async def _next_step(parts: Parts, tx: Transaction, case: Case, plan: Plan, results: Sequence[Result]) -> Step:
    """Decide where the incident goes after its attempts."""
    if await tx.operations.count_new(case.incident.id):  # another event joined while we were calling
        return Step(state=_I.OPEN, action=plan.action, next_at=case.now)
    if all(result.outcome.busy for result in results):
        return Step(state=_I.OPEN, action=plan.action, next_at=case.now + _BUSY)
    if plan.remedy == "refresh_token":
        return _after_refresh(parts, case, plan, results[0].outcome)
    if plan.remedy == "probe":
        return _after_probe(parts, case, plan, results[0].outcome)
    return await _after_replays(tx, case, plan, results)


def _after_refresh(parts: Parts, case: Case, plan: Plan, outcome: Outcome) -> Step:
    if outcome.ok:
        return Step(state=_I.OPEN, action="refreshed the OAuth token", next_at=case.now)
    if outcome.needs_person:
        return Step(
            state=_I.ESCALATED,
            action=f"token refresh failed: {outcome.needs_person}",
            held_reason=outcome.needs_person,
            person=outcome.needs_person,
            refresh_failed=True,
        )
    return _again_or_rest(parts, case, f"token refresh failed: {outcome.detail}")


def _after_probe(parts: Parts, case: Case, plan: Plan, outcome: Outcome) -> Step:
    proof = verify.by_probe(outcome.ok, outcome.detail)
    if proof.proven:
        return Step(state=_I.RESOLVED, action="checked the service's health", proof=proof)
    return _again_or_rest(parts, case, proof.how)


def _again_or_rest(parts: Parts, case: Case, what: str) -> Step:
    """Try an incident-level remedy up to three times in a row, then leave it to the scan."""
    tries = case.incident.attempts + 1
    if tries < TRIES[Category.NETWORK]:
        wait = wait_s(Category.NETWORK, case.diagnosis, tries + 1, parts.rng)
        return Step(state=_I.OPEN, action=what, next_at=case.now + timedelta(seconds=wait))
    return Step(state=_I.OPEN, action=f"{what}; the next scan tries again", held_reason=what)


async def _after_replays(tx: Transaction, case: Case, plan: Plan, results: Sequence[Result]) -> Step:
    proof = verify.by_operations(case.operations)
    if proof.proven:
        refreshed = case.incident.category is Category.AUTH and refreshed_for_it(case)
        action = "refreshed the OAuth token and replayed the original request" if refreshed else _REPLAYED
        return Step(state=_I.RESOLVED, action=action, proof=proof)
    failed = next((result.outcome for result in results if not result.outcome.ok), None)
    error = failed.detail if failed else ""
    due = await tx.operations.next_due(case.incident.id)
    if due is not None:
        if (due - case.now).total_seconds() < INLINE_WAIT_MAX_S:
            return Step(state=_I.OPEN, action="retry sequence started", next_at=due)
        said = _diagnose(case, failed, case.now) if failed is not None else None
        return _long_wait(case, due, error or proof.how, said.retry_after_s if said is not None else None)
    return _resting(case, failed, error, proof)


def _resting(case: Case, failed: Outcome | None, error: str, proof: Verification) -> Step:
    """Nothing is due any more: leave the rest to the scan, or to a person."""
    why = error or case.quarantined or proof.how
    action = f"replayed without success ({why})"
    refused = _refused_with_fresh_token(case, failed)
    if proof.proven is False or refused or (failed is not None and failed.needs_person):
        return Step(
            state=_I.ESCALATED,
            action=action,
            held_reason=why,
            person=proof.how if proof.proven is False else error,
            refresh_failed=refused,
        )
    if case.now - case.incident.first_seen > _GIVE_UP_AFTER:
        return Step(state=_I.ESCALATED, action=action, held_reason=why, person="no success within 24 hours")
    person = f"one retry did not help: {error}" if case.incident.category is Category.UNKNOWN else None
    held = f"{why}; rests until the next scan"
    return Step(state=_I.OPEN, action=f"{action}; the next scan looks again", held_reason=held, person=person)


def _refused_with_fresh_token(case: Case, failed: Outcome | None) -> bool:
    said = _diagnose(case, failed, case.now) if failed is not None else None
    if failed is None or said is None or case.incident.category is not Category.AUTH:
        return False
    return said.category is Category.AUTH and _is_fresh(case, failed.token_version)


async def _tokens_now(tx: Transaction, case: Case) -> Credential | None:
    """Read the tokens anew: another incident of the account may have refreshed them while we were calling."""
    if case.credential is None:
        return None
    return await tx.credentials.read(case.credential.service, case.credential.account)


def _is_fresh(case: Case, version: int | None) -> bool:
    return refreshed_lately(case) and case.credential is not None and version in (None, case.credential.version)


def _is_behind(case: Case, outcome: Outcome) -> bool:
    if case.credential is None or outcome.token_version is None:
        return False
    return outcome.token_version < case.credential.version


def _first_round_is_over(case: Case, tried: Operation) -> bool:
    return tried.attempts == TRIES[case.incident.category]


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


def _next_wave(wave: int, results: Sequence[Result]) -> int:
    """Double, unless nothing went through; start over where at least two, and more than half, failed."""
    replays = [result for result in results if result.operation is not None]
    if not replays:
        return wave
    bad = sum(not result.outcome.ok for result in replays)
    if bad >= _BAD_MIN and bad * 2 > len(replays):
        return 1
    return wave if bad == len(replays) else min(wave * 2, _WAVE_MAX)


def _summary(results: Sequence[Result]) -> str:
    """Say how the attempts ended, in one line."""
    good = sum(result.outcome.ok for result in results)
    details = sorted({result.outcome.detail for result in results if result.outcome.detail})
    return f"{good} of {len(results)} succeeded ({'; '.join(details)[:300]})"
