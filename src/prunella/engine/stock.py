"""Take stock: bring what a check found together with the incidents that are open, in one transaction.

What is new opens an incident, what is gone is proven well, what was tried and is still there did not help. What is
left is due: it comes back as cases, for the sweep to plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from prunella.core.findings import Finding, Sighting
from prunella.core.records import KINDS, Failure, Incident, Run, Severity, Signal
from prunella.core.states import IncidentState, RunState
from prunella.engine import endings, ladder, trail
from prunella.engine.ladder import Next, Turn
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.store.contract import Transaction
from prunella.store.metrics import Daily

STORM = "storm"
"""The resource of a storm's own incident."""
_STORM_MIN = 20
_STORM_SHARE = 0.5
_ROWS_REMEMBERED_MAX = 2000
_I = IncidentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One thing that may be acted on now.

    Args:
        remedy: the name of the one that fits.
        seen_at: when it was seen, by the database's own clock.
        final: it is the remedy that comes last.
        again: the attempt that a dead worker left behind; it is made again under its key.
    """

    incident: Incident
    finding: Finding
    remedy: str
    seen_at: datetime
    final: bool = False
    again: Run | None = None


@dataclass(slots=True)
class Stock:
    """What one look came to.

    Args:
        seen_at: when the look was, by the database's own clock.
        waiting: key -> why nothing is done about it now.
    """

    seen_at: datetime
    due: list[Due] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    resolved: int = 0
    escalated: int = 0
    opened: int = 0


async def take(
    parts: Parts, tx: Transaction, ready: Ready, sighting: Sighting, looked_at: datetime, only: str | None
) -> Stock:
    """Write what the look means for every incident of the procedure; return what is due.

    Args:
        looked_at: when the look began, by the store's clock; what was done since then is not in it.
    """
    now = parts.clock.now()
    stock = Stock(seen_at=sighting.at)
    known = {one.resource: one for one in await tx.incidents.open_of_procedure(ready.name)}
    raging = known.pop(STORM, None)
    if raging is not None and not is_storm(sighting):
        await endings.proven(parts, tx, ready, raging, [], "the storm is over")
    unsettled = await _face_the_dead(parts, tx, ready, known, now)
    found = {finding.key: finding for finding in sighting.findings}
    opened = await _open(parts, tx, ready, [one for key, one in found.items() if key not in known], looked_at)
    stock.opened = len(opened)
    await tx.incidents.seen_again([known[key].id for key in found if key in known], now)
    for key, finding in found.items():
        incident = known.get(key) or opened.get(key)
        if incident is not None and not _acted_since(incident, looked_at):
            await _judge(parts, tx, ready, stock, incident, finding, unsettled.get(incident.id, []), now)
    if sighting.is_complete:
        for key, incident in known.items():
            if key not in found and only in (None, key):
                await _gone(parts, tx, ready, stock, incident, unsettled.get(incident.id, []), now)
    return stock


def is_storm(sighting: Sighting) -> bool:
    """Tell whether so many are stuck at once that they share a cause: more than half, and more than 20."""
    found, active = sighting.found, sighting.active
    return active is not None and found > _STORM_MIN and found > active * _STORM_SHARE


def as_new(parts: Parts, ready: Ready, finding: Finding, now: datetime) -> Due:
    """Return a finding as something due that nobody has recorded: for a dry run."""
    incident = _incident(parts, ready, finding, None, now)
    return Due(incident=incident, finding=finding, remedy=ready.remedy_for(finding), seen_at=now)


def healed(incident: Incident, finding: Finding) -> Incident:
    """Remember which rows were healed, so that one that comes back again and again is seen to flap."""
    if not finding.keys or len(finding.keys) > _ROWS_REMEMBERED_MAX:
        return incident
    times = dict(incident.memory.get("healed", {}))
    times |= {str(key): times.get(str(key), 0) + 1 for key in finding.keys}
    newest = dict(list(times.items())[-_ROWS_REMEMBERED_MAX:])
    return replace(incident, memory={**incident.memory, "healed": newest})


async def _judge(
    parts: Parts,
    tx: Transaction,
    ready: Ready,
    stock: Stock,
    incident: Incident,
    finding: Finding,
    runs: Sequence[Run],
    now: datetime,
) -> None:
    """Carry out what comes next for one thing that is found."""
    if incident.memory.get("clean_since"):
        incident = replace(incident, memory={**incident.memory, "clean_since": None})
    done = next((run for run in runs if run.state is RunState.DONE), None)
    again = next((run for run in runs if run.state is RunState.UNKNOWN), None)
    turn = ladder.found(ready, incident, finding, done, now)
    if turn.next is Next.ACT:
        turn = _seen_enough(ready, incident, finding, now)
    if turn.next is Next.INEFFECTIVE and done is not None:
        incident = await endings.ineffective(parts, tx, ready, incident, done, turn.reason)
        turn = ladder.found(ready, incident, finding, None, now)
    if turn.next is Next.PROVEN:
        await endings.proven(parts, tx, ready, incident, runs, turn.reason)
        stock.resolved += 1
    elif turn.next is Next.GIVE_UP:
        await _last_remedy(parts, tx, ready, stock, incident, finding, turn)
    elif turn.next is Next.ACT:
        await _plan(parts, tx, ready, stock, incident, _targets(ready, incident, finding), again)
    else:
        stock.waiting[finding.key] = turn.reason
        await _wait(tx, incident, finding, turn, now, ready)


async def _plan(
    parts: Parts,
    tx: Transaction,
    ready: Ready,
    stock: Stock,
    incident: Incident,
    finding: Finding,
    again: Run | None,
) -> None:
    """Let a thing be acted on, unless all that is left of it flaps."""
    if finding.keys or finding.total is None:
        remedy = ready.remedy_for(finding)
        stock.due.append(Due(incident=incident, finding=finding, remedy=remedy, seen_at=stock.seen_at, again=again))
        return
    why = f"flapping: these rows came back {ladder.REGRESSIONS_MAX} times soon after they were healed"
    await endings.hand_over(parts, tx, ready, incident, why)
    stock.escalated += 1


async def _last_remedy(
    parts: Parts, tx: Transaction, ready: Ready, stock: Stock, incident: Incident, finding: Finding, turn: Turn
) -> None:
    """Try the remedy that comes last, or hand over to a person."""
    flapping = incident.regressions >= ladder.REGRESSIONS_MAX
    if ready.give_up in ready.remedies and not incident.memory.get("gave_up") and not flapping:
        stock.due.append(
            Due(incident=incident, finding=finding, remedy=ready.give_up, seen_at=stock.seen_at, final=True)
        )
        return
    memory = {**incident.memory, "flapping": True} if flapping else incident.memory
    await endings.hand_over(parts, tx, ready, replace(incident, memory=memory), turn.reason)
    stock.escalated += 1


async def _gone(
    parts: Parts, tx: Transaction, ready: Ready, stock: Stock, incident: Incident, runs: Sequence[Run], now: datetime
) -> None:
    """Close what is not found any more, unless it has to prove itself for longer."""
    turn = ladder.gone(ready, incident, now)
    if turn.next is Next.PROVEN:
        await endings.proven(parts, tx, ready, incident, runs, turn.reason)
        stock.resolved += 1
    elif incident.memory.get("flapping") and not incident.memory.get("clean_since"):
        await tx.incidents.save(replace(incident, memory={**incident.memory, "clean_since": now.isoformat()}))


async def _wait(tx: Transaction, incident: Incident, finding: Finding, turn: Turn, now: datetime, ready: Ready) -> None:
    """Note why nothing happens now, where that has changed."""
    memory = _remembered(ready, incident, finding, now)
    moved = (incident.held_reason, incident.next_at, dict(incident.memory)) != (turn.reason, turn.until, memory)
    if moved and incident.state not in (_I.ESCALATED, _I.SUPPRESSED, _I.HEALING):
        await tx.incidents.save(replace(incident, held_reason=turn.reason, next_at=turn.until, memory=memory))


def _seen_enough(ready: Ready, incident: Incident, finding: Finding, now: datetime) -> Turn:
    """Let a thing be acted on only when it was seen often enough, far enough apart."""
    wanted = ready.policy.sightings
    if wanted.count < 2:
        return Turn(Next.ACT, "it is due")
    apart = timedelta(seconds=wanted.apart_s * (wanted.count - 1))
    seen_at = datetime.fromisoformat(incident.memory.get("seen_at", now.isoformat()))
    again = "first seen now; it is looked at again before anything is deleted"
    if now - seen_at < apart:
        return Turn(Next.WAIT, again, seen_at + apart)
    if finding.keys and not set(map(str, finding.keys)) & set(incident.memory.get("seen", ())):
        return Turn(Next.WAIT, again, now + apart)
    return Turn(Next.ACT, "it was seen often enough")


def _targets(ready: Ready, incident: Incident, finding: Finding) -> Finding:
    """Cut a set of rows to those that were seen before, where two sightings are wanted, and that do not flap."""
    seen = set(incident.memory.get("seen", ())) if ready.policy.sightings.count > 1 else None
    flapping = {key for key, times in incident.memory.get("healed", {}).items() if times >= ladder.REGRESSIONS_MAX}
    if not finding.keys or (seen is None and not flapping):
        return finding
    keys = (key for key in finding.keys if str(key) not in flapping and (seen is None or str(key) in seen))
    return replace(finding, keys=tuple(keys))


def _remembered(ready: Ready, incident: Incident, finding: Finding, now: datetime) -> dict[str, Any]:
    """Remember what was seen and when, for the second sighting; the first look at a key is the one that counts."""
    memory = {**incident.memory, "facts": dict(finding.facts)}
    if ready.policy.sightings.count < 2:
        return memory
    seen, keys = set(memory.get("seen", ())), [str(key) for key in finding.keys]
    if "seen_at" not in memory or not seen & set(keys):
        return {**memory, "seen_at": now.isoformat(), "seen": keys}
    return memory


async def _open(
    parts: Parts, tx: Transaction, ready: Ready, fresh: Sequence[Finding], looked_at: datetime
) -> dict[str, Incident]:
    """Open an incident for each new finding; what came back soon takes its history along."""
    if not fresh:
        return {}
    now = parts.clock.now()
    previous = await tx.incidents.resolved_of_procedure(ready.name, [one.key for one in fresh], now - ladder.QUIET)
    new = [
        (_incident(parts, ready, one, previous.get(one.key), now), one)
        for one in fresh
        if one.key not in previous or _is_new(one, previous[one.key], looked_at)
    ]
    await tx.signals.add([(_signal(incident, finding, now), None, None) for incident, finding in new])
    opened = await tx.incidents.open_or_join_all([incident for incident, _ in new])
    await tx.signals.attach_each({one.signal_id: one.id for one in opened})
    await tx.audit.add(
        [trail.entry(parts, "incident.opened", one.service, reason=_why(one), incident=one.id) for one in opened]
    )
    await tx.metrics.add(_detected(ready, [finding for _, finding in new], now))
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
    fresh = replace(fresh, memory=_remembered(ready, fresh, finding, now))
    if previous is None:
        return fresh
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
    acted_there = ladder.acted_there(previous) or resolved_at
    return resolved_at is None or (looked_at > resolved_at and not ladder.is_old(finding, acted_there))


def _acted_since(incident: Incident, looked_at: datetime) -> bool:
    acted_at = incident.memory.get("acted_at")
    return acted_at is not None and datetime.fromisoformat(acted_at) > looked_at


def _why(opened: Incident) -> str:
    """Say why an incident was opened."""
    return f"{opened.because}; it was proven well lately and came back" if opened.previous_id else opened.because


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


def _detected(ready: Ready, found: Sequence[Finding], now: datetime) -> list[Daily]:
    counts: dict[tuple[str, str], int] = {}
    for one in found:
        place = (one.issue, ready.remedy_for(one))
        counts[place] = counts.get(place, 0) + 1
    day = now.date().isoformat()
    return [
        Daily(day=day, procedure=ready.name, issue=issue, action=action, detected=number)
        for (issue, action), number in counts.items()
    ]


async def _face_the_dead(
    parts: Parts, tx: Transaction, ready: Ready, known: dict[str, Incident], now: datetime
) -> dict[str, list[Run]]:
    """Face what a dead worker left in mid-call; return each incident's attempts that still need a word."""
    runs: dict[str, list[Run]] = {}
    for run in await tx.runs.unsettled_of([one.id for one in known.values()]):
        runs.setdefault(run.incident_id, []).append(run)
    for key, incident in list(known.items()):
        leased = incident.lease_until is not None and incident.lease_until > now
        dead = [run for run in runs.get(incident.id, ()) if run.state is RunState.RUNNING]
        if incident.state is not _I.HEALING or leased:
            continue
        known[key] = await endings.unknown(parts, tx, ready, incident, dead)
        repeated = [replace(run, state=RunState.UNKNOWN) for run in dead]
        runs[incident.id] = [run for run in runs.get(incident.id, ()) if run not in dead] + repeated
    return runs
