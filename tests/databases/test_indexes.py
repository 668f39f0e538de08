"""The index that each check wants: named where it is missing, used where it is there."""

from __future__ import annotations

from typing import Any

import pytest

from checks.test_stuck import ORDER
from databases.shop import Shop
from prunella.core.procedures import (
    ErrorsCheck,
    FreshnessCheck,
    OrphansCheck,
    PoolCheck,
    Procedure,
    RowsCheck,
    StuckCheck,
)
from prunella.databases.indexes import missing

pytestmark = pytest.mark.anyio

CHECKS: dict[str, tuple[Any, set[tuple[str, tuple[str, ...]]]]] = {
    "freshness": (FreshnessCheck(table="stock", column="at", older_than_s=1), {("stock", ("at",))}),
    "errors": (
        ErrorsCheck(table="stock", where={"kind": "error"}, by="kind", message=None, at="at"),
        {("stock", ("at",))},
    ),
    "rows": (
        RowsCheck(table="stock", where={"n": {"gt": 5}, "kind": "x", "up": None}, older_than={"at": 60}),
        {("stock", ("kind", "up", "n"))},
    ),
    "ages": (RowsCheck(table="stock", where={"kind": "x"}, older_than={"at": 60}), {("stock", ("kind", "at"))}),
    "orphans": (
        OrphansCheck(child="stock", column="up", parent="shelf", parent_key="code"),
        {("shelf", ("code",)), ("stock", ("up",))},
    ),
    "stuck": (StuckCheck(entity="order"), {("orders", ("status", "updated_at"))}),
    "pool": (PoolCheck(), set()),
    "gone": (FreshnessCheck(table="nowhere", column="at", older_than_s=1), set()),
    "nothing": (FreshnessCheck(table="stock", column="nothing", older_than_s=1), set()),
}


async def found(shop: Shop, check: Any) -> list[tuple[str, tuple[str, ...], str]]:
    """Return what is missing."""
    handle, procedure = shop.handle(), Procedure(name="p", id="P", check=check)
    return await handle.reading(lambda connection: missing(handle, connection, procedure, ORDER))


@pytest.mark.parametrize("name", CHECKS)
async def test_indexes_that_are_missing_can_be_made_as_printed(shop: Shop, name: str) -> None:
    """Each is named with its statement; once that has run, nothing is missing any more."""
    shop.run(
        "CREATE TABLE stock (id integer PRIMARY KEY, kind text, n integer, up integer, at MOMENT)",
        "CREATE TABLE shelf (code integer)",
        "CREATE TABLE orders (id integer PRIMARY KEY, status text, updated_at MOMENT)",
    )
    check, wanted = CHECKS[name]
    absent = await found(shop, check)
    assert {(table, columns) for table, columns, _ in absent} == wanted
    for _, _, statement in absent:
        with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)
    assert await found(shop, check) == []


async def test_indexes_of_other_orders_and_parts_do_not_count(shop: Shop) -> None:
    """An index on time first, or on some of the rows, does not find the oldest of a state."""
    shop.run(
        "CREATE TABLE orders (id integer PRIMARY KEY, status text, updated_at MOMENT)",
        "CREATE INDEX a ON orders (updated_at, status)",
        "CREATE INDEX b ON orders (status, updated_at) WHERE id > 5",
    )
    assert len(await found(shop, CHECKS["stuck"][0])) == 1
    shop.run("CREATE INDEX c ON orders (status, updated_at, id)")
    assert await found(shop, CHECKS["stuck"][0]) == []


async def test_indexes_are_printed_with_quoted_names(shop: Shop) -> None:
    """A name with a quote in it makes the index it says, and nothing else."""
    shop.run('CREATE TABLE "a""b" (id integer, "at; now" MOMENT)')
    check = FreshnessCheck(table='a"b', column="at; now", older_than_s=1)
    ((_, _, statement),) = await found(shop, check)
    assert '"a""b" ("at; now")' in statement
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    assert await found(shop, check) == []


async def test_indexes_are_used_by_the_checks(pg_shop: Shop) -> None:
    """With them no look at 20,000 rows reads a table from end to end, but for the parents of orphans."""
    pg_shop.run(
        "CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at timestamptz)",
        "INSERT INTO orders SELECT n, CASE WHEN mod(n, 100) = 0 THEN 'PENDING' ELSE 'DONE' END, now() - n * interval '1 s' "
        "FROM generate_series(1, 20000) n",
        "CREATE INDEX ON orders (status, updated_at)",
        "CREATE INDEX ON orders (updated_at)",
        "ANALYZE orders",
    )
    from prunella.checks.freshness import Freshness
    from prunella.checks.rows import Rows
    from prunella.checks.stuck import Stuck

    old = RowsCheck(table="orders", where={"status": "PENDING"}, older_than={"updated_at": 15000})
    handle = pg_shop.handle()
    for check in (
        Stuck(handle, ORDER),
        Freshness(handle, FreshnessCheck(table="orders", column="updated_at", older_than_s=60)),
        Rows(handle, old, share_max=1.0),
    ):
        await check.look()
        pg_shop.run("SELECT pg_stat_force_next_flush()")
        await handle.reading(lambda connection: connection.exec_driver_sql("SELECT pg_stat_force_next_flush()"))
        await handle.reading(lambda connection: connection.exec_driver_sql("SELECT 1"))
        before = pg_shop.rows("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'orders'")[0][0]
        await check.look()
        await handle.reading(lambda connection: connection.exec_driver_sql("SELECT pg_stat_force_next_flush()"))
        await handle.reading(lambda connection: connection.exec_driver_sql("SELECT 1"))
        after = pg_shop.rows("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'orders'")[0][0]
        assert after - before <= 100, type(check).__name__
