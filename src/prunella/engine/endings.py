"""How an attempt, or the whole case of one thing, ends: written with its audit, figures and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prunella.core.outcomes import Outcome
from prunella.core.records import Incident, Level, Run
from prunella.core.states import INCIDENT, IncidentState, RunState
from prunella.engine import ladder, notices, trail
from prunella.engine.parts import Parts
from prunella.engine.ready import MANUAL, Ready
from prunella.store.contract import Transaction
from prunella.store.metrics import Daily

_KEPT = ("facts", "acted_at", "acted_there", "healed")
"""What of an incident's memory is wanted when its resource is found again."""
_DIED = "the worker died in mid-call"
_I = IncidentState


async def proven(
    parts: Parts, tx: Transaction, ready: Ready, incident: Incident, runs: Sequence[Run], how: str
) -> None:
    """Close what is proven to be well again; its attempts that waited for the proof are verified."""
    now = parts.clock.now()
    for run in runs:
        if run.state is RunState.DONE:
            await tx.runs.settle(replace(run, state=RunState.VERIFIED, verified_at=now), RunState.DONE)
    healed_by = next((run for run in runs if run.state is RunState.DONE), None)
    INCIDENT.check(incident.state, _I.RESOLVED)
    memory = {name: value for name, value in incident.memory.items() if name in _KEPT}
    closed = replace(
        incident,
        state=_I.RESOLVED,
        resolved_at=now,
        next_at=None,
        held_reason=None,
        action_taken=f"{healed_by.remedy}: {how}" if healed_by else how,
        claimed_by=None,
        lease_until=None,
        memory=memory,
    )
    await tx.incidents.save(closed)
    await trail.note(parts, tx, "incident.resolved", incident.service, reason=how, incident=incident.id)
    if healed_by is not None:
        took_s = (now - incident.first_seen).total_seconds()
        await count(parts, tx, ready, healed_by.issue, healed_by.remedy, succeeded=1, recovery_s=took_s)
    await _tell_recovered(parts, tx, ready, incident, closed, healed_by)
    tx.on_commit(lambda: _emit_resolved(parts, incident, how))


async def ineffective(parts: Parts, tx: Transaction, ready: Ready, incident: Incident, run: Run, why: str) -> Incident:
    """Write that an attempt ended well and healed nothing; return the incident as it goes on."""
    now = parts.clock.now()
    await tx.runs.settle(replace(run, state=RunState.INEFFECTIVE, detail=why, ended_at=run.ended_at), RunState.DONE)
    await trail.note(parts, tx, "run.ineffective", run.resource, reason=why, incident=incident.id)
    await count(parts, tx, ready, run.issue, run.remedy, failed=1)
    again = replace(
        incident,
        state=_I.OPEN,
        next_at=ladder.again_at(ready, incident.attempts, now),
        held_reason=why,
        claimed_by=None,
        lease_until=None,
    )
    return await saved(tx, again)


async def hand_over(
    parts: Parts, tx: Transaction, ready: Ready, incident: Incident, why: str, *, failed: str | None = None
) -> Incident:
    """Leave it to a person, and say so once with the whole history.

    Args:
        failed: how the remedy that comes last failed; then that is the message, and not a second one.
    """
    history = await tx.runs.of_incident(incident.id)
    escalated = replace(
        incident,
        state=_I.ESCALATED,
        next_at=None,
        held_reason=failed or why,
        action_taken=f"{MANUAL}: {failed or why}",
        claimed_by=None,
        lease_until=None,
    )
    escalated = await saved(tx, escalated)
    await trail.note(parts, tx, "incident.escalated", incident.service, reason=failed or why, incident=incident.id)
    issue = history[-1].issue if history else ready.policy.id
    link = trail.link(parts, incident.id)
    if failed is None:
        told = notices.manual_intervention(ready.policy, incident, why, history, link)
    else:
        told = notices.healing_failed(ready.policy, incident, failed, history, link)
    await trail.tell(parts, tx, [told])
    await count(parts, tx, ready, issue, MANUAL, manual=1, notified=1)
    return escalated


async def failed(
    parts: Parts, tx: Transaction, ready: Ready, incident: Incident, run: Run, outcome: Outcome, *, final: bool
) -> Incident:
    """Write a failed attempt: try again later, or give up where that was the last one."""
    now = parts.clock.now()
    await count(parts, tx, ready, run.issue, run.remedy, failed=1)
    if final:
        marked = replace(incident, memory={**incident.memory, "gave_up": True})
        return await hand_over(parts, tx, ready, marked, outcome.detail, failed=outcome.detail)
    if outcome.needs_person:
        return await hand_over(parts, tx, ready, incident, outcome.needs_person)
    if incident.attempts >= ready.attempts and ready.give_up not in ready.remedies:
        why = f"{incident.attempts} attempts failed; the last: {outcome.detail}"
        return await hand_over(parts, tx, ready, incident, why)
    again = replace(
        incident,
        state=_I.OPEN,
        next_at=ladder.again_at(ready, incident.attempts, now),
        held_reason=f"attempt {incident.attempts} failed: {outcome.detail}",
        claimed_by=None,
        lease_until=None,
    )
    return await saved(tx, again)


async def unknown(parts: Parts, tx: Transaction, ready: Ready, incident: Incident, runs: Sequence[Run]) -> Incident:
    """Face attempts whose worker died: nobody knows what they brought about, so only the repeatable is repeated."""
    now = parts.clock.now()
    for run in runs:
        ended = replace(run, state=RunState.UNKNOWN, ended_at=now, detail=_DIED)
        await tx.runs.settle(ended, RunState.RUNNING)
        await trail.note(parts, tx, "run.unknown", run.resource, reason=_DIED, incident=incident.id)
    repeatable = all(remedy.idempotent for run in runs if (remedy := ready.remedies.get(run.remedy)) is not None)
    if runs and not repeatable:
        why = f"{_DIED}, so its outcome is unknown, and {runs[0].remedy} is not declared idempotent; look, then retry"
        return await hand_over(parts, tx, ready, incident, why)
    idle = replace(incident, state=_I.OPEN, next_at=None, held_reason=_DIED, claimed_by=None, lease_until=None)
    return await saved(tx, idle)


async def saved(tx: Transaction, incident: Incident) -> Incident:
    """Save an incident and return it as it now stands."""
    await tx.incidents.save(incident)
    return replace(incident, version=incident.version + 1)


async def count(parts: Parts, tx: Transaction, ready: Ready, issue: str, action: str, **figures: float) -> None:
    """Add to the day's figures."""
    day = parts.clock.now().date().isoformat()
    whole = {name: value if name == "recovery_s" else int(value) for name, value in figures.items()}
    await tx.metrics.add([Daily(day=day, procedure=ready.name, issue=issue, action=action, **whole)])  # type: ignore[arg-type]  # the names are Daily's


async def _tell_recovered(
    parts: Parts, tx: Transaction, ready: Ready, incident: Incident, closed: Incident, healed_by: Run | None
) -> None:
    """Say that it is well: where level L1 wants it said, or a person was asked before."""
    was_told = incident.state is _I.ESCALATED
    if was_told or (healed_by is not None and ready.policy.level is Level.L1):
        link = trail.link(parts, incident.id)
        await trail.tell(parts, tx, [notices.healed(ready.policy, closed, healed_by, link)])


def _emit_resolved(parts: Parts, incident: Incident, how: str) -> None:
    parts.bulletin.announce(incident.id)
    parts.listeners.emit(
        "incident.resolved",
        incident=incident.id,
        service=incident.service,
        category=incident.category.value,
        how=how,
        took_s=(parts.clock.now() - incident.first_seen).total_seconds(),
        forced=False,
    )
