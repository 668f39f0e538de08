"""The runner on PostgreSQL, where it has more to promise than a contract: its tables and its place among others."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from prunella.core.events import Listeners
from prunella.runner.contract import Handler
from prunella.runner.procrastinate import ProcrastinateRunner, install
from prunella.store import migrations
from prunella.store.postgres import PostgresStore

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
async def test_call_stands_or_falls_with_the_row_it_is_about(fresh_postgres_url: str, pooled: bool) -> None:
    """Submitted in a transaction of the store: rolled back it is never called, committed it is called."""
    migrations.upgrade(fresh_postgres_url)
    await install(fresh_postgres_url)
    store = await PostgresStore.open(fresh_postgres_url)
    runner = ProcrastinateRunner(fresh_postgres_url, store.clock, Listeners(), pooled=pooled)
    called: list[str] = []
    done = asyncio.Event()

    async def heal(incident_id: str) -> None:
        called.append(incident_id)
        done.set()

    runner.handle("heal", heal)
    running = asyncio.create_task(runner.run())
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as tx:
            await runner.submit("heal", "lost", tx=tx)
            raise ZeroDivisionError
    async with store.transaction() as tx:
        await runner.submit("heal", "kept", tx=tx)
    async with asyncio.timeout(10):
        await done.wait()
    await runner.stop()
    await running
    await store.close()
    assert called == ["kept"]


async def test_submitting_many_survives_a_deadlock(fresh_postgres_url: str) -> None:
    """Two that queue the same calls in opposite orders wait for each other: PostgreSQL ends one, and it tries again."""
    migrations.upgrade(fresh_postgres_url)
    await install(fresh_postgres_url)
    store = await PostgresStore.open(fresh_postgres_url)
    quick = f"{fresh_postgres_url}{'&' if '?' in fresh_postgres_url else '?'}options=-c%20deadlock_timeout%3D200ms"
    runner = ProcrastinateRunner(quick, store.clock, Listeners())  # it waits first and shorter, so it is the one ended
    async with store.transaction() as tx:
        await runner.submit("heal", "b", tx=tx)
        many = asyncio.create_task(runner.submit_many([(("heal", "a"), None), (("heal", "b"), None)]))
        async with asyncio.timeout(10):
            while not await _waiting(store):
                await store.clock.sleep(0.02)
        await runner.submit("heal", "a", tx=tx)
    async with asyncio.timeout(10):
        await many
    assert sorted(one.ids for one in await runner.queued()) == [("a",), ("b",)]
    await runner.close()
    await store.close()


async def _waiting(store: PostgresStore) -> bool:
    """Tell whether somebody waits for somebody else's row."""
    async with store.transaction() as tx:
        found = await (await tx.driver.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")).fetchone()
    return bool(found[0])


async def test_call_that_is_cut_off_is_called_on_another_worker(fresh_postgres_url: str) -> None:
    """A worker that must end cuts off what takes too long, and another one begins it at once, once."""
    migrations.upgrade(fresh_postgres_url)
    await install(fresh_postgres_url)
    store = await PostgresStore.open(fresh_postgres_url)
    runners = [ProcrastinateRunner(fresh_postgres_url, store.clock, Listeners()) for _ in range(2)]
    begun: asyncio.Queue[int] = asyncio.Queue()

    def handler(place: int) -> Handler:
        async def heal(_: str) -> None:
            begun.put_nowait(place)
            if place == 0:
                await asyncio.sleep(60)

        return heal

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
    await store.close()


async def test_worker_that_stops_stays_alive_while_its_last_call_runs(fresh_postgres_url: str) -> None:
    """Others take a call for abandoned only when nobody beats for it: a slow one is not begun a second time."""
    migrations.upgrade(fresh_postgres_url)
    await install(fresh_postgres_url)
    store = await PostgresStore.open(fresh_postgres_url)
    runner = ProcrastinateRunner(fresh_postgres_url, store.clock, Listeners())
    begun, end = asyncio.Event(), asyncio.Event()

    async def heal(_: str) -> None:
        begun.set()
        await end.wait()

    runner.handle("heal", heal)
    running = asyncio.create_task(runner.run())
    await runner.submit("heal", "a")
    async with asyncio.timeout(10):
        await begun.wait()
        stopping = asyncio.create_task(runner.stop(30))
        ages: list[float] = []
        with psycopg.connect(fresh_postgres_url, autocommit=True) as server:
            server.execute("UPDATE prunella.procrastinate_workers SET last_heartbeat = now() - interval '4 s'")
            while len(ages) < 2 or ages[-1] > 1.5:
                seen = "SELECT extract(epoch FROM now() - last_heartbeat)::float FROM prunella.procrastinate_workers"
                ages.append((server.execute(seen).fetchone() or (0.0,))[0])
                await asyncio.sleep(0.05)
        end.set()
        await stopping
        await running
    await store.close()
