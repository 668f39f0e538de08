"""sweep(procedure): the story of one look and what follows from it, on one screen.

A sweep looks, takes stock, plans, asks what it may do, acts in waves and looks again. What it finds in the way is
written on the incidents, so that every hold and skip can be seen; nothing sleeps here, a wait is a due time in the
tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from prunella.core.errors import Conflict, InvalidInput
from prunella.core.findings import Sighting
from prunella.core.records import Run
from prunella.core.states import IncidentState, RunState
from prunella.engine import figures, limits, notices, opening, proposals, stock, storm, trail
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.gathered import gathering
from prunella.engine.limits import Situation
from prunella.engine.pace import Pace
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.engine.stock import Due, Stock
from prunella.engine.waves import Attempt, carry_out, look
from prunella.store.contract import again_on_conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person wants of a sweep, beyond its schedule.

    Args:
        only: look after this resource alone, whatever its cool-down.
        remedy: do this about it, instead of what the ladder says.
        by: who asks.
        run_id: how the attempt shall be called, where it was named before it began.
    """

    only: str | None = None
    remedy: str | None = None
    by: str = ""
    run_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a sweep came to.

    Args:
        plan: what would be, or was, done; None where nothing was due.
        verdict: what the rules said to it.
        waiting: key -> why nothing was done about it.
    """

    found: int = 0
    healed: int = 0
    failed: int = 0
    resolved: int = 0
    escalated: int = 0
    plan: dict[str, Any] | None = None
    verdict: Verdict | None = None
    waiting: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Count what came of some attempts."""
        for one in attempts:
            self.runs.append(one.run)
            self.healed += one.outcome.ok and not one.outcome.skipped
            self.failed += not (one.outcome.ok or one.outcome.busy)
            self.resolved += one.state is IncidentState.RESOLVED
            self.escalated += one.state is IncidentState.ESCALATED

    def hold(self, due: Sequence[Due], reason: str) -> None:
        """Note why nothing is done about some things."""
        self.waiting |= dict.fromkeys((one.finding.key for one in due), reason)

    def as_log(self) -> dict[str, Any]:
        """Return what the healing log shall say."""
        figures = {name: getattr(self, name) for name in ("found", "healed", "failed", "resolved", "escalated")}
        held = {"held": self.verdict.reason} if self.verdict and self.verdict.answer is not Answer.RUN else {}
        return {name: value for name, value in figures.items() if value or name == "found"} | held


async def sweep(parts: Parts, ready: Ready, order: Order | None = None) -> Swept:
    """Look once, and heal what is due.

    Raises:
        DatabaseUnavailable, DatabaseRefused: the check can't be carried out; nothing was done.
    """
    order = order or Order()
    looked_at = parts.clock.now()
    sighting = await look(ready, order.only)
    taken = await _take_stock(parts, ready, sighting, looked_at, order.only)
    if order.only is None:
        await proposals.close_empty(parts, ready)
    swept = Swept(
        found=len(sighting.findings), resolved=taken.resolved, escalated=taken.escalated, waiting=taken.waiting
    )
    due, beyond = limits.cut(ready, await _ordered(parts, ready, sighting, taken, order))
    await _leave(parts, ready, swept, beyond, f"more than {ready.policy.limits.targets_max} at once; the next run")
    situation = await _situation(parts, ready, sighting, due)
    swept.verdict = limits.admit(situation)
    if due:
        swept.plan = await proposals.draw(ready, due)
        if await _may_run(parts, situation, swept):
            await _heal(parts, situation, swept)
    if swept.failed:
        await figures.raise_alarm(parts)
    await _come_back(parts, ready)
    return swept


async def preview(parts: Parts, ready: Ready, only: str | None = None) -> Swept:
    """Say what a sweep would do now, cool-downs and sightings aside; nothing is written, nothing is called."""
    sighting = await look(ready, only)
    now = parts.clock.now()
    stocked = Stock(looked_at=now, seen_at=sighting.at)
    for finding in sighting.findings:
        incident = opening.as_new(parts, ready, finding, now)
        stocked.add(incident, finding, ready.remedy_for(finding), final=False, again=None)
    due, _ = limits.cut(ready, stocked.due)
    situation = await _situation(parts, ready, sighting, due)
    plan = await proposals.draw(ready, due) if due else None
    return Swept(found=len(sighting.findings), plan=plan, verdict=limits.admit(situation))


@again_on_conflict
async def _take_stock(parts: Parts, ready: Ready, sighting: Sighting, looked_at: datetime, only: str | None) -> Stock:
    async with gathering(parts, ready) as gathered:
        taken = await stock.take(gathered, sighting, looked_at, only)
        taken.due = [replace(one, incident=gathered.as_written(one.incident)) for one in taken.due]
    return taken


async def _ordered(parts: Parts, ready: Ready, sighting: Sighting, taken: Stock, order: Order) -> list[Due]:
    """Apply what a person ordered: one thing, now, by the remedy of their choice."""
    if order.only is None:
        return taken.due
    finding = next((one for one in sighting.findings if one.key == order.only), None)
    if finding is None:
        return []
    async with parts.store.transaction() as tx:
        opened = await tx.incidents.open_of_procedure(ready.name)
    incident = next((one for one in opened if one.resource == order.only), None)
    if incident is None or (incident.lease_until is not None and incident.lease_until > parts.clock.now()):
        return []
    remedy = order.remedy or ready.remedy_for(finding)
    dead = next((one.again for one in taken.due if one.again is not None and one.again.remedy == remedy), None)
    chosen = Stock(looked_at=taken.looked_at, seen_at=taken.seen_at)
    chosen.add(incident, finding, remedy, final=remedy == ready.give_up, again=dead)
    return [replace(one, run_id=order.run_id) for one in chosen.due]


async def _situation(parts: Parts, ready: Ready, sighting: Sighting, due: Sequence[Due]) -> Situation:
    rest = await parts.pauses.now()
    async with parts.store.transaction() as tx:
        paused_by = await tx.procedures.paused_by(ready.name)
    now = parts.clock.now()
    return Situation(ready=ready, due=due, sighting=sighting, rest=rest, paused_by=paused_by, now=now)


async def _may_run(parts: Parts, situation: Situation, swept: Swept) -> bool:
    """Write what the rules said; tell whether the plan may be carried out now."""
    verdict, plan, ready = swept.verdict, swept.plan, situation.ready
    assert verdict is not None
    assert plan is not None
    if verdict.answer is Answer.RUN:
        return True
    if verdict.answer is Answer.WAIT:
        await _hold(parts, situation, swept, verdict)
        return False
    try:
        async with gathering(parts, ready) as gathered:
            if verdict.answer is Answer.PROPOSE and await proposals.granted(gathered, plan, situation.due):
                return True
            if verdict.answer is Answer.REFUSE:
                await proposals.as_runbook(gathered, plan, situation.due)
    except Conflict:
        swept.hold(situation.due, "it changed while it was looked at; the next look decides")
        return False
    swept.hold(situation.due, verdict.reason)
    return False


async def _hold(parts: Parts, situation: Situation, swept: Swept, verdict: Verdict) -> None:
    """Write on each incident why it is held and until when; what only a person can lift is told once."""
    spread = timedelta(seconds=parts.rng.random() * 60.0)  # or everything that waited begins at the same moment
    until = verdict.until + spread if verdict.until is not None else None
    ready, incident = situation.ready, situation.due[0].incident
    await _leave(parts, ready, swept, situation.due, verdict.reason, until)
    if situation.rest is None and situation.paused_by is None:
        async with gathering(parts, ready) as gathered:
            gathered.tell(notices.held(ready.policy, incident, verdict.reason, trail.link(parts, incident.id)))


async def _leave(
    parts: Parts, ready: Ready, swept: Swept, due: Sequence[Due], reason: str, until: datetime | None = None
) -> None:
    """Leave some things alone, and write on each why; one that somebody else has changed meanwhile is theirs."""
    swept.hold(due, reason)
    unsaid = {one.incident.id: one for one in due if one.incident.held_reason != reason}
    if not unsaid:
        return
    async with gathering(parts, ready) as gathered:
        for incident_id in await gathered.tx.incidents.hold_all(
            [one.incident for one in unsaid.values()], reason, until
        ):
            gathered.note("incident.held", unsaid[incident_id].finding.key, reason=reason, incident=incident_id)


async def _heal(parts: Parts, situation: Situation, swept: Swept) -> None:
    """Act in waves, each looked at before the next one begins; stop at the first bad one."""
    ready, due = situation.ready, list(situation.due)
    raging = stock.is_storm(situation.sighting)
    if raging:
        due = await _probe(parts, situation, swept)
        if not due:
            return
    outside = raging or any(ready.remedies[one.remedy].outside for one in due if one.remedy in ready.remedies)
    well = await _in_waves(parts, ready, swept, limits.waves(ready.policy.limits.waves, due) if outside else [due])
    if raging:
        await storm.after_waves(parts, situation, well=well)
    if well and swept.verdict is not None and swept.verdict.answer is Answer.RUN:
        await _last_chances(parts, ready, swept)


async def _probe(parts: Parts, situation: Situation, swept: Swept) -> list[Due]:
    """Send one probe into a storm where its time has come; return what may follow in waves."""
    ready = situation.ready
    stage, reason = await storm.stage(parts, situation)
    if stage is storm.Stage.WAVES:
        return list(situation.due)
    if stage is storm.Stage.NOTHING:
        swept.hold(situation.due, reason)
        return []
    first, *rest = storm.in_turn(situation.due, await storm.sent(parts, situation))
    attempts = await carry_out(parts, ready, [first], counts=False)
    swept.add(attempts)
    if not await storm.after_probe(parts, situation, attempts):
        await _leave(parts, ready, swept, rest, "a storm: the probe has not healed, so the rest waits for the next one")
        return []
    return rest


async def _in_waves(parts: Parts, ready: Ready, swept: Swept, left: list[list[Due]]) -> bool:
    """Carry out waves until one goes badly or everything is to rest; False where something was left."""
    pace = Pace(parts.clock)
    while left:
        wave = left.pop(0)
        attempts: list[Attempt] = []
        while wave:
            reason, until = await _must_rest(parts, ready)
            if reason is not None:
                await _leave(parts, ready, swept, [*wave, *(one for later in left for one in later)], reason, until)
                swept.add(attempts)
                return False
            some, wave = wave[: pace.size], wave[pace.size :]
            with pace.measured(len(some)):
                made = await carry_out(parts, ready, some)
            swept.hold(_lost(some, made), "somebody else was quicker")
            attempts += made
        swept.add(attempts)
        if limits.is_bad([one.is_bad for one in attempts]):
            rest = [one for later in left for one in later]
            await _leave(parts, ready, swept, rest, "the wave before went badly; the next run tries one first")
            return not rest
    return True


def _lost(wanted: Sequence[Due], made: Sequence[Attempt]) -> list[Due]:
    """Return what could not be claimed."""
    won = {one.run.incident_id for one in made}
    return [one for one in wanted if one.incident.id not in won]


async def _must_rest(parts: Parts, ready: Ready) -> tuple[str | None, datetime | None]:
    """Ask again before each step whether it may begin: a person may have thrown the switch."""
    rest = await parts.pauses.now()
    if rest is not None:
        return rest.reason, rest.until
    async with parts.store.transaction() as tx:
        by = await tx.procedures.paused_by(ready.name)
    return (limits.paused(ready, by) if by is not None else None), None


async def _last_chances(parts: Parts, ready: Ready, swept: Swept) -> None:
    """Try the remedy that comes last at once for those whose last attempt has just failed."""
    failed = {run.resource for run in swept.runs if run.state in (RunState.FAILED, RunState.TIMED_OUT)}
    if not failed or ready.give_up not in ready.remedies:
        return
    async with parts.store.transaction() as tx:
        spent = {
            one.resource: one
            for one in await tx.incidents.open_of_procedure(ready.name)
            if one.resource in failed and one.attempts >= ready.attempts and one.state is IncidentState.OPEN
        }
    if not spent:
        return
    looked_at = parts.clock.now()
    sighting = await look(ready)
    last = Stock(looked_at=looked_at, seen_at=sighting.at)
    for finding in sighting.findings:
        if finding.key in spent and not spent[finding.key].memory.get("gave_up"):
            last.add(spent[finding.key], finding, ready.give_up, final=True, again=None)
    await _in_waves(parts, ready, swept, limits.waves(ready.policy.limits.waves, last.due))


async def _come_back(parts: Parts, ready: Ready) -> None:
    """Look again when the next of its incidents is due, or a lease on one ends, if that is before the schedule."""
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        moment = await tx.incidents.next_of_procedure(ready.name, now)
    if moment is not None:
        await parts.runner.submit("procedure", ready.name, at=moment)


def must_be_known(parts: Parts, name: str) -> Ready:
    """Return a procedure by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    found = parts.procedures.get(name)
    if found is None:
        known = ", ".join(sorted(parts.procedures)) or "none"
        raise InvalidInput(f"there is no procedure {name[:100]!r}; known: {known}")
    return found
