"""Everything that waits is found again in the tables, at every start and after every death."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import START, World, play
from prunella.core.events import Listeners
from prunella.core.states import IncidentState, RunState
from prunella.engine import patrol, people
from prunella.engine.parts import LEASE_S, Parts
from prunella.engine.reconcile import reconcile
from prunella.remedies.contract import Target
from prunella.runner.local import LocalRunner


def forgetful(world: World) -> Parts:
    """Return the parts of a new process: the same store, a runner that remembers nothing."""
    return replace(world.parts, runner=LocalRunner(world.parts.clock, Listeners()), worker="worker-2")


def waiting(parts: Parts, handler: str) -> dict[str, float]:
    """Return what waits for a handler: first id -> seconds."""
    assert isinstance(parts.runner, LocalRunner)
    return {one.ids[0]: round(one.due_in_s, 3) for one in parts.runner.in_memory() if one.handler == handler}


def test_everything_that_waits_is_submitted_at_its_time(sqlite_path: Path) -> None:
    """Due incidents now, later ones at their time, messages and procedures too; what rests or is over is left alone."""

    async def story(world: World) -> None:
        due = (await world.fail(operation="POST /a")).incident_id or ""
        later = (await world.fail(operation="POST /b")).incident_id or ""
        resting = (await world.fail(operation="POST /c")).incident_id or ""
        person = (await world.fail(operation="POST /d")).incident_id or ""
        closed = (await world.fail("shy", endpoint=None)).incident_id or ""
        await world.save(replace(await world.incident(later), next_at=START + timedelta(seconds=90)))
        await world.save(replace(await world.incident(resting), next_at=None))
        await people.act_on_incident(world.parts, person, "suppress", by="ada")
        await world.succeed("shy")
        parts = forgetful(world)
        procedures = patrol.rounds(parts.services, {})
        count = await reconcile(parts, procedures, alone=True)
        assert waiting(parts, "heal") == {due: 0.0, later: 90.0}
        assert closed not in waiting(parts, "heal")
        assert waiting(parts, "deliver") == {"ops": 0.0}
        assert set(waiting(parts, "procedure")) == {"scan", "probe:probed"}
        assert count == 2 + 1 + 2

    play(sqlite_path, story)


def test_reconciling_twice_submits_nothing_twice(sqlite_path: Path) -> None:
    """It may run whenever the runner's memory is in doubt."""

    async def story(world: World) -> None:
        await world.fail()
        parts = forgetful(world)
        for _ in range(3):
            await reconcile(parts, {}, alone=True)
        assert len(waiting(parts, "heal")) == 1

    play(sqlite_path, story)


@pytest.mark.parametrize(("alone", "due_s"), [(True, 0.0), (False, LEASE_S)])
def test_lease_of_a_dead_process_ends_at_once_where_nobody_else_is(
    sqlite_path: Path, alone: bool, due_s: float
) -> None:
    """Alone on the store whoever held a lease is dead; beside others it is waited for."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        now = world.parts.clock.now()
        async with world.parts.store.transaction() as tx:
            await tx.incidents.claim(receipt.incident_id or "", "dead", now, now + timedelta(seconds=LEASE_S))
        parts = forgetful(world)
        await reconcile(parts, {}, alone=alone)
        assert waiting(parts, "heal") == {receipt.incident_id: due_s}
        assert ((await world.incident(receipt.incident_id)).lease_until == now) is alone

    play(sqlite_path, story)


@pytest.mark.parametrize("alone", [True, False])
def test_other_leases_of_dead_processes_end_likewise(sqlite_path: Path, alone: bool) -> None:
    """A refresh under way, a procedure under way, a message being sent: taken back only when nobody else is there."""

    async def story(world: World) -> None:
        await world.fail()
        now, until = world.parts.clock.now(), world.parts.clock.now() + timedelta(seconds=600)
        await world.put_tokens()
        async with world.parts.store.transaction() as tx:
            held = await tx.credentials.read("oauthed", "")
            assert held is not None
            await tx.credentials.claim_refresh(held, "dead", now, until)
            await tx.procedures.register("scan")
            await tx.procedures.claim("scan", "dead", now, until)
            await tx.outbox.claim("ops", now, until, 10)
        await reconcile(forgetful(world), {}, alone=alone)
        async with world.parts.store.transaction() as tx:
            held = await tx.credentials.read("oauthed", "")
            assert held is not None
            rows: dict[str, Any] = (await tx.procedures.all())[0]
        states = {row.state for row in await world.told()}
        free = (held.refreshing_until is None, rows["lease_until"] is None, states == {"waiting"})
        assert free == (alone, alone, alone)

    play(sqlite_path, story)


def test_next_process_finishes_what_the_last_one_began(sqlite_path: Path) -> None:
    """Killed in mid-call: the new process faces the unknown attempt and goes on where the old one stood."""

    async def story(world: World) -> None:
        receipt = await world.fail(method="PUT")
        await world.heal(receipt.incident_id)
        await world.later(1)
        calling = asyncio.Event()

        async def hang(_: Target) -> None:
            calling.set()
            await asyncio.Event().wait()

        world.hands.during = hang
        work = asyncio.create_task(world.heal(receipt.incident_id))
        await calling.wait()
        work.cancel()
        await asyncio.wait([work])
        world.hands.during = None
        await reconcile(world.parts, {}, alone=True)
        assert world.due_in_s(receipt.incident_id or "") == 0.0
        await world.heal(receipt.incident_id)
        assert (await world.incident(receipt.incident_id)).state is IncidentState.RESOLVED
        assert [run.state for run in await world.runs(receipt.incident_id)] == [RunState.UNKNOWN, RunState.VERIFIED]

    play(sqlite_path, story)


def test_call_of_a_dead_worker_is_faced_although_a_person_took_over(sqlite_path: Path) -> None:
    """A person escalated it during the call, then the process died: the attempt ends as unknown, theirs it stays."""

    async def story(world: World) -> None:
        receipt = await world.fail(method="PUT")
        await world.heal(receipt.incident_id)
        await world.later(1)
        calling = asyncio.Event()

        async def hang(_: Target) -> None:
            await people.act_on_incident(world.parts, receipt.incident_id or "", "escalate", by="ada")
            calling.set()
            await asyncio.Event().wait()

        world.hands.during = hang
        work = asyncio.create_task(world.heal(receipt.incident_id))
        await calling.wait()
        work.cancel()
        await asyncio.wait([work])
        parts = forgetful(world)
        await reconcile(parts, {}, alone=True)
        assert waiting(parts, "heal") == {receipt.incident_id: 0.0}
        await world.heal(receipt.incident_id)
        one = await world.incident(receipt.incident_id)
        assert (one.state, one.held_reason, one.lease_until) == (IncidentState.ESCALATED, "escalated by ada", None)
        assert [run.state for run in await world.runs(one.id)] == [RunState.UNKNOWN]

    play(sqlite_path, story)
