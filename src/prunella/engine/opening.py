"""Open incidents for what a check finds anew; what comes back soon takes its history along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from prunella.core.findings import Finding
from prunella.core.records import KINDS, Failure, Incident, Severity, Signal
from prunella.core.states import IncidentState
from prunella.engine import ladder
from prunella.engine.gathered import Gathered
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.engine.recall import remembered

_I = IncidentState
_SKEW = timedelta(seconds=1)
"""How far the clocks of two workers may differ; a look that close to an ending says nothing about what came after."""


def as_new(parts: Parts, ready: Ready, finding: Finding, now: datetime) -> Incident:
    """Return the incident that nobody has recorded yet: for a dry run."""
    return _incident(parts, ready, finding, None, now)


async def open_all(gathered: Gathered, fresh: Sequence[Finding], looked_at: datetime) -> dict[str, Incident]:
    """Open an incident for each finding that is new; return them by resource."""
    if not fresh:
        return {}
    parts, tx, ready, now = gathered.parts, gathered.tx, gathered.ready, gathered.now
    previous = await tx.incidents.resolved_of_procedure(ready.name, [one.key for one in fresh], now - ladder.QUIET)
    new = [
        (_incident(parts, ready, one, previous.get(one.key), now), one)
        for one in fresh
        if one.key not in previous or _is_new(one, previous[one.key], looked_at)
    ]
    await tx.signals.add([(_signal(incident, finding, now), None, None) for incident, finding in new])
    opened = await tx.incidents.open_or_join_all([incident for incident, _ in new])
    await tx.signals.attach_each({one.signal_id: one.id for one in opened})
    for one in opened:
        gathered.note("incident.opened", one.service, reason=_why(one), incident=one.id)
    for _, finding in new:
        gathered.count(finding.issue, ready.remedy_for(finding), detected=1)
    return {one.resource: one for one in opened}


def _incident(parts: Parts, ready: Ready, finding: Finding, previous: Incident | None, now: datetime) -> Incident:
    pending = ready.policy.sightings.count > 1
    fresh = Incident(
        id=parts.ids.new(),
        service=ready.scope,
        account="",
        fingerprint=f"{ready.name}/{finding.key}",
        signal_id=parts.ids.new(),
        title=f"{ready.policy.id} {finding.key}: {finding.message}"[:200],
        category=KINDS[finding.kind],
        kind=finding.kind,
        confidence=1.0,
        because=finding.message,
        advice=f"remedy: {ready.remedy_for(finding)}",
        severity=Severity.MEDIUM,
        level=ready.policy.level,
        state=_I.PENDING if pending else _I.OPEN,
        first_seen=now,
        last_seen=now,
        next_at=now + timedelta(seconds=ready.delays_s[0]) if ready.delays_s else None,
        procedure=ready.name,
        resource=finding.key,
    )
    fresh = replace(fresh, memory=remembered(ready, fresh, finding, now))
    if previous is None:
        return fresh
    if previous.memory.get("issue", finding.issue) != finding.issue:  # it moved on, and another state holds it now
        return replace(fresh, previous_id=previous.id)
    if finding.keys:  # other rows of the same table are another story, told row by row
        return replace(fresh, memory={**fresh.memory, "healed": previous.memory.get("healed", {})})
    return replace(
        fresh,
        regressed=True,
        previous_id=previous.id,
        attempts=previous.attempts,
        regressions=previous.regressions + 1,
        next_at=_cooled_down(ready, previous, now) or fresh.next_at,
    )


def _is_new(finding: Finding, previous: Incident, looked_at: datetime) -> bool:
    """Tell whether a finding was seen, and arose, after its resource was last proven well."""
    resolved_at = previous.resolved_at
    seen_after = resolved_at is None or looked_at - resolved_at > _SKEW
    return seen_after and not ladder.is_old(finding, ladder.acted_there(previous))


def _why(opened: Incident) -> str:
    """Say why an incident was opened."""
    return f"{opened.because}; it was proven well lately and came back" if opened.regressed else opened.because


def _cooled_down(ready: Ready, previous: Incident, now: datetime) -> datetime | None:
    """Return when its cool-down since the last time is over."""
    if ready.entity is not None or previous.resolved_at is None:
        return None
    until = previous.resolved_at + timedelta(seconds=ready.policy.limits.cool_down_s)
    return until if until > now else None


def _signal(incident: Incident, finding: Finding, now: datetime) -> Signal:
    return Signal(
        id=incident.signal_id,
        source="check",
        event_id=incident.id,
        service=incident.service,
        occurred_at=finding.occurred_at or now,
        received_at=now,
        failure=Failure(service=incident.service, source="check", code=finding.issue, message=finding.message),
    )
