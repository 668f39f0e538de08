"""How an attempt, or the whole case of one thing, ends: with its audit, figures and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from prunella.core.outcomes import Outcome
from prunella.core.records import Incident, Level, Run
from prunella.core.states import DIED, INCIDENT, IncidentState, RunState
from prunella.engine import ladder, notices, trail
from prunella.engine.gathered import Gathered
from prunella.engine.ready import MANUAL

_KEPT = ("facts", "issue", "acted_at", "acted_there", "healed")
"""What of an incident's memory is wanted when its resource is found again."""
_BUSY_S = 30.0
_ONCE = "not declared idempotent; look, then retry"
_I = IncidentState


def proven(gathered: Gathered, incident: Incident, runs: Sequence[Run], how: str) -> None:
    """Close what is proven to be well again; its attempts that waited for the proof are verified."""
    parts, ready, now = gathered.parts, gathered.ready, gathered.now
    waited = [run for run in runs if run.state is RunState.DONE and run.remedy != MANUAL]
    for run in waited:
        gathered.settle(replace(run, state=RunState.VERIFIED, verified_at=now), RunState.DONE)
    healed_by = waited[0] if waited else None
    INCIDENT.check(incident.state, _I.RESOLVED)
    closed = _released(
        replace(incident, memory={name: value for name, value in incident.memory.items() if name in _KEPT}),
        state=_I.RESOLVED,
        resolved_at=now,
        next_at=None,
        held_reason=None,
        action_taken=f"{healed_by.remedy}: {how}" if healed_by else how,
    )
    gathered.save(closed)
    gathered.note("incident.resolved", incident.service, reason=how, incident=incident.id)
    if healed_by is not None:
        took_s = (now - incident.first_seen).total_seconds()
        gathered.count(healed_by.issue, healed_by.remedy, succeeded=1, recovery_s=took_s)
    if incident.state is _I.ESCALATED or (healed_by is not None and ready.policy.level is Level.L1):
        gathered.tell(notices.healed(ready.policy, closed, healed_by, trail.link(parts, incident.id)))
    gathered.tx.on_commit(lambda: _emit_resolved(gathered, incident, how))


def ineffective(gathered: Gathered, incident: Incident, run: Run, why: str) -> Incident:
    """Write that an attempt ended well and healed nothing; return the incident as it goes on."""
    gathered.settle(replace(run, state=RunState.INEFFECTIVE, detail=why), RunState.DONE)
    gathered.note("run.ineffective", run.resource, reason=why, incident=incident.id)
    gathered.count(run.issue, run.remedy, failed=1)
    return again_later(gathered, incident, why)


async def hand_over(gathered: Gathered, incident: Incident, why: str, *, failed: str | None = None) -> Incident:
    """Leave it to a person, and say so once with the whole history.

    Args:
        failed: how the remedy that comes last failed; then that is the message, and not a second one.
    """
    policy, link = gathered.ready.policy, trail.link(gathered.parts, incident.id)
    history = await gathered.history(incident.id)
    reason = failed or why
    escalated = _released(
        incident, state=_I.ESCALATED, next_at=None, held_reason=reason, action_taken=f"{MANUAL}: {reason}"
    )
    gathered.save(escalated)
    gathered.note("incident.escalated", incident.service, reason=reason, incident=incident.id)
    told = notices.manual_intervention(policy, incident, why, history, link)
    if failed is not None:
        told = notices.healing_failed(policy, incident, failed, history, link)
    gathered.tell(replace(told, key=f"{told.key}:{len(history)}"))  # a person's retry that fails is told again
    issue = history[-1].issue if history else incident.memory.get("issue", policy.id)
    gathered.count(issue, MANUAL, manual=1, notified=1)
    return escalated


async def failed(gathered: Gathered, incident: Incident, run: Run, outcome: Outcome, *, final: bool) -> Incident:
    """Write a failed attempt: try again later, or give up where that was the last one."""
    ready = gathered.ready
    gathered.count(run.issue, run.remedy, failed=1)
    if run.state is RunState.UNKNOWN:
        gathered.note("run.unknown", run.resource, reason=run.detail, incident=incident.id)
    if final:
        marked = replace(incident, memory={**incident.memory, "gave_up": True})
        return await hand_over(gathered, marked, outcome.detail, failed=outcome.detail)
    if outcome.needs_person:
        return await hand_over(gathered, incident, outcome.needs_person)
    if run.state is RunState.UNKNOWN and not ready.remedies[run.remedy].idempotent:
        return await hand_over(gathered, incident, f"{run.detail}; {run.remedy} is {_ONCE}")
    if incident.attempts >= ready.attempts and ready.give_up not in ready.remedies:
        why = f"{incident.attempts} attempts failed; the last: {outcome.detail}"
        return await hand_over(gathered, incident, why)
    return again_later(gathered, incident, f"attempt {incident.attempts} failed: {outcome.detail}")


def again_later(gathered: Gathered, incident: Incident, why: str) -> Incident:
    """Let it be tried again after its back-off."""
    next_at = ladder.again_at(gathered.ready, incident.attempts, gathered.now)
    return gathered.save(_released(incident, state=_I.OPEN, next_at=next_at, held_reason=why))


def busy(gathered: Gathered, incident: Incident, outcome: Outcome, *, counted: bool) -> Incident:
    """Take an attempt back that was none: somebody else is doing the same right now."""
    attempts = max(incident.attempts - int(counted), 0)
    next_at = gathered.now + timedelta(seconds=_BUSY_S)
    idle = _released(incident, state=_I.OPEN, attempts=attempts, next_at=next_at, held_reason=outcome.detail)
    return gathered.save(idle)


async def unknown(gathered: Gathered, incident: Incident, runs: Sequence[Run]) -> Incident:
    """Face attempts whose worker died: nobody knows what they brought about, so only the repeatable is repeated."""
    for run in runs:
        ended = replace(run, state=RunState.UNKNOWN, ended_at=gathered.now, detail=DIED)
        gathered.settle(ended, RunState.RUNNING)
        gathered.note("run.unknown", run.resource, reason=DIED, incident=incident.id)
        gathered.count(run.issue, run.remedy, failed=1)
    if incident.state in (_I.ESCALATED, _I.SUPPRESSED):  # a person has it already
        return gathered.save(_released(incident))
    remedies = gathered.ready.remedies
    if not all(run.remedy in remedies and remedies[run.remedy].idempotent for run in runs):
        why = f"{DIED}, so its outcome is unknown, and {runs[0].remedy} is {_ONCE}"
        return await hand_over(gathered, incident, why)
    return gathered.save(_released(incident, state=_I.OPEN, next_at=None, held_reason=DIED))


def released(gathered: Gathered, incident: Incident) -> Incident:
    """Leave it as it is, in nobody's hands."""
    return gathered.save(_released(incident))


def _released(incident: Incident, **changed: Any) -> Incident:
    return replace(incident, claimed_by=None, lease_until=None, **changed)


def _emit_resolved(gathered: Gathered, incident: Incident, how: str) -> None:
    parts = gathered.parts
    parts.bulletin.announce(incident.id)
    parts.listeners.emit(
        "incident.resolved",
        incident=incident.id,
        service=incident.service,
        category=incident.category.value,
        how=how,
        took_s=(gathered.now - incident.first_seen).total_seconds(),
        forced=False,
    )
