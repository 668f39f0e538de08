"""What a dead worker held goes on at once on another; what a living one holds is let alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from engine.world import World, play
from prunella.core.errors import StoreUnavailable
from prunella.core.states import IncidentState
from prunella.engine import workers


@pytest.mark.parametrize(("unseen_s", "is_dead"), [(4.9, False), (5.1, True)])
def test_incident_of_a_dead_worker_is_free_at_once(sqlite_path: Path, unseen_s: float, is_dead: bool) -> None:
    """Not seen for 5 s: the lease ends, the incident is submitted, and the audit says whose it was."""

    async def story(world: World) -> None:
        incident_id = (await world.fail()).incident_id or ""
        now = world.parts.clock.now()
        async with world.store.transaction() as tx:
            await tx.workers.beat("dead", "1", now)
            assert await tx.incidents.claim(incident_id, "dead", now, now + timedelta(seconds=600))
        await world.parts.runner.cancel("heal", incident_id)
        await world.later(unseen_s)
        await workers.beat(world.parts, "1")
        await workers.bury(world.parts)
        assert world.queued() == ([(incident_id,)] if is_dead else [])
        async with world.store.transaction() as tx:
            alive = [row["name"] for row in await tx.workers.all()]
            entries = [one for one in await tx.audit.list(most=10) if one.action == "worker.lost"]
        assert await workers.has_company(world.parts) is not is_dead
        assert (world.parts.worker in alive, "dead" in alive) == (True, not is_dead)
        assert [one.target for one in entries] == (["dead"] if is_dead else [])

    play(sqlite_path, story)


def test_incident_of_a_procedure_is_left_to_its_procedure(sqlite_path: Path) -> None:
    """What a check found and a dead worker held is looked after by its procedure, never by `heal`."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await world.parts.runner.cancel("heal", receipt.incident_id or "")
        now = world.parts.clock.now()
        async with world.store.transaction() as tx:
            found = replace(await tx.incidents.take(receipt.incident_id or ""), id="found", procedure="stuck-order")
            await tx.incidents.open_or_join(replace(found, fingerprint="other"))
            await tx.workers.beat("dead", "1", now)
            assert await tx.incidents.claim("found", "dead", now, now + timedelta(seconds=600))
        await world.later(5.1)
        await workers.bury(world.parts)
        assert world.queued() == []
        assert ("stuck-order",) in world.queued("procedure")

    play(sqlite_path, story)


def test_worker_that_was_only_frozen_cannot_write_over_its_successor(sqlite_path: Path) -> None:
    """Buried by mistake it beats again, and its incident is another's now."""

    async def story(world: World) -> None:
        incident_id = (await world.fail()).incident_id or ""
        await workers.beat(world.parts, "1")
        now = world.parts.clock.now()
        async with world.store.transaction() as tx:
            frozen = await tx.incidents.claim(incident_id, world.parts.worker, now, now + timedelta(seconds=600))
        assert frozen is not None
        await world.later(6)
        other = replace(world.parts, worker="other")
        await workers.beat(other, "1")
        await workers.bury(other)
        now = world.parts.clock.now()
        async with world.store.transaction() as tx:
            assert await tx.incidents.claim(incident_id, "other", now, now + timedelta(seconds=600))
        with pytest.raises(Exception, match="changed since it was read"):
            async with world.store.transaction() as tx:
                await tx.incidents.save(replace(frozen, state=IncidentState.OPEN))
        await workers.beat(world.parts, "1")
        await workers.leave(world.parts)
        async with world.store.transaction() as tx:
            assert [row["name"] for row in await tx.workers.all()] == ["other"]

    play(sqlite_path, story)


class Away:
    """A store that is away for a while, from one virtual second to another."""

    def __init__(self, world: World, since_s: float, until_s: float, error: Exception | None = None) -> None:
        self._world = world
        self._error = error or StoreUnavailable("PostgreSQL does not answer")
        self._since_s, self._until_s = since_s, until_s
        self.clock = world.parts.clock

    def transaction(self) -> object:
        if self._since_s <= asyncio.get_running_loop().time() < self._until_s:
            raise self._error
        return self._world.store.transaction()


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a mistake of ours")])
def test_outage_of_the_store_does_not_end_the_beating(sqlite_path: Path, error: Exception) -> None:
    """While the database is away, or whatever else stands in the way, nothing can be said; then it is seen again."""

    async def story(world: World) -> None:
        now_s = asyncio.get_running_loop().time()
        parts = replace(world.parts, store=Away(world, now_s, now_s + 2, error))  # type: ignore[arg-type]
        beating = asyncio.create_task(workers.keep_alive(parts, "1"))
        await world.later(4)
        beating.cancel()
        assert await _alive(world) == {world.parts.worker}

    play(sqlite_path, story)


def test_nobody_is_dead_to_one_that_was_away_itself(sqlite_path: Path) -> None:
    """After an outage, when everybody looks dead, the living have time to say so; who does not is buried."""

    async def story(world: World) -> None:
        now_s = asyncio.get_running_loop().time()
        parts = replace(world.parts, store=Away(world, now_s + 10, now_s + 70))  # type: ignore[arg-type]
        for name in ("slow", "dead"):
            await workers.beat(replace(world.parts, worker=name), "1")
        await world.later(6)
        for name in ("slow", "dead"):
            await workers.beat(replace(world.parts, worker=name), "1")
        beating = asyncio.create_task(workers.keep_alive(parts, "1"))
        await world.later(66.5)
        assert await _alive(world) == {world.parts.worker, "slow", "dead"}
        await workers.beat(replace(world.parts, worker="slow"), "1")
        await world.later(4)
        assert await _alive(world) == {world.parts.worker, "slow"}
        beating.cancel()

    play(sqlite_path, story)


async def _alive(world: World) -> set[str]:
    async with world.store.transaction() as tx:
        return {row["name"] for row in await tx.workers.all()}
