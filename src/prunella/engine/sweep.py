"""sweep(procedure): the story of one look and what follows from it, on one screen.

A sweep looks, takes stock, plans, asks what it may do, acts in waves and looks again. What it finds in the way is
written on the incidents, so that every hold and skip can be seen; nothing sleeps here, a wait is a due time in the
tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from prunella.core.errors import InvalidInput
from prunella.core.findings import Sighting
from prunella.core.records import Run
from prunella.core.states import IncidentState, RunState
from prunella.engine import limits, notices, proposals, stock, storm, trail
from prunella.engine.gatekeeper import Answer, Verdict
from prunella.engine.limits import Situation
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.engine.stock import Due
from prunella.engine.waves import Attempt, carry_out, look
from prunella.store.contract import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person wants of a sweep, beyond its schedule.

    Args:
        only: look after this resource alone, whatever its cool-down.
        remedy: do this about it, instead of what the ladder says.
        by: who asks.
    """

    only: str | None = None
    remedy: str | None = None
    by: str = ""


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
            self.failed += not one.outcome.ok
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
    swept = Swept(found=len(sighting.findings))
    async with parts.store.transaction() as tx:
        taken = await stock.take(parts, tx, ready, sighting, looked_at, order.only)
        if not sighting.findings:
            await proposals.close_empty(parts, tx, ready)
    swept.resolved, swept.escalated, swept.waiting = taken.resolved, taken.escalated, taken.waiting
    due = await _ordered(parts, ready, sighting, taken.due, order)
    situation = await _situation(parts, ready, sighting, due)
    swept.verdict = limits.admit(situation)
    if due:
        swept.plan = await proposals.draw(ready, due)
        if await _may_run(parts, situation, swept.plan, swept.verdict):
            await _heal(parts, situation, swept)
    await _come_back(parts, ready)
    return swept


async def preview(parts: Parts, ready: Ready, only: str | None = None) -> Swept:
    """Say what a sweep would do now, cool-downs and sightings aside; nothing is written, nothing is called."""
    sighting = await look(ready, only)
    now = parts.clock.now()
    due = [stock.as_new(parts, ready, finding, now) for finding in sighting.findings]
    situation = await _situation(parts, ready, sighting, due)
    plan = await proposals.draw(ready, due) if due else None
    return Swept(found=len(due), plan=plan, verdict=limits.admit(situation))


async def _ordered(parts: Parts, ready: Ready, sighting: Sighting, due: Sequence[Due], order: Order) -> list[Due]:
    """Apply what a person ordered: one thing, now, by the remedy of their choice."""
    if order.only is None:
        return list(due)
    finding = next((one for one in sighting.findings if one.key == order.only), None)
    if finding is None:
        return []
    async with parts.store.transaction() as tx:
        incident = next(
            (one for one in await tx.incidents.open_of_procedure(ready.name) if one.resource == order.only), None
        )
    if incident is None or (incident.lease_until is not None and incident.lease_until > parts.clock.now()):
        return []
    remedy = order.remedy or ready.remedy_for(finding)
    final = remedy == ready.give_up
    return [Due(incident=incident, finding=finding, remedy=remedy, seen_at=sighting.at, final=final)]


async def _situation(parts: Parts, ready: Ready, sighting: Sighting, due: Sequence[Due]) -> Situation:
    async with parts.store.transaction() as tx:
        row = await tx.procedures.register(ready.name)
    return Situation(
        ready=ready,
        due=due,
        sighting=sighting,
        rest=await parts.pauses.now(),
        paused_by=row["paused_by"],
        now=parts.clock.now(),
    )


async def _may_run(parts: Parts, situation: Situation, plan: dict[str, Any], verdict: Verdict) -> bool:
    """Write what the rules said; tell whether the plan may be carried out now."""
    if verdict.answer is Answer.RUN:
        return True
    async with parts.store.transaction() as tx:
        if verdict.answer is Answer.PROPOSE:
            return await proposals.granted(parts, tx, situation.ready, plan, situation.due)
        if verdict.answer is Answer.REFUSE:
            await proposals.as_runbook(parts, tx, situation.ready, plan, situation.due)
        else:
            await _hold(parts, tx, situation, verdict)
    return False


async def _hold(parts: Parts, tx: Transaction, situation: Situation, verdict: Verdict) -> None:
    """Write on each incident why it is held and until when; what only a person can lift is told once."""
    spread = timedelta(seconds=parts.rng.random() * 60.0)  # or everything that waited begins at the same moment
    until = verdict.until + spread if verdict.until is not None else None
    for one in situation.due:
        if one.incident.held_reason != verdict.reason:
            await tx.incidents.save(replace(one.incident, held_reason=verdict.reason, next_at=until))
            await trail.note(
                parts, tx, "incident.held", one.finding.key, reason=verdict.reason, incident=one.incident.id
            )
    if situation.rest is None and situation.paused_by is None:
        incident = situation.due[0].incident
        link = trail.link(parts, incident.id)
        await trail.tell(parts, tx, [notices.held(situation.ready.policy, incident, verdict.reason, link)])


async def _heal(parts: Parts, situation: Situation, swept: Swept) -> None:
    """Act in waves, each looked at before the next one begins; stop at the first bad one."""
    ready, due = situation.ready, situation.due
    raging = stock.is_storm(situation.sighting)
    if raging and not await storm.may_probe(parts, situation):
        swept.hold(due, "held: a storm; one probe at a time")
        return
    outside = any(ready.remedies[one.remedy].outside for one in due if one.remedy in ready.remedies)
    left = limits.waves(ready.policy.limits.waves, due) if outside or raging else [list(due)]
    is_probe = raging
    while left:
        rest = await parts.pauses.now()
        if rest is not None:
            swept.hold([one for wave in left for one in wave], rest.reason)
            break
        attempts = await carry_out(parts, ready, left.pop(0), counts=not is_probe)
        swept.add(attempts)
        well = not limits.is_bad([one.outcome for one in attempts], alone=is_probe)
        if raging:
            await storm.after_wave(parts, situation, well=well, is_last=not left)
        if not well:
            swept.hold([one for wave in left for one in wave], "held: the wave before went badly")
            break
        is_probe = False
    await _last_chances(parts, ready, swept)


async def _last_chances(parts: Parts, ready: Ready, swept: Swept) -> None:
    """Try the remedy that comes last at once for those whose last attempt has just failed."""
    failed = {run.resource for run in swept.runs if run.state in (RunState.FAILED, RunState.TIMED_OUT)}
    if not failed or ready.give_up not in ready.remedies:
        return
    async with parts.store.transaction() as tx:
        spent = [
            one
            for one in await tx.incidents.open_of_procedure(ready.name)
            if one.resource in failed and one.attempts >= ready.attempts and one.state is IncidentState.OPEN
        ]
    if not spent:
        return
    sighting = await look(ready)
    found = {one.key: one for one in sighting.findings}
    final = [
        Due(incident=one, finding=found[one.resource], remedy=ready.give_up, seen_at=sighting.at, final=True)
        for one in spent
        if one.resource in found and not one.memory.get("gave_up")
    ]
    if final:
        swept.add(await carry_out(parts, ready, final, counts=False))


async def _come_back(parts: Parts, ready: Ready) -> None:
    """Look again when the next of its incidents is due, if that is before the schedule."""
    async with parts.store.transaction() as tx:
        waiting = [
            one.next_at
            for one in await tx.incidents.open_of_procedure(ready.name)
            if one.next_at is not None and one.state is not IncidentState.ESCALATED
        ]
    now = parts.clock.now()
    upcoming = [moment for moment in waiting if moment > now]
    if upcoming:
        await parts.runner.submit("procedure", ready.name, at=min(upcoming))


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
