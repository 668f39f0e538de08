"""One wave: claim, record, act, look again, settle. What is known in memory only is written through an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from prunella.core import redact
from prunella.core.errors import DatabaseRefused, PrunellaError
from prunella.core.findings import Sighting
from prunella.core.outcomes import Outcome
from prunella.core.records import Incident, Run
from prunella.core.states import IncidentState, RunState
from prunella.engine import endings, ladder, stock, trail
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.engine.stock import Due
from prunella.remedies.contract import Assignment
from prunella.store.contract import Transaction, insist

LEASE_S = 60.0
"""How long a claimed thing is a worker's; renewed while it works."""
_AT_ONCE = 50  # between two parts of a wave the lease is looked at, so that a worker that was frozen does no harm


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt with what came of it, and the state that its incident is in now."""

    run: Run
    outcome: Outcome
    state: IncidentState


async def look(ready: Ready, only: str | None = None) -> Sighting:
    """Look, and refuse a look that sees nothing because it may not see."""
    sighting = await ready.check.look(only)
    if sighting.blind is not None:
        raise DatabaseRefused(sighting.blind)
    return sighting


async def carry_out(parts: Parts, ready: Ready, wave: Sequence[Due], *, counts: bool) -> list[Attempt]:
    """Claim, act, look again and settle for some targets; return what came of those that were this worker's."""
    done: list[Attempt] = []
    for start in range(0, len(wave), _AT_ONCE):
        begun = await _begin(parts, ready, wave[start : start + _AT_ONCE], counts=counts)
        if begun:
            async with _keeping(parts, [one.incident.id for one, _ in begun]):
                done += await _act_and_settle(parts, ready, begun)
    return done


async def _act_and_settle(parts: Parts, ready: Ready, begun: Sequence[tuple[Due, Run]]) -> list[Attempt]:
    """Act, and write what came of it through a short outage: it is known in memory only."""
    outcomes = await _act(ready, begun)
    after = await _look_again(ready, begun)
    return await insist(parts.clock, lambda: _settle(parts, ready, begun, outcomes, after))


async def _begin(parts: Parts, ready: Ready, wave: Sequence[Due], *, counts: bool) -> list[tuple[Due, Run]]:
    """Claim each target and record its attempt before anything is done; what somebody else has is left out."""
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        until = now + timedelta(seconds=LEASE_S)
        # An attempt that a dead worker left behind is made again under its own number, and so under its own key.
        new = [one.incident for one in wave if one.again is None]
        repeated = [one.incident for one in wave if one.again is not None]
        claimed = await tx.incidents.claim_all(new, parts.worker, now, until, counts=counts)
        claimed += await tx.incidents.claim_all(repeated, parts.worker, now, until, counts=False)
        mine = {incident.id: incident for incident in claimed}
        won = [replace(one, incident=mine[one.incident.id]) for one in wave if one.incident.id in mine]
        pairs = [(due, _run(parts, ready, due)) for due in won]
        await tx.runs.add([run for _, run in pairs])
        await tx.audit.add(
            [
                trail.entry(
                    parts, f"{run.remedy}.begun", run.resource, reason=due.incident.because, incident=due.incident.id
                )
                for due, run in pairs
            ]
        )
    return pairs


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
    if remedy is None:  # handing over needs no act
        return [Outcome(ok=False, detail="a person was asked for", needs_person="a person was asked for")] * len(
            assignments
        )
    try:
        return await remedy.apply(assignments)
    except PrunellaError as error:
        return [Outcome(ok=False, detail=str(error))] * len(assignments)
    except Exception as error:
        return [Outcome(ok=False, detail=f"the remedy {name} raised {type(error).__name__}")] * len(assignments)


async def _look_again(ready: Ready, begun: Sequence[tuple[Due, Run]]) -> Sighting | None:
    """Look at what was acted on; None where the look itself fails: then the proof has to come later."""
    only = begun[0][0].finding.key if len(begun) == 1 else None
    try:
        return await look(ready, only)
    except PrunellaError:
        return None


async def _settle(
    parts: Parts,
    ready: Ready,
    begun: Sequence[tuple[Due, Run]],
    outcomes: Sequence[Outcome],
    after: Sighting | None,
) -> list[Attempt]:
    """Write what came of each attempt and where its incident goes, in one transaction."""
    settled = []
    async with parts.store.transaction() as tx:
        for (due, run), outcome in zip(begun, outcomes, strict=True):
            incident = await tx.incidents.take(due.incident.id)
            ended = _ended(parts, run, outcome)
            await tx.runs.settle(ended, RunState.RUNNING)
            state = incident.state
            if incident.claimed_by == parts.worker and incident.lease_until is not None:
                state = await _settle_one(parts, tx, ready, due, incident, ended, outcome, after)
            settled.append(Attempt(ended, outcome, state))  # where the lease was lost, the incident is another's
    return settled


async def _settle_one(
    parts: Parts,
    tx: Transaction,
    ready: Ready,
    due: Due,
    incident: Incident,
    run: Run,
    outcome: Outcome,
    after: Sighting | None,
) -> IncidentState:
    """Decide where one incident goes after its attempt; return its new state."""
    now = parts.clock.now()
    acted = {"acted_at": now.isoformat(), "acted_there": due.seen_at.isoformat()}
    incident = replace(incident, memory={**incident.memory, **acted})
    by_person = incident.state in (IncidentState.ESCALATED, IncidentState.SUPPRESSED)  # taken over meanwhile
    if by_person and not outcome.ok:
        return (await endings.saved(tx, replace(incident, claimed_by=None, lease_until=None))).state
    if not outcome.ok:
        ended = await endings.failed(parts, tx, ready, incident, run, outcome, final=due.final)
        return ended.state
    still = (
        next((one for one in after.findings if one.key == due.finding.key), None) if after is not None else due.finding
    )
    mine = {str(key) for key in due.finding.keys}
    left = still is not None and bool(mine) and mine.isdisjoint(map(str, still.keys))
    if still is None or left:
        how = ready.proof if still is None else f"{len(mine)} rows are healed; {still.count} are left for the next run"
        await endings.proven(parts, tx, ready, stock.healed(incident, due.finding), [run], how)
        return IncidentState.RESOLVED
    if by_person:
        return (await endings.saved(tx, replace(incident, claimed_by=None, lease_until=None))).state
    until = ladder.proof_by(ready, now)
    if until is None and after is not None:
        again = await endings.ineffective(
            parts, tx, ready, incident, run, f"{run.remedy} ended well and healed nothing"
        )
        return again.state
    verifying = replace(
        incident,
        state=IncidentState.VERIFYING,
        next_at=until or now + timedelta(seconds=LEASE_S),
        held_reason=f"verifying until {until:%H:%M:%S} UTC" if until else "the look after the act failed",
        action_taken=f"{run.remedy}: {run.detail}",
        claimed_by=None,
        lease_until=None,
    )
    return (await endings.saved(tx, verifying)).state


def _run(parts: Parts, ready: Ready, due: Due) -> Run:
    incident = due.incident
    attempt = due.again.attempt if due.again is not None else incident.attempts
    key = due.again.idempotency_key if due.again is not None else f"{incident.id}:{attempt}:{due.remedy}"
    return Run(
        id=parts.ids.new(),
        incident_id=incident.id,
        operation_id=None,
        service=ready.scope,
        procedure=ready.name,
        remedy=due.remedy,
        state=RunState.RUNNING,
        attempt=attempt,
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


def _ended(parts: Parts, run: Run, outcome: Outcome) -> Run:
    state = RunState.DONE if outcome.ok else RunState.TIMED_OUT if outcome.timed_out else RunState.FAILED
    return replace(
        run,
        state=state,
        ended_at=parts.clock.now(),
        status=outcome.status,
        detail=outcome.detail,
        touched=outcome.touched,
    )


def _clean(outcome: Outcome) -> Outcome:
    person = redact.scrub(outcome.needs_person) if outcome.needs_person else None
    return replace(outcome, detail=redact.scrub(outcome.detail)[:500], needs_person=person)


@asynccontextmanager
async def _keeping(parts: Parts, incident_ids: Sequence[str]) -> AsyncIterator[None]:
    """Keep the leases of what is worked on, however long it takes."""

    async def renew() -> None:
        while True:
            await parts.clock.sleep(LEASE_S / 3)
            now = parts.clock.now()
            async with parts.store.transaction() as tx:
                until = now + timedelta(seconds=LEASE_S)
                await tx.incidents.extend_all(incident_ids, parts.worker, now, until)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
