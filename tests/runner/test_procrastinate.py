"""The runner on PostgreSQL, where it has more to promise than a contract: its tables and its place among others."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from prunella.core.events import Listeners
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
