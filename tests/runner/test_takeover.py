"""What dead workers and lost answers leave behind in the queue is found; what lives is let alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from engine.crew import engine
from engine.world import CRM
from prunella.core.clock import SystemClock
from prunella.core.outcomes import Outcome
from prunella.core.records import Failure, Request, Signal
from prunella.engine import people
from prunella.engine.heal import heal
from prunella.engine.intake import Intake
from prunella.engine.parts import Parts
from prunella.engine.reconcile import reconcile
from prunella.runner.contract import STALE_S
from prunella.runner.procrastinate import ProcrastinateRunner
from prunella.runner.rows import Rows
from prunella.runner.tables import Tables
from prunella.runner.takeover import Takeover
from prunella.store.contract import Store
from runner.ground import Calls, queue_of, running, workers

pytestmark = pytest.mark.anyio


class Jump(SystemClock):
    """A process's own clock that a test may put forward: as if it had been frozen, or as if time had gone by."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


@dataclass
class Place:
    """A worker's place in the queue, and what goes on behind its back."""

    takeover: Takeover
    clock: Jump
    worker: int
    ask: Callable[..., list[tuple[Any, ...]]]
    store: Store
    runner: ProcrastinateRunner

    async def steady(self) -> None:
        """Let it beat for so long that it knows who lives."""
        for _ in range(int(STALE_S) + 1):
            self.clock.ahead_s += 1
            await self.takeover.beat(self.worker)

    def dies_over(self, name: str) -> None:
        """Let a worker take a call and die between that and its first step."""
        ((worker,),) = self.ask("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        taken = "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE args -> 'ids' ->> 0 = %s"
        self.ask(taken, worker, name)
        self.ask("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 s' WHERE id = %s", worker)

    def standing(self) -> list[tuple[Any, ...]]:
        """Return status and deaths of every call, and whether it is put off."""
        query = "SELECT status, (args ->> 'deaths')::int, scheduled_at > now() FROM procrastinate_jobs ORDER BY id"
        return self.ask(query)


@pytest.fixture
async def place(anyio_backend: str, migrated_postgres_url: str) -> AsyncIterator[Place]:
    """Lend a worker's place in an empty queue."""
    async with workers(migrated_postgres_url, 1) as (ground, (runner,)):
        clock = Jump()
        tables = Tables(migrated_postgres_url, clock, pooled=False)
        takeover = Takeover(tables, clock)
        with queue_of(migrated_postgres_url) as ask:
            yield Place(takeover, clock, await Rows(tables, takeover).register_worker(), ask, ground.store, runner)
        await tables.close()


async def test_call_of_a_dead_worker_is_queued_again(place: Place) -> None:
    """Not seen for 5 s it is dead, and its call is queued at once, once, with what was submitted meanwhile."""
    await place.steady()
    await place.runner.submit("heal", "a")
    place.dies_over("a")
    await place.runner.submit("heal", "a")
    both = await asyncio.gather(place.takeover.take_over(), place.takeover.take_over())
    assert sorted(map(len, both)) == [0, 1]
    assert place.standing() == [("todo", 1, None)]


async def test_living_worker_keeps_its_call_however_long_it_takes(place: Place) -> None:
    """It goes by heartbeats: a call that began an hour ago under a worker that lives is not touched."""
    await place.steady()
    await place.runner.submit("heal", "a")
    place.dies_over("a")
    place.ask("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '4 s'")
    place.ask("UPDATE procrastinate_events SET at = at - interval '1 hour'")
    assert await place.takeover.take_over() == []
    assert place.standing() == [("doing", None, None)]


async def test_nobody_is_dead_to_one_that_was_away_itself(place: Place) -> None:
    """After an outage, when everybody looks dead, the living have time to say so before anybody is buried."""
    await place.steady()
    place.clock.ahead_s += 60
    await place.runner.submit("heal", "a")
    place.dies_over("a")
    await place.takeover.beat(place.worker)
    assert await place.takeover.take_over() == []
    await place.steady()
    assert len(await place.takeover.take_over()) == 1


async def test_call_that_kills_its_workers_is_put_off(place: Place) -> None:
    """After five deaths it waits, a minute at first, whoever submits it meanwhile; a cancel forgets them."""
    await place.steady()
    await place.runner.submit("heal", "poison")
    for deaths in range(1, 6):
        place.dies_over("poison")
        await place.runner.submit("heal", "poison")
        assert [args["deaths"] for args in await place.takeover.take_over()] == [deaths]
        assert place.standing() == [("todo", deaths, True if deaths == 5 else None)]
    await place.runner.submit("heal", "poison")
    await place.runner.submit_many([(("heal", "poison"), None)])
    assert place.standing() == [("todo", 5, True)]
    await place.runner.cancel("heal", "poison")
    await place.runner.submit("heal", "poison")
    assert place.standing() == [("todo", None, None)]


async def test_deaths_over_a_call_that_got_on_are_forgotten(place: Place) -> None:
    """A call that achieved something is no poison, whoever dies over it next; what was rolled back counts for nothing."""
    seen = []

    async def work(name: str) -> None:
        with suppress(InterruptedError):
            async with place.store.transaction() as tx:
                await place.runner.gets_on("heal", name, tx=tx)
                raise InterruptedError
        seen.append(place.standing())
        async with place.store.transaction() as tx:
            await place.runner.gets_on("heal", name, tx=tx)
        seen.append(place.standing())

    calls = Calls()
    place.runner.handle("heal", calls.handler("heal", "", work))
    await place.steady()
    await place.runner.submit("heal", "a")
    for _ in range(4):
        place.dies_over("a")
        await place.takeover.take_over()
    async with running(place.runner):
        await calls.times(1)
    assert seen == [[("doing", 4, None)], [("doing", None, None)]]


async def test_heal_that_settled_an_attempt_got_on(place: Place) -> None:
    """A wave whose outcome is written is something achieved, also where the next one kills its worker."""
    seen = []

    async def answered(*_: Any) -> Outcome:
        return Outcome.failed("HTTP 503")

    parts = engine(place.store, "worker", runner=place.runner, services={"crm": CRM}, act=answered)
    request = Request(method="GET", endpoint="/0")
    await Intake(parts).accept(replace(_failure(parts, 0), request=request))
    place.ask("UPDATE procrastinate_jobs SET args = args || '{\"deaths\": 4}', scheduled_at = NULL")

    async def work(incident_id: str) -> None:
        place.ask("UPDATE operations SET due_at = now()")
        await heal(parts, incident_id)
        seen.append(place.ask("SELECT (args ->> 'deaths')::int FROM procrastinate_jobs WHERE status = 'doing'"))

    calls = Calls()
    place.runner.handle("heal", calls.handler("heal", "", work))
    async with running(place.runner):
        await calls.times(1)
    assert seen == [[(None,)]]


async def test_person_brings_forward_what_was_put_off(place: Place) -> None:
    """Who retries an incident over which workers died has looked why; it goes on at once, its deaths forgotten."""
    parts = engine(place.store, "worker", runner=place.runner, services={"crm": CRM})
    failure = replace(_failure(parts, 0), request=Request(method="GET", endpoint="/0"))
    incident_id = (await Intake(parts).accept(failure)).incident_id or ""
    await place.steady()
    for _ in range(5):
        place.dies_over(incident_id)
        await place.takeover.take_over()
    await people.act_on_incident(parts, incident_id, "retry", by="ada")
    mine = (
        "SELECT (args ->> 'deaths')::int, scheduled_at > now() FROM procrastinate_jobs WHERE args -> 'ids' ->> 0 = %s"
    )
    assert place.ask(mine, incident_id) == [(None, None)]


async def test_poison_is_told(migrated_postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The worker that finds the fifth death says so in its log."""
    async with workers(migrated_postgres_url, 1) as (_, (runner,)):
        runner._taken_over({"name": "heal", "ids": ["a"], "deaths": 4})
        assert caplog.messages == []
        runner._taken_over({"name": "heal", "ids": ["a"], "deaths": 5})
        assert caplog.messages == ["heal:a: 5 workers died over it; it is put off, for longer each time"]


async def test_call_whose_answer_was_lost_is_called_all_the_same(migrated_postgres_url: str) -> None:
    """Begun in the table under a living worker that never heard of it, it is called soon, and counts no death."""
    async with workers(migrated_postgres_url, 1) as (ground, (runner,)):
        calls = Calls()
        runner.handle("heal", calls.handler("heal", "", None))
        with queue_of(migrated_postgres_url) as ask:
            async with running(runner):
                await runner.submit("heal", "first")
                await calls.times(1)
                await runner.submit("heal", "lost", at=ground.after(60))
                ask(
                    "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)"
                )
                await calls.times(2)
        assert calls.ids == ["first", "lost"]


async def test_emptied_queue_is_filled_by_reconcile(migrated_postgres_url: str) -> None:
    """Its tables emptied under a running worker, workers included: it takes its place again, and nothing is lost."""
    async with workers(migrated_postgres_url, 1) as (ground, (runner,)):
        calls = Calls()
        parts = engine(ground.store, "worker", runner=runner, services={"crm": CRM})
        receipts = [await Intake(parts).accept(_failure(parts, number)) for number in range(3)]
        for name in ("heal", "deliver"):
            runner.handle(name, calls.handler(name, "", None))
        with queue_of(migrated_postgres_url) as ask:
            ask("TRUNCATE procrastinate_jobs CASCADE")
            async with running(runner):
                await runner.submit("heal", "before")
                await calls.times(1)
                ask("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")
                assert await reconcile(parts, {}, alone=False) == 4
                await calls.times(5)
                assert len(ask("SELECT id FROM procrastinate_workers")) == 1
        called = {key[1] for key in calls.begun if key[0] == "heal"}
        assert called == {"before", *(receipt.incident_id for receipt in receipts)}
        assert ("deliver", "ops") in calls.begun


def _failure(parts: Parts, number: int) -> Signal:
    now = parts.clock.now()
    return Signal(
        id=parts.ids.new(),
        source="webhook",
        event_id=f"event-{number}",
        service="crm",
        occurred_at=now,
        received_at=now,
        failure=Failure(service="crm", status=503, operation=f"GET /{number}"),
        request=None,
    )
