"""Take stock: bring what a check found together with the incidents that are open, in one transaction.

What is new opens an incident, what is gone is proven well, what was tried and is still there did not help. What is
left is due: it comes back as cases, for the sweep to plan. Everything else has its reason in `waiting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from prunella.core.findings import Finding, Sighting
from prunella.core.records import Incident, Run
from prunella.core.states import IncidentState, RunState
from prunella.engine import endings, ladder, opening, recall
from prunella.engine.gathered import Gathered
from prunella.engine.ladder import Next, Turn

STORM = "storm"
"""The resource of a storm's own incident."""
_STORM_MIN = 20
_STORM_SHARE = 0.5
_I = IncidentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One thing that may be acted on now.

    Args:
        remedy: the name of the one that fits.
        looked_at, seen_at: when it was seen, by the store's clock and by its database's own.
        final: it is the remedy that comes last.
        again: the attempt that a dead worker left behind; it is made again under its key.
        run_id: how the attempt shall be called, where it was named before it began.
    """

    incident: Incident
    finding: Finding
    remedy: str
    looked_at: datetime
    seen_at: datetime
    final: bool = False
    again: Run | None = None
    run_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Stock:
    """What one look came to.

    Args:
        looked_at: when the look began, by the store's clock; what was done since then is not in it.
        seen_at: when that was by the database's own clock.
        waiting: key -> why nothing is done about it now.
    """

    looked_at: datetime
    seen_at: datetime
    due: list[Due] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    resolved: int = 0
    escalated: int = 0

    def add(self, incident: Incident, finding: Finding, remedy: str, *, final: bool, again: Run | None) -> None:
        """Note that something may be acted on now."""
        self.due.append(
            Due(
                incident=incident,
                finding=finding,
                remedy=remedy,
                looked_at=self.looked_at,
                seen_at=self.seen_at,
                final=final,
                again=again,
            )
        )


async def take(gathered: Gathered, sighting: Sighting, looked_at: datetime, only: str | None) -> Stock:
    """Write what the look means for every incident of the procedure; return what is due."""
    tx, now = gathered.tx, gathered.now
    stock = Stock(looked_at=looked_at, seen_at=sighting.at)
    known = {one.resource: one for one in await tx.incidents.open_of_procedure(gathered.ready.name)}
    raging = known.pop(STORM, None)
    if raging is not None and only is None and not is_storm(sighting):
        endings.proven(gathered, raging, [], "the storm is over")
        known = {key: _let_go(one, raging) for key, one in known.items()}
    unsettled = await _face_the_dead(gathered, known)
    found = {finding.key: finding for finding in sighting.findings}
    fresh = [one for key, one in found.items() if key not in known]
    opened = await opening.open_all(gathered, fresh, looked_at)
    await tx.incidents.seen_again([known[key].id for key in found if key in known], now)
    for key, finding in found.items():
        incident = known.get(key) or opened.get(key)
        if incident is None:
            stock.waiting[key] = "it was proven well after this look began, or nothing new has happened since"
        elif _moved_since(incident, looked_at):
            stock.waiting[key] = "it was acted on after this look began"
        else:
            await _judge(gathered, stock, incident, finding, unsettled.get(incident.id, []))
    for key, incident in known.items():
        if key not in found and sighting.is_complete and only in (None, key) and incident.last_seen <= looked_at:
            _gone(gathered, stock, incident, unsettled.get(incident.id, []))
    return stock


def is_storm(sighting: Sighting) -> bool:
    """Tell whether so many are stuck at once that they share a cause: more than half, and more than 20."""
    found, active = sighting.found, sighting.active
    return active is not None and found > _STORM_MIN and found > active * _STORM_SHARE


async def _judge(gathered: Gathered, stock: Stock, incident: Incident, finding: Finding, runs: Sequence[Run]) -> None:
    """Carry out what comes next for one thing that is found."""
    ready, now = gathered.ready, gathered.now
    if "clean_since" in incident.memory:
        incident = gathered.save(recall.without(incident, "clean_since"))
    done = next((run for run in runs if run.state is RunState.DONE), None)
    again = next((run for run in runs if run.state is RunState.UNKNOWN), None)
    turn = ladder.found(ready, incident, finding, done, now, repeats=ladder.outlived(again))
    if turn.next is Next.ACT:
        turn = recall.seen_enough(ready, incident, finding, now)
    if turn.next is Next.INEFFECTIVE and done is not None:
        incident = endings.ineffective(gathered, incident, done, turn.reason)
        turn = ladder.found(ready, incident, finding, None, now)
    if turn.next is Next.PROVEN:
        endings.proven(gathered, incident, runs, turn.reason)
        stock.resolved += 1
    elif turn.next is Next.GIVE_UP:
        await _give_up(gathered, stock, incident, finding, turn)
    elif turn.next is Next.ACT:
        await _plan(gathered, stock, incident, recall.targets(ready, incident, finding), again)
    else:
        stock.waiting[finding.key] = turn.reason
        _wait(gathered, incident, finding, turn)


async def _plan(gathered: Gathered, stock: Stock, incident: Incident, finding: Finding, again: Run | None) -> None:
    """Let a thing be acted on, unless all that is left of it flaps."""
    if finding.keys or finding.total is None:
        remedy = again.remedy if again is not None else gathered.ready.remedy_for(finding)
        stock.add(incident, finding, remedy, final=remedy == gathered.ready.give_up, again=again)
        return
    why = f"flapping: these rows came back {ladder.REGRESSIONS_MAX} times soon after they were healed"
    await endings.hand_over(gathered, incident, why)
    stock.escalated += 1


async def _give_up(gathered: Gathered, stock: Stock, incident: Incident, finding: Finding, turn: Turn) -> None:
    """Try the remedy that comes last, or hand over to a person."""
    ready = gathered.ready
    flapping = incident.regressions >= ladder.REGRESSIONS_MAX
    if ready.give_up in ready.remedies and not incident.memory.get("gave_up") and not flapping:
        stock.add(incident, finding, ready.give_up, final=True, again=None)
        return
    memory = {**incident.memory, "flapping": True} if flapping else incident.memory
    await endings.hand_over(gathered, replace(incident, memory=memory), turn.reason)
    stock.escalated += 1


def _gone(gathered: Gathered, stock: Stock, incident: Incident, runs: Sequence[Run]) -> None:
    """Close what is not found any more, unless it has to prove itself for longer."""
    turn = ladder.gone(gathered.ready, incident, gathered.now)
    if turn.next is Next.PROVEN:
        endings.proven(gathered, incident, runs, turn.reason)
        stock.resolved += 1
    elif incident.memory.get("flapping") and not incident.memory.get("clean_since"):
        memory = {**incident.memory, "clean_since": gathered.now.isoformat()}
        gathered.save(replace(incident, memory=memory))


def _wait(gathered: Gathered, incident: Incident, finding: Finding, turn: Turn) -> None:
    """Note why nothing happens now, where that has changed."""
    if incident.state in (_I.ESCALATED, _I.SUPPRESSED, _I.HEALING):
        return
    memory = recall.remembered(gathered.ready, incident, finding, gathered.now)
    seen_anew = memory.get("seen_at") != incident.memory.get("seen_at")
    if seen_anew or (incident.held_reason, incident.next_at) != (turn.reason, turn.until):
        gathered.save(replace(incident, held_reason=turn.reason, next_at=turn.until, memory=memory))


def _let_go(incident: Incident, storm: Incident) -> Incident:
    """End what a storm held back until its next probe."""
    is_held = incident.next_at is not None and incident.next_at == storm.next_at
    return replace(incident, next_at=None, held_reason=None) if is_held else incident


def _moved_since(incident: Incident, looked_at: datetime) -> bool:
    acted_at = incident.memory.get("acted_at")
    return acted_at is not None and datetime.fromisoformat(acted_at) > looked_at


async def _face_the_dead(gathered: Gathered, known: dict[str, Incident]) -> dict[str, list[Run]]:
    """Face what a dead worker left in mid-call; return each incident's attempts that still need a word."""
    runs: dict[str, list[Run]] = {}
    for run in await gathered.tx.runs.unsettled_of([one.id for one in known.values()]):
        runs.setdefault(run.incident_id, []).append(run)
    for key, incident in list(known.items()):
        leased = incident.lease_until is not None and incident.lease_until > gathered.now
        dead = [run for run in runs.get(incident.id, ()) if run.state is RunState.RUNNING]
        if leased or not (dead or incident.state is _I.HEALING):
            continue
        known[key] = await endings.unknown(gathered, incident, dead)
        kept = [run for run in runs.get(incident.id, ()) if run not in dead]
        runs[incident.id] = kept + [replace(run, state=RunState.UNKNOWN) for run in dead]
    return runs
