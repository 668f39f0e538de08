"""Connections that are idle for too long are ended; those that do something, or are ours, never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from prunella.core.errors import DatabaseRefused
from prunella.core.findings import Finding
from prunella.core.procedures import EndIdleRemedy
from prunella.databases.handle import Database
from prunella.remedies.contract import Assignment
from prunella.remedies.pool import EndIdle
from users import opened

pytestmark = pytest.mark.anyio

FINDING = Finding(key="pool", issue="POOL_HIGH", message="…")
GIVEN = Assignment(run_id="run-1", incident_id="i", attempt=1, idempotency_key="k", finding=FINDING)


def alive(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether a connection still is one."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


async def test_only_idle_connections_are_ended(fresh_postgres_url: str, postgres_url: str) -> None:
    """Transactions, listeners, holders of locks, other databases and ourselves are left alone; the rest is counted."""
    idle, busy, listens, locks = (psycopg.connect(fresh_postgres_url, autocommit=True) for _ in range(4))
    elsewhere = psycopg.connect(postgres_url, autocommit=True)
    for one in (idle, listens, locks, elsewhere):
        one.execute("SELECT 1")
    busy.autocommit = False
    busy.execute("SELECT 1")
    listens.execute("LISTEN orders")
    locks.execute("SELECT pg_advisory_lock(7)")
    try:
        async with opened(fresh_postgres_url) as database, opened(fresh_postgres_url, "SELECT 1") as other:
            remedy = EndIdle(database, EndIdleRemedy(idle_for_s=0))
            preview = await remedy.preview(FINDING)
            assert preview.words == "ends 1 connections that have been idle for more than 0 s"
            assert [one["pid"] for one in preview.before] == [idle.info.backend_pid]
            assert alive(idle)
            (outcome,) = await remedy.apply([GIVEN])
            assert (outcome.ok, outcome.touched) == (True, 1)
            assert [alive(one) for one in (idle, busy, listens, locks, elsewhere)] == [False, True, True, True, True]
            assert await other.reading(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
            assert "can't be brought back" in (await remedy.undo("run-1")).refused["run-1"]
    finally:
        for one in (idle, busy, listens, locks, elsewhere):
            one.close()


async def test_connection_that_worked_lately_is_left_alone(fresh_postgres_url: str) -> None:
    """Nothing that was used within the time is ended; that is no failure."""
    with psycopg.connect(fresh_postgres_url, autocommit=True) as lately:
        lately.execute("SELECT 1")
        async with opened(fresh_postgres_url) as database:
            (outcome,) = await EndIdle(database).apply([GIVEN])
        assert (outcome.ok, outcome.skipped) == (True, True)
        assert alive(lately)


async def test_file_has_no_connections_to_end(tmp_path: Path) -> None:
    """On SQLite the remedy says that it is for PostgreSQL."""
    async with opened(f"sqlite:///{tmp_path}/shop.db") as database:
        assert isinstance(database, Database)
        (outcome,) = await EndIdle(database).apply([GIVEN])
        assert not outcome.ok
        with pytest.raises(DatabaseRefused, match="is for PostgreSQL"):
            await EndIdle(database).preview(FINDING)
