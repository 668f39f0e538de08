"""Names and sorts of the configuration, held against the live catalogue: each mistake at its place, with the next step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checks.test_stuck import ORDER
from databases.shop import Shop
from prunella.core.procedures import (
    ArchiveAndDeleteRemedy,
    ErrorsCheck,
    FreshnessCheck,
    OrphansCheck,
    PoolCheck,
    Procedure,
    RowsCheck,
    SetRemedy,
    StuckCheck,
)
from prunella.databases.catalogue import problems_of

pytestmark = pytest.mark.anyio


async def problems(shop: Shop, check: Any, remedy: Any = None, *, entity: Any = None, **source: Any) -> dict[str, str]:
    """Return place -> what is wrong there."""
    procedure = Procedure(name="p", id="P", check=check, remedy=remedy)
    found = await shop.handle(**source).reading(lambda at: problems_of(shop.handles[-1], at, procedure, entity))
    return {".".join(place): text for place, text in found}


def tables(shop: Shop) -> None:
    """Make tables with every sort of column."""
    shop.run(
        "CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible boolean NOT NULL, name text, "
        "updated_at MOMENT, at_number bigint, by_hand varchar(30))",
        "CREATE TABLE pairs (a integer, b integer, updated_at MOMENT, PRIMARY KEY (a, b))",
        "CREATE TABLE orders (id integer PRIMARY KEY, number integer, status text, updated_at MOMENT)",
    )


async def test_catalogue_accepts_what_is_right(shop: Shop) -> None:
    """A procedure whose names and values fit has no problems."""
    tables(shop)
    rows = RowsCheck(table="products", where={"stock": {"lt": 1}, "visible": True}, older_than={"updated_at": 60})
    assert await problems(shop, rows, SetRemedy(values={"visible": False, "updated_at": "now"})) == {}
    assert await problems(shop, rows, ArchiveAndDeleteRemedy()) == {}
    assert await problems(shop, StuckCheck(entity="order"), entity=ORDER) == {}
    assert await problems(shop, FreshnessCheck(table="products", column="at_number", older_than_s=1, unit="ms")) == {}


async def test_catalogue_says_which_table_was_meant(shop: Shop) -> None:
    """A table that does not exist: which one was meant, and which there are."""
    tables(shop)
    found = await problems(shop, FreshnessCheck(table="Prodcts", column="updated_at", older_than_s=1))
    (text,) = found.values()
    assert list(found) == ["check.freshness.table"]
    assert text.startswith("'Prodcts' is no table that this role sees in database shop; did you mean products?")
    assert "orders, pairs, products" in text


async def test_catalogue_tells_every_mistake_at_its_place(shop: Shop) -> None:
    """Columns of conditions, ages and remedies are all looked up, and no mistake hides another."""
    tables(shop)
    check = RowsCheck(
        table="products", where={"stok": 0, "stock": {"about": 3}, "name": []}, older_than={"udated_at": 60}
    )
    values = {"visibel": False, "id": 5, "visible": None, "stock": "now"}
    found = await problems(shop, check, SetRemedy(values=values))
    assert sorted(found) == [
        "check.rows.older_than.udated_at",
        "check.rows.where.name",
        "check.rows.where.stock",
        "check.rows.where.stok",
        "remedy.set.id",
        "remedy.set.stock",
        "remedy.set.visibel",
        "remedy.set.visible",
    ]
    assert "did you mean stock?" in found["check.rows.where.stok"]
    assert "'about' is no operator; write one of eq, ne, lt" in found["check.rows.where.stock"]
    assert "is NOT NULL" in found["remedy.set.visible"]


async def test_catalogue_wants_one_key_where_rows_are_named(shop: Shop) -> None:
    """Several columns, or none, can't name a row; freshness needs no key."""
    tables(shop)
    found = await problems(shop, RowsCheck(table="pairs", where={"a": 1}), ArchiveAndDeleteRemedy())
    assert list(found) == ["check.rows.table", "remedy.archive_and_delete"]
    assert "has a primary key of several columns (a, b)" in found["check.rows.table"]
    assert await problems(shop, FreshnessCheck(table="pairs", column="updated_at", older_than_s=1)) == {}


async def test_catalogue_wants_columns_that_tell_moments(shop: Shop) -> None:
    """Numbers need their unit, words tell nothing."""
    tables(shop)
    shop.run("INSERT INTO products VALUES (1, 1, '1', 'x', NULL, 5, 'last week')")
    number = await problems(shop, FreshnessCheck(table="products", column="at_number", older_than_s=1))
    assert "say their unit: s or ms" in number["check.freshness.column"]
    words = await problems(shop, FreshnessCheck(table="products", column="by_hand", older_than_s=1))
    assert "tells no moment" in words["check.freshness.column"]
    unit = await problems(shop, FreshnessCheck(table="products", column="by_hand", older_than_s=1, unit="s"))
    assert "a unit is for numbers" in unit["check.freshness.column"]


async def test_catalogue_refuses_timestamps_without_a_zone(shop: Shop) -> None:
    """A naive column means another moment in another session; with a declared zone it is welcome."""
    naive = "timestamp" if shop.kind == "postgresql" else "text"
    shop.run(f"CREATE TABLE logs (source text, at {naive})", "INSERT INTO logs VALUES ('a', '2026-01-01 12:00:00')")
    check = ErrorsCheck(table="logs", where={"source": "a"}, by="source", message="wrods", at="at")
    found = await problems(shop, check)
    assert "time_zone" in found["check.errors.at"]
    assert "has no column 'wrods'" in found["check.errors.message"]
    assert list(await problems(shop, check, time_zone="Europe/Berlin")) == ["check.errors.message"]
    assert "is no IANA name" in (await problems(shop, check, time_zone="Berlin"))["check.errors.at"]


async def test_catalogue_compares_orphans_with_their_parents(shop: Shop) -> None:
    """A text that refers to a number finds no parent, ever: every row would be an orphan."""
    shop.run("CREATE TABLE parent (id integer PRIMARY KEY)", "CREATE TABLE child (id integer PRIMARY KEY, up text)")
    found = await problems(shop, OrphansCheck(child="child", column="up", parent="parent"))
    assert "never compare equal" in found["check.orphans.column"]
    found = await problems(shop, OrphansCheck(child="child", column="up", parent="parents", parent_key="key"))
    assert "did you mean parent?" in found["check.orphans.parent"]


async def test_catalogue_wants_an_entity_that_can_be_named(shop: Shop) -> None:
    """Status, key and since exist, and the key names one row."""
    tables(shop)
    entity = replace(ORDER, key="number", status="state", since="status")
    found = await problems(shop, StuckCheck(entity="order"), entity=entity)
    assert "is not unique; name the primary key (id)" in found["key"]
    assert "has no column 'state'" in found["status"]


async def test_catalogue_knows_which_values_fit(pg_shop: Shop) -> None:
    """PostgreSQL compares no number with a word; that is said at load, not at night."""
    tables(pg_shop)
    found = await problems(pg_shop, RowsCheck(table="products", where={"visible": 1, "stock": ["a"], "name": 5}))
    assert found["check.rows.where.visible"] == "1 does not fit products.visible, which is a boolean column"
    assert len(found) == 3


async def test_catalogue_refuses_a_pool_check_of_a_file(shop: Shop) -> None:
    """Only a server has connections to count."""
    assert list(await problems(shop, PoolCheck())) == (["check.pool"] if shop.kind == "sqlite" else [])
