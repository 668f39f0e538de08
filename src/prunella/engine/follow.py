"""Where do an attempt's request and its incident go next? Pure: what came back in, the next step out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from prunella.core.clock import Rng
from prunella.core.records import Category, Diagnosis, Operation, Run
from prunella.core.states import IncidentState, OperationState
from prunella.diagnosis.classify import classify
from prunella.engine import verify
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.plan import (
    INLINE_WAIT_MAX_S,
    TRIES,
    WAVE_MAX,
    Case,
    Plan,
    cut,
    refreshed_for_it,
    refreshed_lately,
    wait_s,
)
from prunella.engine.verify import Verification
from prunella.remedies.contract import Outcome

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


def held(case: Case, plan: Plan, verdict: Verdict, due: datetime | None, behind: str | None = None) -> Step:
    """Turn the gate keeper's objection into the incident's next step.

    Args:
        due: when its next replay is.
        behind: which operation goes before one of its own.
    """
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
        if behind is not None and due is not None and (due - case.now).total_seconds() >= INLINE_WAIT_MAX_S:
            return Step(state=_I.OPEN, action="one request after another", next_at=due, held_reason=behind)
        return _waiting_for_due(case, due)
    state = _I.VERIFYING if plan.remedy is None and case.incident.attempts else _I.OPEN
    return Step(state=state, action=plan.action, next_at=verdict.until, held_reason=verdict.reason)


def after(case: Case, plan: Plan, results: Sequence[Result], rng: Rng, *, joined: bool, due: datetime | None) -> Step:
    """Decide where the incident goes after its attempts.

    Args:
        joined: another event joined while we were calling.
        due: when its next replay is.
    """
    if joined:
        return Step(state=_I.OPEN, action=plan.action, next_at=case.now)
    if all(result.outcome.busy for result in results):
        return Step(state=_I.OPEN, action=plan.action, next_at=case.now + _BUSY)
    if plan.fix is not None:
        return Step(state=_I.OPEN, action=_said(plan, results[0].outcome), next_at=case.now)
    if plan.remedy == "refresh_token":
        return _after_refresh(rng, case, results[0].outcome)
    if plan.remedy == "probe":
        return _after_probe(rng, case, results[0].outcome)
    return _after_replays(case, results, due)


def of_operation(
    case: Case, operation: Operation, outcome: Outcome, diagnosis: Diagnosis | None, rng: Rng
) -> Operation:
    """Return what becomes of one replayed operation."""
    if outcome.busy:
        return replace(operation, due_at=case.now + _BUSY)
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
    return replace(tried, state=OperationState.WAITING, due_at=_due_again(case, tried, outcome, diagnosis, rng))


def next_wave(wave: int, results: Sequence[Result]) -> int:
    """Double, unless nothing went through; start over where at least two, and more than half, failed."""
    replays = [result for result in results if result.operation is not None]
    if not replays:
        return wave
    bad = sum(not result.outcome.ok for result in replays)
    if bad >= _BAD_MIN and bad * 2 > len(replays):
        return 1
    return wave if bad == len(replays) else min(wave * 2, WAVE_MAX)


def diagnose(case: Case, outcome: Outcome) -> Diagnosis | None:
    """Read the evidence of our own call as that of events is read: the user's rules first."""
    rules = case.service.rules if case.service is not None else ()
    return classify(outcome.failure, now=case.now, rules=rules) if outcome.failure is not None else None


def _waiting_for_due(case: Case, due: datetime | None) -> Step:
    """Say when the next replay is due, or that everything rests until the next scan."""
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


def _due_again(
    case: Case, tried: Operation, outcome: Outcome, diagnosis: Diagnosis | None, rng: Rng
) -> datetime | None:
    """Return when to try again; None: rest until a scan or a person."""
    if outcome.needs_person or diagnosis is None:
        return None
    if diagnosis.category is Category.AUTH and _is_fresh(case, outcome.token_version):
        return None  # a fresh token was refused: asking again the same way is pointless
    if diagnosis.category is Category.AUTH and _is_behind(case, outcome) and not _first_round_is_over(case, tried):
        return case.now  # somebody refreshed while we were calling: the newer token has not been tried
    asked = diagnosis.retry_after_s
    wait = wait_s(case.incident.category, diagnosis, tried.attempts + 1, rng)
    if asked is not None and asked >= INLINE_WAIT_MAX_S and diagnosis.category is Category.RATE_LIMIT:
        return case.now + timedelta(seconds=wait)
    return case.now + timedelta(seconds=wait) if tried.attempts < TRIES[case.incident.category] else None


def _said(plan: Plan, outcome: Outcome) -> str:
    return plan.action if outcome.ok else f"{plan.fix} failed: {outcome.needs_person or outcome.detail}"


def _after_refresh(rng: Rng, case: Case, outcome: Outcome) -> Step:
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
    return _again_or_rest(rng, case, f"token refresh failed: {outcome.detail}")


def _after_probe(rng: Rng, case: Case, outcome: Outcome) -> Step:
    proof = verify.by_probe(outcome.ok, outcome.detail)
    if proof.proven:
        return Step(state=_I.RESOLVED, action="checked the service's health", proof=proof)
    return _again_or_rest(rng, case, proof.how)


def _again_or_rest(rng: Rng, case: Case, what: str) -> Step:
    """Try an incident-level remedy up to three times in a row, then leave it to the scan."""
    tries = case.incident.attempts + 1
    if tries < TRIES[Category.NETWORK]:
        wait = wait_s(Category.NETWORK, case.diagnosis, tries + 1, rng)
        return Step(state=_I.OPEN, action=what, next_at=case.now + timedelta(seconds=wait))
    return Step(state=_I.OPEN, action=f"{what}; the next scan tries again", held_reason=what)


def _after_replays(case: Case, results: Sequence[Result], due: datetime | None) -> Step:
    proof = verify.by_operations(case.operations)
    if proof.proven:
        refreshed = case.incident.category is Category.AUTH and refreshed_for_it(case)
        action = "refreshed the OAuth token and replayed the original request" if refreshed else _REPLAYED
        return Step(state=_I.RESOLVED, action=action, proof=proof)
    failed = next((result.outcome for result in results if not result.outcome.ok), None)
    error = failed.detail if failed else ""
    if due is not None:
        if (due - case.now).total_seconds() < INLINE_WAIT_MAX_S:
            return Step(state=_I.OPEN, action="retry sequence started", next_at=due)
        said = diagnose(case, failed) if failed is not None else None
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
    said = diagnose(case, failed) if failed is not None else None
    if failed is None or said is None or case.incident.category is not Category.AUTH:
        return False
    return said.category is Category.AUTH and _is_fresh(case, failed.token_version)


def _is_fresh(case: Case, version: int | None) -> bool:
    return refreshed_lately(case) and case.credential is not None and version in (None, case.credential.version)


def _is_behind(case: Case, outcome: Outcome) -> bool:
    if case.credential is None or outcome.token_version is None:
        return False
    return outcome.token_version < case.credential.version


def _first_round_is_over(case: Case, tried: Operation) -> bool:
    return tried.attempts == TRIES[case.incident.category]
