"""Somebody else writes at the same moment: no row is changed that is no longer as it was seen."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from databases.shop import Shop
from prunella.checks.orphans import Orphans
from prunella.core.clock import SystemClock
from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.core.procedures import OrphansCheck
from prunella.databases.handle import Database
from prunella.remedies.contract import Assignment
from prunella.remedies.rows import ArchiveAndDelete, SetRows

pytestmark = pytest.mark.anyio

_TABLES = (
    "CREATE TABLE parents (id int PRIMARY KEY)",
    "CREATE TABLE children (id int PRIMARY KEY, parent int, hidden boolean, at timestamptz)",
    "INSERT INTO parents VALUES (1)",
    "INSERT INTO children SELECT n, 99, false, now() - interval '1 day' FROM generate_series(1, 9) AS n",
)
_CHECK = OrphansCheck(child="children", column="parent", parent="parents", older_than={"at": 60.0})
_ADOPTED = {
    "given to a parent that was there": ("UPDATE children SET parent = 1 WHERE id = 5",),
    "given a parent that is new": ("INSERT INTO parents VALUES (99)", "UPDATE children SET at = at WHERE id = 5"),
    "given a parent under its old number": ("INSERT INTO parents VALUES (99)", "SELECT 1 FROM children FOR UPDATE"),
}


def assignment(*keys: Any) -> Assignment:
    """Return an assignment for rows of these keys."""
    finding = Finding(key="rows", issue="ROWS_MATCH", message="…", keys=keys, count=len(keys))
    return Assignment(run_id="run", incident_id="incident", attempt=1, idempotency_key="key", finding=finding)


async def while_held(shop: Shop, remedy: Any, keys: tuple[Any, ...], *statements: str) -> Outcome:
    """Let a remedy begin while another writer's statements are not committed yet, and commit them once it waits."""
    clock = SystemClock()
    until = clock.monotonic() + 20
    with psycopg.connect(shop.url) as writer:
        for one in statements:
            writer.execute(one.encode())
        acting = asyncio.create_task(remedy.apply([assignment(*keys)]))
        while not shop.rows("SELECT 1 FROM pg_locks WHERE NOT granted") and clock.monotonic() < until:
            await asyncio.to_thread(shop.rows, "SELECT pg_stat_clear_snapshot()")  # the others have a turn
        assert not acting.done()
        writer.commit()
    (outcome,) = await acting
    return outcome  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", _ADOPTED)
@pytest.mark.parametrize("deletes", [True, False])
async def test_orphan_that_gets_a_parent_while_the_remedy_waits_for_it_is_left_alone(
    pg_shop: Shop, how: str, deletes: bool
) -> None:
    """The row is judged by its parents as they are when the wait is over, not as they were when it began."""
    pg_shop.run(*_TABLES)
    database = pg_shop.handle()
    still = Orphans(database, _CHECK).condition
    remedy: Any = (
        ArchiveAndDelete(database, "children", still=still)
        if deletes
        else SetRows(database, "children", {"hidden": True}, still=still)
    )
    await while_held(pg_shop, remedy, (5,), *_ADOPTED[how])
    assert pg_shop.rows("SELECT id FROM children WHERE id = 5 AND NOT hidden") == [(5,)]
    assert pg_shop.rows("SELECT count(*) FROM prunella.archive") == [(0,)]


async def test_row_that_gets_a_child_while_the_remedy_waits_takes_no_child_with_it(pg_shop: Shop) -> None:
    """A child that is inserted at the same moment would go by ON DELETE CASCADE, and no archive would hold it."""
    pg_shop.run(
        "CREATE TABLE carts (id int PRIMARY KEY)",
        "CREATE TABLE items (id int PRIMARY KEY, cart int REFERENCES carts ON DELETE CASCADE)",
        "INSERT INTO carts VALUES (1), (2)",
    )
    database: Database = pg_shop.handle()
    remedy = ArchiveAndDelete(database, "carts")
    outcome = await while_held(pg_shop, remedy, (1, 2), "INSERT INTO items VALUES (7, 1)")
    assert outcome.touched == 1
    assert pg_shop.rows("SELECT carts.id, items.id FROM carts JOIN items ON cart = carts.id") == [(1, 7)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_remedy_acts_the_same_whatever_isolation_the_role_comes_with(pg_shop: Shop, level: str) -> None:
    """What is judged anew after a wait needs READ COMMITTED; a role's own default doesn't count."""
    pg_shop.run(*_TABLES)
    database = pg_shop.handle(
        query={"options": f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"}
    )
    remedy = ArchiveAndDelete(database, "children", still=Orphans(database, _CHECK).condition)
    outcome = await while_held(pg_shop, remedy, (4, 5), *_ADOPTED["given to a parent that was there"])
    assert (outcome.ok, outcome.touched) == (True, 1)


async def test_14_a_writer_that_commits_children_before_their_parents_loses_none(pg_shop: Shop) -> None:
    """Scenario 14: the age guard and a second sighting leave every live row alone, and the dead ones go."""
    pg_shop.run(*_TABLES)
    database = pg_shop.handle()
    check = Orphans(database, OrphansCheck(child="children", column="parent", parent="parents", older_than={"at": 1.0}))
    remedy = ArchiveAndDelete(database, "children", still=check.condition, batch=2)

    def write() -> None:
        with psycopg.connect(pg_shop.url, autocommit=True) as writer:
            for number in range(1000, 1400):
                writer.execute("INSERT INTO children VALUES (%s, %s, false, clock_timestamp())", (number, number))
                writer.execute("INSERT INTO parents VALUES (%s)", (number,))

    async def keys() -> set[Any]:
        return {key for finding in (await check.look()).findings for key in finding.keys}

    writing, looks = asyncio.create_task(asyncio.to_thread(write)), 0
    seen: set[Any] = set()
    while not writing.done() or looks < 3:
        found, looks = await keys(), looks + 1
        if found & seen:
            await remedy.apply([assignment(*sorted(found & seen))])
        seen = found
    await writing
    assert pg_shop.rows("SELECT count(*), min(id) FROM children") == [(400, 1000)]
    assert pg_shop.rows("SELECT count(*) FROM prunella.archive") == [(9,)]


async def test_batch_that_meets_a_lock_is_left_and_the_others_go_on(pg_shop: Shop) -> None:
    """A row that somebody holds fails its own batch after lock_timeout, whole and with its reason."""
    pg_shop.run(*_TABLES)
    remedy = SetRows(pg_shop.handle(lock_timeout_s=0.2), "children", {"hidden": True}, batch=3)
    with psycopg.connect(pg_shop.url) as other:
        other.execute("SELECT FROM children WHERE id = 5 FOR UPDATE")
        (outcome,) = await remedy.apply([assignment(*range(1, 10))])
    assert (outcome.ok, outcome.touched) == (False, 6)
    assert outcome.detail.startswith("changed 6 of 9 rows of children; 1 batch failed, the first with: database shop:")
    assert "lock timeout" in outcome.detail
    assert pg_shop.rows("SELECT id FROM children WHERE NOT hidden ORDER BY id") == [(4,), (5,), (6,)]
    assert pg_shop.rows("SELECT count(*) FROM prunella.archive") == [(6,)]


async def test_two_undos_at_once_put_back_once(pg_shop: Shop) -> None:
    """Who comes second waits, and finds everything put back."""
    pg_shop.run(*_TABLES)
    remedy = SetRows(pg_shop.handle(), "children", {"hidden": True})
    await remedy.apply([assignment(*range(1, 10))])
    undone = await asyncio.gather(remedy.undo("run"), remedy.undo("run"))
    assert sorted((one.restored, len(one.refused)) for one in undone) == [(0, 9), (9, 0)]
