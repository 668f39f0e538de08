"""One wave: claim, record, act, look again, settle. What is known in memory only is written through an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from prunella.core import redact
from prunella.core.errors import DatabaseRefused, PrunellaError, StoreError
from prunella.core.findings import Finding, Sighting
from prunella.core.outcomes import Outcome
from prunella.core.records import Incident, Run
from prunella.core.states import UNANSWERED, IncidentState, RunState
from prunella.engine import endings, ladder, notices, recall, trail
from prunella.engine.gathered import Gathered, gathering
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.engine.stock import Due
from prunella.remedies.contract import Assignment
from prunella.store.contract import again_on_conflict, insist

LEASE_S = 60.0
"""How long a claimed thing is a worker's; renewed while it works."""
_I = IncidentState


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt with what came of it, and the state that its incident is in now."""

    run: Run
    outcome: Outcome
    state: IncidentState

    @property
    def is_bad(self) -> bool:
        """Tell whether it failed, or ended well and healed nothing."""
        if self.outcome.busy or self.outcome.skipped:
            return False
        return not self.outcome.ok or self.state is _I.OPEN


async def look(ready: Ready, only: str | None = None) -> Sighting:
    """Look, and refuse a look that sees nothing because it may not see."""
    sighting = await ready.check.look(only)
    if sighting.blind is not None:
        raise DatabaseRefused(sighting.blind)
    return sighting


async def carry_out(parts: Parts, ready: Ready, wave: Sequence[Due], *, counts: bool = True) -> list[Attempt]:
    """Claim, act, look again and settle for some targets; return what came of those that were this worker's."""
    begun = await _begin(parts, ready, wave, counts=counts)
    if not begun:
        return []
    async with _keeping(parts, [due.incident.id for due, _ in begun]):
        begun = await _still_mine(parts, begun)
        if not begun:
            return []
        outcomes = await _act(ready, begun)
        after = await _look_again(ready, begun)
        return await insist(parts.clock, lambda: _settle(parts, ready, begun, outcomes, after, counts))


@again_on_conflict
async def _begin(parts: Parts, ready: Ready, wave: Sequence[Due], *, counts: bool) -> list[tuple[Due, Run]]:
    """Claim each target and record its attempt before anything is done; what somebody else has is left out."""
    async with gathering(parts, ready) as gathered:
        now = gathered.now
        until = now + timedelta(seconds=LEASE_S)
        claimed = []
        for counted in (True, False):
            some = [one.incident for one in wave if _counts(one, counts) is counted]
            claimed += await gathered.tx.incidents.claim_all(some, parts.worker, now, until, counts=counted)
        mine = {incident.id: incident for incident in claimed}
        won = [replace(one, incident=mine[one.incident.id]) for one in wave if one.incident.id in mine]
        pairs = [(due, _run(parts, ready, due)) for due in won]
        await gathered.tx.runs.add([run for _, run in pairs])
        for due, run in pairs:
            because = due.incident.because
            gathered.note(f"{run.remedy}.begun", run.resource, reason=because, incident=due.incident.id)
    return pairs


def _counts(due: Due, counts: bool) -> bool:
    """An attempt that a dead worker left behind, and the remedy that comes last, use up none of the attempts."""
    return counts and not ladder.outlived(due.again) and not due.final


async def _still_mine(parts: Parts, begun: list[tuple[Due, Run]]) -> list[tuple[Due, Run]]:
    """Leave out what was lost while this worker was frozen between its claim and its act."""
    now = parts.clock.now()
    if now - begun[0][1].started_at < timedelta(seconds=LEASE_S / 3):
        return begun
    async with parts.store.transaction() as tx:
        ids = [due.incident.id for due, _ in begun]
        mine = await tx.incidents.extend_all(ids, parts.worker, now, now + timedelta(seconds=LEASE_S))
    return [one for one in begun if one[0].incident.id in mine]


async def _act(ready: Ready, begun: Sequence[tuple[Due, Run]]) -> list[Outcome]:
    """Let each remedy act on its targets; whatever happens comes back as an outcome, scrubbed."""
    outcomes: dict[str, Outcome] = {}
    for name in dict.fromkeys(run.remedy for _, run in begun):
        mine = [(due, run) for due, run in begun if run.remedy == name]
        assignments = [_assignment(due, run) for due, run in mine]
        results = await _apply(ready, name, assignments)
        outcomes |= {run.id: _clean(outcome) for (_, run), outcome in zip(mine, results, strict=True)}
    return [outcomes[run.id] for _, run in begun]


async def _apply(ready: Ready, name: str, assignments: Sequence[Assignment]) -> list[Outcome]:
    remedy = ready.remedies.get(name)
    if remedy is None:
        return [Outcome.skip("handing over needs no act")] * len(assignments)
    try:
        results = await remedy.apply(assignments)
    except PrunellaError as error:
        return [Outcome.failed(str(error))] * len(assignments)
    except Exception as error:
        return [Outcome.failed(f"the remedy {name} raised {type(error).__name__}")] * len(assignments)
    if len(results) != len(assignments):
        why = f"the remedy {name} gave {len(results)} answers for {len(assignments)} things; what it did is not known"
        return [Outcome.failed(why)] * len(assignments)
    return results


async def _look_again(ready: Ready, begun: Sequence[tuple[Due, Run]]) -> dict[str, Finding | None] | None:
    """Look at what was acted on: key -> what is still found; None where the look fails, and the proof comes later."""
    keys = [due.finding.key for due, _ in begun]
    try:
        after = await look(ready, keys[0] if len(keys) == 1 else None)
        found: dict[str, Finding | None] = {one.key: one for one in after.findings}
        if not after.is_complete:  # one that is not among them may stand beyond the cap
            for key in keys:
                if key not in found:
                    found[key] = next(iter((await look(ready, key)).findings), None)
    except Exception:  # a look of the user's own may raise anything; what was done must be written down all the same
        return None
    return found


async def _settle(
    parts: Parts,
    ready: Ready,
    begun: Sequence[tuple[Due, Run]],
    outcomes: Sequence[Outcome],
    after: dict[str, Finding | None] | None,
    counts: bool,
) -> list[Attempt]:
    """Write what came of each attempt and where its incident goes, in one transaction."""
    settled = []
    async with gathering(parts, ready) as gathered:
        held = await gathered.tx.incidents.take_all([due.incident.id for due, _ in begun])
        running = await gathered.tx.runs.still_running([run.id for _, run in begun])
        for (due, run), outcome in zip(begun, outcomes, strict=True):
            incident, ended = held[due.incident.id], _ended(due, run, outcome, gathered.now)
            if run.id in running:  # otherwise this worker was taken for dead, and the incident is another's
                gathered.settle(ended, RunState.RUNNING)
                incident = await _settle_one(
                    gathered, replace(due, incident=incident), ended, outcome, after, counts=_counts(due, counts)
                )
            settled.append(Attempt(gathered.settled(ended), outcome, incident.state))
        await parts.runner.gets_on("procedure", ready.name, tx=gathered.tx)
    return settled


async def _settle_one(
    gathered: Gathered,
    due: Due,
    run: Run,
    outcome: Outcome,
    after: dict[str, Finding | None] | None,
    *,
    counts: bool,
) -> Incident:
    """Decide where one incident goes after its attempt."""
    incident = _acted(due, run, gathered.now)
    by_person = incident.state in (_I.ESCALATED, _I.SUPPRESSED)  # taken over meanwhile
    if run.remedy not in gathered.ready.remedies and not by_person:
        return await endings.hand_over(gathered, incident, f"{due.finding.message}; only a person can put it right")
    still = due.finding if after is None else after.get(due.finding.key)
    _tell_if_high(gathered, incident, still)
    if outcome.ok and (still is None or _is_rest(due, still)):
        rest = f"{len(due.finding.keys)} rows are healed; {still.count} are left for the next run" if still else None
        endings.proven(gathered, recall.healed(incident, due.finding), [run], rest or gathered.ready.proof)
        return replace(incident, state=_I.RESOLVED)
    if by_person:
        return endings.released(gathered, incident)
    if outcome.busy:
        return endings.busy(gathered, incident, outcome, counted=counts)
    if not outcome.ok:
        return await endings.failed(gathered, incident, run, outcome, final=due.final)
    return _verifying(gathered, incident, due, run, is_looked_at=after is not None)


def _tell_if_high(gathered: Gathered, incident: Incident, still: Finding | None) -> None:
    """Say that a pool is used too much even after the act (HEAL_CONN_002): once per incident."""
    policy = gathered.ready.policy
    share = still.facts.get("share", 0.0) if still is not None else 0.0
    if still is not None and policy.notify_above is not None and share > policy.notify_above:
        link = trail.link(gathered.parts, incident.id)
        gathered.tell(notices.still_high(policy, incident, still.message, link))


def _verifying(gathered: Gathered, incident: Incident, due: Due, run: Run, *, is_looked_at: bool) -> Incident:
    """Wait for the proof, where one look right after the act does not decide."""
    until = ladder.proof_by(gathered.ready, due.finding, gathered.now)
    if until is None and is_looked_at:
        return endings.ineffective(gathered, incident, run, f"{run.remedy} ended well and healed nothing")
    return endings.released(
        gathered,
        replace(
            incident,
            state=_I.VERIFYING,
            next_at=until or gathered.now + timedelta(seconds=LEASE_S),
            held_reason=f"verifying until {until:%H:%M:%S} UTC" if until else "the look after the act failed",
            action_taken=f"{run.remedy}: {run.detail}",
        ),
    )


def _is_rest(due: Due, still: Finding) -> bool:
    """Tell whether what is still found are other rows than those that were acted on."""
    return bool(due.finding.keys) and set(map(str, due.finding.keys)).isdisjoint(map(str, still.keys))


def _acted(due: Due, run: Run, now: datetime) -> Incident:
    """Remember when it was acted on, by our clock and, carried over, by the one that its evidence is dated by."""
    there = due.seen_at + (run.started_at - due.looked_at)
    memory = {**due.incident.memory, "acted_at": now.isoformat(), "acted_there": there.isoformat()}
    return replace(due.incident, memory=memory)


def _run(parts: Parts, ready: Ready, due: Due) -> Run:
    incident, again, run_id = due.incident, due.again, due.run_id or parts.ids.new()
    # Not by the attempt's number: a probe has none, and after a person's retry they begin anew.
    key = again.idempotency_key if again is not None else f"{incident.id}:{run_id}"
    return Run(
        id=run_id,
        incident_id=incident.id,
        operation_id=None,
        service=ready.scope,
        procedure=ready.name,
        remedy=due.remedy,
        state=RunState.RUNNING,
        attempt=again.attempt if again is not None and ladder.outlived(again) else incident.attempts,
        idempotency_key=key,
        worker=parts.worker,
        started_at=parts.clock.now(),
        resource=incident.resource,
        issue=due.finding.issue,
    )


def _assignment(due: Due, run: Run) -> Assignment:
    return Assignment(
        run_id=run.id,
        incident_id=run.incident_id,
        attempt=run.attempt,
        idempotency_key=run.idempotency_key,
        finding=due.finding,
    )


def _ended(due: Due, run: Run, outcome: Outcome, now: datetime) -> Run:
    """Return how an attempt ended: where it repeats one of unknown outcome, its failure leaves that unknown."""
    state = RunState.DONE if outcome.ok else RunState.TIMED_OUT if outcome.timed_out else RunState.FAILED
    detail = outcome.detail
    if not outcome.ok and (outcome.unanswered or due.again is not None):
        state, detail = RunState.UNKNOWN, f"{UNANSWERED}: {detail}"
    return replace(run, state=state, ended_at=now, status=outcome.status, detail=detail, touched=outcome.touched)


def _clean(outcome: Outcome) -> Outcome:
    person = redact.scrub(outcome.needs_person) if outcome.needs_person else None
    return replace(outcome, detail=redact.scrub(outcome.detail)[:500], needs_person=person)


@asynccontextmanager
async def _keeping(parts: Parts, incident_ids: Sequence[str]) -> AsyncIterator[None]:
    """Keep the leases of what is worked on, however long it takes; an outage of the store must not end that."""

    async def renew() -> None:
        while True:
            await parts.clock.sleep(LEASE_S / 3)
            with suppress(StoreError):
                async with parts.store.transaction() as tx:
                    now = parts.clock.now()
                    until = now + timedelta(seconds=LEASE_S)
                    await tx.incidents.extend_all(incident_ids, parts.worker, now, until)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
