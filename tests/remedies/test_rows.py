"""Rows that a check found are changed in batches, only where they still are as they were seen, and can be put back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Connection, Table, and_

from prunella.core.errors import DatabaseRefused
from prunella.core.findings import Finding, Row
from prunella.core.outcomes import Outcome
from prunella.databases.handle import Database
from prunella.remedies.contract import Assignment, Undone
from prunella.remedies.rows import ArchiveAndDelete, SetRows
from users import opened, rows, run

pytestmark = pytest.mark.anyio

TABLE = """CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible boolean, updated_at {moment},
    CONSTRAINT not_seven CHECK (visible OR id <> 7))"""
FILLED = "INSERT INTO products VALUES " + ", ".join(
    f"({n}, 0, true, '2026-01-01 00:00:00+00:00')" for n in range(1, 121)
)


@pytest.fixture(params=["sqlite", "postgresql"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    """Return a shop with 120 products that are out of stock, once of each kind of database."""
    kind = request.param
    url = f"sqlite:///{tmp_path}/shop.db" if kind == "sqlite" else request.getfixturevalue("fresh_postgres_url")
    moment = "text" if kind == "sqlite" else "timestamptz"
    async with opened(url, TABLE.format(moment=moment), FILLED) as database:
        yield database


def still(connection: Connection, table: Table) -> ColumnElement[bool]:
    """Return what the check of these tests looks for."""
    return and_(table.c.stock == 0, table.c.visible)


def assignment(*keys: int, run_id: str = "run-1") -> Assignment:
    """Return an assignment for rows of these keys."""
    finding = Finding(key="products", issue="ROWS_MATCH", message="…", keys=keys, count=len(keys))
    return Assignment(run_id=run_id, incident_id="incident-1", attempt=1, idempotency_key="key-1", finding=finding)


def hide(database: Database, **how: Any) -> SetRows:
    """Return the remedy that hides products."""
    return SetRows(database, "products", {"visible": False, "updated_at": "now"}, still=still, **how)


async def hidden(database: Database) -> list[int]:
    """Return which products are hidden."""
    return [one[0] for one in await rows(database, "SELECT id FROM products WHERE NOT visible ORDER BY id")]


class Listener:
    """Hears of batches, and fails for those that hold a certain key."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.heard: list[list[Row]] = []
        self._fails_at = fails_at

    async def __call__(self, assignment: Assignment, rows: Sequence[Row]) -> Outcome:
        self.heard.append(list(rows))
        bad = any(one["id"] == self._fails_at for one in rows)
        return Outcome.failed("the shop is closed") if bad else Outcome.done()


async def test_rows_are_set_in_batches_and_counted(shop: Database) -> None:
    """Every row that still matches is set, `now` is the database's clock, and the detail says how many."""
    await run(shop, "DELETE FROM products WHERE id = 7", "UPDATE products SET stock = 3 WHERE id = 8")
    (outcome,) = await hide(shop).apply([assignment(*range(1, 121))])
    assert (outcome.ok, outcome.touched) == (True, 118)
    assert outcome.detail == "changed 118 of 120 rows of products"
    assert 8 not in await hidden(shop)
    moved = (
        "updated_at > '2026-02-01'"
        if shop.kind == "sqlite"
        else "updated_at BETWEEN now() - interval '1 min' AND now()"
    )
    assert await rows(shop, f"SELECT count(*) FROM products WHERE NOT visible AND {moved}") == [(118,)]


async def test_batch_that_fails_loses_nothing_of_the_others(shop: Database) -> None:
    """A row that the table refuses takes its own batch with it, and no other one."""
    (outcome,) = await hide(shop, batch=50).apply([assignment(*range(1, 121))])
    assert (outcome.ok, outcome.touched) == (False, 70)
    assert outcome.detail.startswith(
        "changed 70 of 120 rows of products; 1 batch failed, the first with: database shop:"
    )
    assert outcome.failure is not None
    assert await hidden(shop) == list(range(51, 121))


async def test_listener_hears_of_each_batch(shop: Database) -> None:
    """`then` gets the rows of a batch as they are now, once per batch, after it is committed."""
    listener = Listener()
    (outcome,) = await hide(shop, batch=2, then=listener).apply([assignment(1, 2, 3)])
    assert outcome.ok
    assert [[one["id"] for one in batch] for batch in listener.heard] == [[1, 2], [3]]
    assert not any(one["visible"] for batch in listener.heard for one in batch)


async def test_listener_that_fails_is_told_and_stops_nothing(shop: Database) -> None:
    """A push that failed makes the run a failure with its words; the rows of all batches are changed."""
    (outcome,) = await hide(shop, batch=2, then=Listener(fails_at=1)).apply([assignment(1, 2, 3)])
    assert (outcome.ok, outcome.touched) == (False, 3)
    assert "1 batch could not be told on, the first with: the shop is closed" in outcome.detail


async def test_listener_hears_of_deleted_rows_as_they_were(shop: Database) -> None:
    """Rows that are gone are told with all that they held; a row that moved on is not told."""
    listener = Listener()
    await run(shop, "UPDATE products SET stock = 1 WHERE id = 2")
    remedy = ArchiveAndDelete(shop, "products", still=still, then=listener)
    (outcome,) = await remedy.apply([assignment(1, 2, 3)])
    assert outcome.detail == "archived and deleted 2 of 3 rows of products"
    ((first, second),) = listener.heard
    assert (first["id"], first["stock"], second["id"]) == (1, 0, 3)
    assert await rows(shop, "SELECT count(*) FROM products") == [(118,)]


async def test_run_stops_between_batches(shop: Database) -> None:
    """A kill switch ends a run after the batch that is under way; what is done stays done and is counted."""

    asked: list[tuple[int, list[Any]]] = []

    async def halt(batches: int, keys: Sequence[Any]) -> str | None:
        asked.append((batches, list(keys)))
        return "the kill switch is on"

    (outcome,) = await hide(shop, batch=5, go_on=halt).apply([assignment(*range(10, 30))])
    assert outcome.touched == 5
    assert outcome.detail == "changed 5 of 20 rows of products; stopped in between: the kill switch is on"
    assert await hidden(shop) == list(range(10, 15))
    assert asked == [(1, [10, 11, 12, 13, 14])]


async def test_nothing_left_to_do_is_a_skip(shop: Database) -> None:
    """Rows that all moved on, and an empty set, are no success that anybody should count."""
    await run(shop, "UPDATE products SET stock = 1")
    moved, empty = await hide(shop).apply([assignment(1, 2), assignment()])
    assert (moved.ok, moved.skipped, moved.detail) == (True, True, "the rows of products moved on meanwhile")
    assert (empty.ok, empty.skipped) == (True, True)
    assert await hidden(shop) == []


async def test_preview_writes_nothing_and_shows_what_would_be(shop: Database) -> None:
    """A preview holds the statement, five rows before and after, and leaves no trace, not even an archive."""
    preview = await hide(shop).preview(assignment(*range(1, 121)).finding)
    assert preview.words == "change 120 rows of products, 100 at a time"
    moment = "now()" if shop.kind == "postgresql" else "'20"
    assert preview.sql.startswith(f"UPDATE products SET visible=false, updated_at={moment}")
    assert "id IN (1, 2, 3, 4, 5, … and 115 more)" in preview.sql
    assert "products.stock = 0" in preview.sql
    assert len(preview.before) == 5
    assert preview.after is not None
    assert [(one["visible"], two["visible"]) for one, two in zip(preview.before, preview.after, strict=True)] == [
        (1, 0)
    ] * 5
    assert await hidden(shop) == []
    table = "sqlite_master" if shop.kind == "sqlite" else "pg_tables"
    column = "name" if shop.kind == "sqlite" else "tablename"
    assert await rows(shop, f"SELECT 1 FROM {table} WHERE {column} LIKE '%archive%'") == []


async def test_preview_of_a_deletion_shows_that_nothing_remains(shop: Database) -> None:
    """What would be deleted is shown before, and nothing after."""
    preview = await ArchiveAndDelete(shop, "products", still=still).preview(assignment(1).finding)
    assert preview.sql.startswith("DELETE FROM products WHERE")
    assert (len(preview.before), preview.after) == (1, ())


async def test_run_is_put_back(shop: Database) -> None:
    """Undo restores what a run set or deleted, and says of each other row why not."""
    await hide(shop).apply([assignment(1, 2)])
    await ArchiveAndDelete(shop, "products").apply([assignment(3, run_id="run-2")])
    await run(shop, "UPDATE products SET visible = true WHERE id = 2")
    assert await hide(shop).undo("run-1") == Undone(restored=1, refused={"2": "changed since the run: visible"})
    assert await ArchiveAndDelete(shop, "products").undo("run-2") == Undone(restored=1)
    assert await rows(shop, "SELECT count(*) FROM products WHERE visible") == [(120,)]


async def test_unknown_column_is_named(shop: Database) -> None:
    """A preview of a column that does not exist says so before anything runs."""
    with pytest.raises(DatabaseRefused, match="has no column 'visable'; did you mean visible"):
        await SetRows(shop, "products", {"visable": False}).preview(assignment(1).finding)
