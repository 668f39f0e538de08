"""`/readyz` means it: the database answers, its tables fit, the worker is alive, and nobody told it to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from prunella.app.life import Life
from prunella.core.clock import SystemClock
from prunella.core.errors import StoreUnavailable
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore

pytestmark = pytest.mark.anyio

WELL = dict.fromkeys(("stopping", "database", "schema", "worker"), "ok")
UNKNOWN = "unknown while the database is away"


@pytest.fixture
async def life(anyio_backend: str) -> AsyncIterator[Life]:
    """A process that works."""
    living = Life()
    living.work = asyncio.create_task(SystemClock().sleep(60))
    yield living
    living.work.cancel()


async def test_process_that_works_is_ready(life: Life, store: Store) -> None:
    """Everything that was looked at is named."""
    assert await life.checks(store, None) == WELL


async def test_process_that_was_told_to_stop_is_not_ready(life: Life, store: Store) -> None:
    """From the signal on, whatever else is well."""
    life.stopping.set()
    assert await life.checks(store, None) == {**WELL, "stopping": "this process was told to stop"}


async def test_work_that_ended_is_seen(life: Life, store: Store) -> None:
    """Where nothing carries out work, events would pile up here."""
    assert life.work is not None
    life.work.cancel()
    await asyncio.wait({life.work})
    assert "has ended; the log says why" in (await life.checks(store, None))["worker"]
    assert "nothing carries out work" in (await Life().checks(store, None))["worker"]


async def test_runner_that_takes_no_calls_is_seen(life: Life, store: Store) -> None:
    """Its way to the queue may be another than the store's, and cut while that one answers."""
    life.trouble = lambda: "the queue was not heard of for 5 s"
    assert (await life.checks(store, None))["worker"] == "the queue was not heard of for 5 s"


@pytest.mark.parametrize(("age_s", "found"), [(3, "ok"), (6, "not seen for 5 s; others take it for dead")])
async def test_worker_that_others_take_for_dead_is_not_ready(
    life: Life, store: Store, age_s: float, found: str
) -> None:
    """A process whose beats do not arrive loses its work to others."""
    async with store.transaction() as tx:
        await tx.workers.beat("me", "1", store.clock.now() - timedelta(seconds=age_s))
        await tx.workers.beat("other", "1", store.clock.now())
    assert (await life.checks(store, "me"))["worker"].endswith(found)


async def test_older_tables_are_not_ready_and_newer_are(life: Life, migrated_postgres_url: str) -> None:
    """A process waits for its tables; one that is being replaced by a newer version goes on."""
    store = await PostgresStore.open(migrated_postgres_url)
    with psycopg.connect(migrated_postgres_url, autocommit=True) as server:
        (head,) = server.execute("SELECT version_num FROM prunella.alembic_version").fetchone() or ("",)
        try:
            server.execute("UPDATE prunella.alembic_version SET version_num = '0001'")
            assert "at revision 0001, this version needs" in (await life.checks(store, None))["schema"]
            server.execute("UPDATE prunella.alembic_version SET version_num = '9999'")
            assert await life.checks(store, None) == WELL
        finally:
            server.execute("UPDATE prunella.alembic_version SET version_num = %s", [head])
    await store.close()


async def test_database_that_is_silent_is_told_in_time(life: Life) -> None:
    """No answer within 2 s is no; asking is over by then, whatever the driver waits for."""

    class Silent:
        clock = SystemClock()

        async def revision(self) -> str:
            await SystemClock().sleep(60)
            return ""

    began = time.monotonic()
    checks = await life.checks(Silent(), "me")  # type: ignore[arg-type]
    assert checks == {"stopping": "ok", "database": "no answer within 2 s", "schema": UNKNOWN, "worker": UNKNOWN}
    assert time.monotonic() - began < 3


async def test_database_that_is_away_is_told(life: Life) -> None:
    """With the reason, in the store's own words."""

    class Away:
        clock = SystemClock()

        async def revision(self) -> str:
            raise StoreUnavailable("PostgreSQL can't be used: its disk is full")

    checks = await life.checks(Away(), None)  # type: ignore[arg-type]
    assert checks["database"] == "PostgreSQL can't be used: its disk is full"
