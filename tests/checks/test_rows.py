"""Rows that match a condition: one finding, counted in full, named up to the cap."""

from __future__ import annotations

from typing import Any

import pytest

from databases.shop import Shop
from prunella.checks.rows import Rows
from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import RowsCheck

pytestmark = pytest.mark.anyio


def products(shop: Shop, count: int) -> None:
    """Make a table in which every fourth product is out of stock, and visible."""
    shop.run("CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible boolean, updated_at MOMENT)")
    for number in range(1, count + 1):
        visible = "true" if shop.kind == "postgresql" else "1"
        shop.run(f"INSERT INTO products VALUES ({number}, {number % 4}, {visible}, {shop.past(60 * number)})")


def check(shop: Shop, where: dict[str, Any] | None = None, cap: int = 500, **spec: Any) -> Rows:
    """Return the check of the documents, or one with another condition."""
    wanted = {"stock": 0, "visible": True} if where is None else where
    return Rows(shop.handle(), RowsCheck(table="products", where=wanted, **spec), cap=cap)


async def test_rows_are_one_finding_with_keys_count_and_total(shop: Shop) -> None:
    """All matches are counted; the table is counted as far as the share limit needs."""
    products(shop, 40)
    (found,) = (await check(shop, cap=3).look()).findings
    assert (found.key, found.keys, found.count, found.total) == ("products", (4, 8, 12), 10, 40)
    assert found.facts["where"] == "stock = 0 and visible = true"


async def test_rows_count_the_table_no_further_than_the_share_needs(shop: Shop) -> None:
    """One match of at most 20 %: five rows of the table are enough to know."""
    products(shop, 40)
    (found,) = (await check(shop, {"id": 1}).look()).findings
    assert (found.count, found.total) == (1, 5)


async def test_rows_within_the_age_guard_are_left_alone(shop: Shop) -> None:
    """Who was changed a moment ago may still be under way."""
    products(shop, 40)
    (found,) = (await check(shop, older_than={"updated_at": 60 * 30 + 5}).look()).findings
    assert found.keys == (32, 36, 40)


async def test_rows_that_are_gone_are_no_finding(shop: Shop) -> None:
    """Nothing matches: nothing is found; another resource's key finds nothing either."""
    products(shop, 4)
    assert (await check(shop, {"stock": 99}).look()).findings == ()
    assert (await check(shop).look("elsewhere")).findings == ()
    assert len((await check(shop).look("products")).findings) == 1


async def test_rows_without_a_single_key_are_refused(shop: Shop) -> None:
    """Rows that can't be named can't be changed and put back one by one."""
    shop.run("CREATE TABLE products (stock integer, visible boolean)")
    with pytest.raises(DatabaseRefused, match="has no primary key; one column is needed"):
        await check(shop).look()
