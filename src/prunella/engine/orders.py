"""What a person may order about procedures: run one now, try it dry, heal one thing, pause, resume, undo.

A person outranks the schedule, never the rules: limits, levels and the state machine hold for orders, too.
"""

from __future__ import annotations

from dataclasses import replace

from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.findings import Finding
from prunella.core.records import Run
from prunella.core.states import RUN, IncidentState, RunState
from prunella.engine import opening, patrol, trail
from prunella.engine.parts import Parts
from prunella.engine.patrol import Round
from prunella.engine.pauses import EVERYTHING, KILL_SWITCH
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.sweep import Order, Swept, must_be_known, preview, sweep
from prunella.remedies.contract import Undone
from prunella.store.contract import again_on_conflict

_WAKE_AT_ONCE = 10_000


async def dry_run(parts: Parts, name: str, only: str | None = None) -> Swept:
    """Say what a procedure would do now; nothing is written and nobody is called."""
    return await preview(parts, must_be_known(parts, name), only)


async def run_now(parts: Parts, name: str, *, by: str) -> Swept:
    """Run a procedure now, as its schedule would.

    Raises:
        IllegalTransition: it runs already, or is paused.
    """
    ready = must_be_known(parts, name)
    swept: list[Swept] = []

    async def run(parts: Parts) -> dict[str, object]:
        swept.append(await sweep(parts, ready))
        return {**swept[0].as_log(), "by": by}

    async with parts.store.transaction() as tx:
        await trail.note(parts, tx, "procedure.run", name, reason="at once", by=by)
    policy = ready.policy
    one = Round(policy.name, policy.every_s, run, policy.cron, code=policy.id)
    if not await patrol.run_procedure(parts, one, tells=True):
        raise IllegalTransition(f"procedure {name} runs already, or is paused; look with: prunella procedures")
    return swept[0]


async def heal_one(
    parts: Parts, name: str, key: str, *, remedy: str | None, by: str, run_id: str | None = None
) -> Swept:
    """Heal one thing now, by the remedy that fits or the one that is named; `run_id` names the attempt.

    Raises:
        InvalidInput: the procedure has no such remedy.
    """
    ready = must_be_known(parts, name)
    if remedy is not None and remedy not in (*ready.remedies, MANUAL):
        known = ", ".join((*ready.remedies, MANUAL))
        raise InvalidInput(f"procedure {name} has no remedy {remedy[:100]!r}; known: {known}")
    async with parts.store.transaction() as tx:
        await trail.note(parts, tx, "entity.heal", key, reason=remedy or "as the ladder says", by=by)
    return await sweep(parts, ready, Order(only=key, remedy=remedy, by=by, run_id=run_id))


async def pause(parts: Parts, name: str | None, *, by: str, reason: str = "") -> None:
    """Let no step of a procedure begin, or of anything (`name` None: the kill switch), until somebody resumes it."""
    async with parts.store.transaction() as tx:
        if name is None:
            await tx.switches.put(KILL_SWITCH, by, reason, parts.clock.now())
        else:
            await tx.procedures.register(must_be_known(parts, name).name)
            await tx.procedures.pause(name, by)
        await trail.note(parts, tx, "pause", name or "everything", reason=reason, by=by)
    parts.pauses.forget()


async def resume(parts: Parts, name: str | None, *, by: str, reason: str = "") -> None:
    """End a pause, and look at everything that it held back."""
    async with parts.store.transaction() as tx:
        if name is None:
            was_paused = await tx.switches.drop(KILL_SWITCH)
        else:
            was_paused = (await tx.procedures.register(must_be_known(parts, name).name))["paused_by"] is not None
            await tx.procedures.pause(name, None)
        if not was_paused:
            raise IllegalTransition(f"{name or 'nothing as a whole'} is not paused; resume needs something that is")
        await trail.note(parts, tx, "resume", name or "everything", reason=reason, by=by)
    parts.pauses.forget()
    for one in [name] if name is not None else list(parts.procedures):
        await parts.runner.submit("procedure", one)
    if name is None:
        await _wake_all(parts)


async def undo(parts: Parts, run_id: str, *, by: str) -> Undone | None:
    """Put back what a run changed, where it still is as the run left it; None when there is no such run.

    Raises:
        IllegalTransition: the run changed nothing that could be put back, is under way, or was undone before.
    """
    async with parts.store.transaction() as tx:
        run = await tx.runs.get(run_id)
    if run is None:
        return None
    ready = parts.procedures.get(run.procedure)
    remedy = ready.remedies.get(run.remedy) if ready is not None else None
    if ready is None or remedy is None or not remedy.reversible:
        raise IllegalTransition(
            f"run {run_id} ({run.procedure or 'a recovery'}, {run.remedy}) can't be undone by machine"
        )
    if run.state in (RunState.RUNNING, RunState.PLANNED):
        raise IllegalTransition(f"run {run_id} is under way; wait for its end")
    if run.state is RunState.UNDONE:
        raise IllegalTransition(f"run {run_id} was undone before")
    undone = await remedy.undo(run_id)
    await _note_undone(parts, ready, run, undone, by)
    return undone


@again_on_conflict
async def _note_undone(parts: Parts, ready: Ready, run: Run, undone: Undone, by: str) -> None:
    """Write what was put back, and leave the resource to people: the machine must not do at once what they undid."""
    refused = f"; {len(undone.refused)} refused" if undone.refused else ""
    reason = f"{undone.restored} rows put back{refused}"
    async with parts.store.transaction() as tx:
        await tx.procedures.lock(run.procedure)
        await trail.note(parts, tx, "run.undone", run.resource, reason=reason, incident=run.incident_id, by=by)
        if not undone.restored:
            return
        if RUN.allows(run.state, RunState.UNDONE):
            await tx.runs.settle(replace(run, state=RunState.UNDONE, detail=f"undone by {by}: {run.detail}"), run.state)
        held = f"{run.remedy} was undone by {by}; it is not done again before a person retries"
        opened = await tx.incidents.open_of_procedure(run.procedure)
        incident = next((one for one in opened if one.resource == run.resource), None)
        if incident is None:
            finding = Finding(key=run.resource, issue=run.issue, message=held)
            fresh = opening.as_new(parts, ready, finding, parts.clock.now())
            incident = await tx.incidents.open_or_join(replace(fresh, signal_id=""))
        if incident.state is not IncidentState.SUPPRESSED:
            state = IncidentState.ESCALATED
            await tx.incidents.save(replace(incident, state=state, held_reason=held, next_at=None))


async def _wake_all(parts: Parts) -> None:
    """Look again at every incident that the kill switch held; what waits for another reason goes on waiting."""
    async with parts.store.transaction() as tx:
        waiting = await tx.incidents.list(most=_WAKE_AT_ONCE, state=[IncidentState.OPEN.value], procedure="")
        for incident in waiting:
            if (incident.held_reason or "").startswith(EVERYTHING):
                await patrol.wake(parts, tx, await tx.incidents.take(incident.id))
