"""The runner on PostgreSQL, where it has more to promise than a contract: its tables and its place among others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
import pytest

from engine.crew import engine
from prunella.core.events import Listeners
from prunella.engine import patrol
from prunella.engine.parts import Parts
from prunella.engine.patrol import Round
from prunella.runner.contract import Handler
from prunella.runner.procrastinate import ProcrastinateRunner, install
from prunella.store import migrations
from prunella.store.contract import Store
from runner.ground import Calls, Ground, queue_of, running, waiting, workers

pytestmark = pytest.mark.anyio


async def test_queue_stands_in_our_schema_and_is_made_once(fresh_postgres_url: str) -> None:
    """Started together, processes make the queue's tables once, beside ours; `public` stays empty."""
    migrations.upgrade(fresh_postgres_url)
    await asyncio.gather(*(install(fresh_postgres_url) for _ in range(3)))
    with psycopg.connect(fresh_postgres_url) as connection:
        tables = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'procrastinate_jobs'")
        assert tables.fetchall() == [("prunella",)]
        public = connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert public.fetchone() == (0,)


@pytest.mark.parametrize("pooled", [False, True])
async def test_call_is_never_beside_itself_on_two_workers(migrated_postgres_url: str, pooled: bool) -> None:
    """Submitted all the time a key runs on one worker at a time, while both are busy; no submission is lost."""
    async with workers(migrated_postgres_url, 2, pooled=pooled, concurrency=8) as (_, runners):
        calls, submitted, seen = Calls(), 0, 0

        async def work(one: str) -> None:
            nonlocal seen
            if one == "a":
                seen = submitted
                await asyncio.sleep(0.001)  # the other worker has its chance
            else:
                await calls.until(lambda: len(set(calls.by)) == 2)  # more than one of them can hold

        for number, runner in enumerate(runners):
            runner.handle("heal", calls.handler("heal", str(number), work))
        async with running(*runners):
            for submitted in range(1, 41):
                await runners[submitted % 2].submit("heal", "a")
                await runners[submitted % 2].submit("heal", f"other {submitted}")
                if submitted == 1:
                    await calls.until(lambda: "a" in calls.ids)
            await calls.until(lambda: seen == 40 and len(set(calls.ids)) == 41)
        assert calls.ids.count("a") > 1
        assert calls.beside_itself == []


async def test_call_waits_for_a_worker_that_knows_it(migrated_postgres_url: str) -> None:
    """While an old worker runs beside a new one, it leaves alone what only the new one can do, and ends well."""
    async with workers(migrated_postgres_url, 2) as (_, (old, new)):
        calls = Calls()
        old.handle("heal", calls.handler("heal", "old", None))
        new.handle("heal", calls.handler("heal", "new", None))
        new.handle("invented", calls.handler("invented", "new", None))
        async with running(old):
            await old.submit("invented", "b")
            await old.submit("heal", "a")
            await calls.times(1)
            assert [one.handler for one in await old.queued() if not one.running] == ["invented"]
            async with running(new):
                await calls.until(lambda: ("invented", "b") in calls.begun)
        assert calls.by[calls.begun.index(("invented", "b"))] == "new"


async def test_round_runs_once_per_tick_however_many_workers(migrated_postgres_url: str) -> None:
    """Three workers that all schedule it: one run per tick."""
    async with workers(migrated_postgres_url, 3) as (ground, runners):
        began: list[datetime] = []
        calls = await _crew(ground, runners, Round("tick", 0.5, partial(_tick, began)))
        await runners[0].submit("procedure", "tick")  # now instead of soon after the start
        async with running(*runners):
            await calls.times(4)
        gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(began)]
        assert len(gaps) >= 3
        assert sum(gaps) / len(gaps) > 0.4  # one that began late makes one gap shorter; two a tick halve them all


async def test_missed_ticks_are_made_up_for_once(migrated_postgres_url: str) -> None:
    """All workers were away for hours: one run makes up for all ticks, and the next comes at its time."""
    async with workers(migrated_postgres_url, 3) as (ground, runners):
        began: list[datetime] = []
        await runners[0].submit("procedure", "hourly", at=ground.after(-4 * 3600))
        calls = await _crew(ground, runners, Round("hourly", 3600.0, partial(_tick, began)))
        async with running(*runners):
            await calls.times(1)
            left = await waiting(runners[0])
        assert (len(began), left.ids) == (1, ("hourly",))
        assert 3500 < left.due_in_s <= 3600


async def test_worker_that_ends_is_seen_to_live_until_its_last_call(migrated_postgres_url: str) -> None:
    """While a stopping worker waits for a slow call it goes on saying that it lives; else another would take it over."""
    async with workers(migrated_postgres_url, 1) as (_, (runner,)):
        calls, go = Calls(), asyncio.Event()
        runner.handle("heal", calls.handler("heal", "", lambda *_: go.wait()))
        with queue_of(migrated_postgres_url) as ask:
            async with running(runner):
                await runner.submit("heal", "a")
                await calls.until(lambda: len(calls.begun) == 1)
                stopping = asyncio.create_task(runner.stop())
                await asyncio.sleep(0)
                ((before,),) = ask("SELECT last_heartbeat FROM procrastinate_workers")
                async with asyncio.timeout(10):
                    while ask("SELECT last_heartbeat FROM procrastinate_workers") == [(before,)]:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                go.set()
                await stopping
            assert ask("SELECT id FROM procrastinate_workers") == []
            assert ask("SELECT id FROM procrastinate_jobs") == []


async def _crew(ground: Ground, runners: Sequence[ProcrastinateRunner], one: Round) -> Calls:
    """Let one engine per runner schedule a round and be ready to run it."""
    calls = Calls()
    for number, runner in enumerate(runners):
        parts = engine(ground.store, f"worker {number}", runner=runner)
        runner.handle("procedure", calls.handler("procedure", parts.worker, partial(_run, parts, one)))
        await patrol.schedule(parts, {one.name: one})
    return calls


async def _run(parts: Parts, one: Round, _: str) -> None:
    await patrol.run_procedure(parts, one)


async def _tick(began: list[datetime], parts: Parts) -> Mapping[str, Any]:
    began.append(parts.clock.now())
    return {}


async def test_submitting_many_survives_a_deadlock(migrated_postgres_url: str) -> None:
    """Two that queue the same calls in opposite orders wait for each other: PostgreSQL ends one, and it tries again."""
    quick = (
        f"{migrated_postgres_url}{'&' if '?' in migrated_postgres_url else '?'}options=-c%20deadlock_timeout%3D200ms"
    )
    async with workers(migrated_postgres_url, 1) as (ground, (other,)):
        runner = ProcrastinateRunner(quick, ground.store.clock, Listeners())  # it waits first and shorter: it is ended
        async with ground.store.transaction() as tx:
            await other.submit("heal", "b", tx=tx)
            many = asyncio.create_task(runner.submit_many([(("heal", "a"), None), (("heal", "b"), None)]))
            async with asyncio.timeout(10):
                while not await _somebody_waits(ground.store):
                    await ground.store.clock.sleep(0.02)
            await other.submit("heal", "a", tx=tx)
        async with asyncio.timeout(10):
            await many
        assert sorted(one.ids for one in await runner.queued()) == [("a",), ("b",)]
        await runner.close()


async def _somebody_waits(store: Store) -> bool:
    """Tell whether somebody waits for somebody else's row."""
    async with store.transaction() as tx:
        found = await (await tx.driver.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")).fetchone()
    return bool(found[0])


async def test_call_that_is_cut_off_is_called_on_another_worker(migrated_postgres_url: str) -> None:
    """A worker that must end cuts off what takes too long, and another one begins it at once, once."""
    begun: asyncio.Queue[int] = asyncio.Queue()

    def handler(place: int) -> Handler:
        async def heal(_: str) -> None:
            begun.put_nowait(place)
            if place == 0:
                await asyncio.sleep(60)

        return heal

    async with workers(migrated_postgres_url, 2) as (_, runners):
        for place, runner in enumerate(runners):
            runner.handle("heal", handler(place))
        first = asyncio.create_task(runners[0].run())
        await runners[0].submit("heal", "a")
        async with asyncio.timeout(10):
            assert await begun.get() == 0
            second = asyncio.create_task(runners[1].run())
            await runners[0].stop(0.1)
            await first
            assert await begun.get() == 1
        await runners[1].stop()
        await second
        assert begun.empty()


async def test_call_that_was_being_fetched_is_cut_off_as_well(migrated_postgres_url: str) -> None:
    """Told to stop at once while a fetch is under way: what it brings is left to another worker, and the stop ends."""
    async with workers(migrated_postgres_url, 1) as (_, (runner,)):
        begun: list[str] = []

        async def handler(one: str) -> None:
            begun.append(one)
            await asyncio.sleep(60)

        runner.handle("heal", handler)
        await runner.submit("heal", "a")
        with psycopg.connect(migrated_postgres_url) as held, queue_of(migrated_postgres_url) as ask:
            held.execute("LOCK TABLE prunella.procrastinate_jobs IN EXCLUSIVE MODE")
            work = asyncio.create_task(runner.run())
            async with asyncio.timeout(10):
                while not ask("SELECT 1 FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110, it says so to nobody
                    await asyncio.sleep(0.01)
            stopping = asyncio.create_task(runner.stop(0))
            await asyncio.sleep(0.05)
            held.rollback()
            async with asyncio.timeout(5):
                await stopping
                await work
            assert begun == []
            assert ask("SELECT status::text FROM procrastinate_jobs") == [("todo",)]


@pytest.mark.parametrize("refused", ["DELETE", "INSERT"])
async def test_call_whose_end_was_refused_is_called_again(migrated_postgres_url: str, refused: str) -> None:
    """What can't be written when a call ends, or has raised, holds its key up for seconds, and loses nothing."""
    async with workers(migrated_postgres_url, 1) as (_, (runner,)):
        calls = Calls()

        async def work(_: str) -> None:
            if refused == "INSERT" and len(calls.begun) == 1:
                raise RuntimeError("to be called again")

        runner.handle("heal", calls.handler("heal", "", work))
        await runner.submit("heal", "a")
        with queue_of(migrated_postgres_url) as ask:
            ask(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
                f"CREATE TRIGGER refuse BEFORE {refused} ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
            try:
                async with running(runner):
                    await calls.times(1)
                    await asyncio.sleep(0.2)  # its end is refused
                    ask("DROP FUNCTION refuse CASCADE")
                    await calls.times(2)
            finally:
                ask("DROP FUNCTION IF EXISTS refuse CASCADE")
            assert ask("SELECT status FROM procrastinate_jobs") == []


async def test_worker_goes_on_saying_that_it_lives(
    migrated_postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever PostgreSQL answers to one heartbeat, the next one comes: a silent worker would be taken for dead."""
    async with workers(migrated_postgres_url, 1) as (_, (runner,)):
        runner.handle("heal", Calls().handler("heal", "", None))
        with queue_of(migrated_postgres_url) as ask:
            async with running(runner), asyncio.timeout(10):
                while not ask("SELECT id FROM procrastinate_workers"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                ask("ALTER TABLE procrastinate_workers RENAME COLUMN last_heartbeat TO hidden")
                try:
                    while "could not say" not in caplog.text:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                finally:
                    ask("ALTER TABLE procrastinate_workers RENAME COLUMN hidden TO last_heartbeat")
                fresh = "SELECT id FROM procrastinate_workers WHERE last_heartbeat > %s"
                ((now,),) = ask("SELECT now()")
                while not ask(fresh, now):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
