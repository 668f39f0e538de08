"""Freshness: judged on the newest row that is not in the future, by the database's clock."""

from __future__ import annotations

import pytest

from databases.shop import Shop
from prunella.checks.freshness import Freshness
from prunella.core.procedures import FreshnessCheck

pytestmark = pytest.mark.anyio

SPEC = FreshnessCheck(table="stock", column="synced_at", older_than_s=4 * 3600)


def stock(shop: Shop, *ages: float) -> None:
    """Make the table with one row per age in seconds."""
    shop.run("CREATE TABLE stock (id integer, synced_at MOMENT)")
    for age in ages:
        shop.run(f"INSERT INTO stock VALUES (1, {shop.past(age)})")


async def issues(shop: Shop, only: str | None = None) -> list[str]:
    """Return what is found."""
    return [one.issue for one in (await Freshness(shop.handle(), SPEC).look(only)).findings]


async def test_freshness_of_a_table_that_was_synced(shop: Shop) -> None:
    """One fresh row is enough, however old the others are; a row without a time says nothing."""
    stock(shop, 90000, 3600)
    shop.run("INSERT INTO stock VALUES (2, NULL)")
    assert await issues(shop) == []


async def test_freshness_notices_a_stale_table(shop: Shop) -> None:
    """The newest row is older than it should be: its age and its limit are told."""
    stock(shop, 90000, 18001)
    (found,) = (await Freshness(shop.handle(), SPEC).look("stock")).findings
    assert (found.key, found.issue, found.facts["age_s"] // 10) == ("stock", "STALE_SYNC", 1800)
    assert found.message == "the newest synced_at of stock is 300 min old, more than 240 min"


async def test_freshness_is_not_fooled_by_a_row_dated_tomorrow(shop: Shop) -> None:
    """The table is stale all the same, and the row is a finding of its own, for a person."""
    stock(shop, 18001, -86400)
    assert await issues(shop) == ["STALE_SYNC", "FUTURE_ROW"]
    assert await issues(shop, "stock") == ["STALE_SYNC"]
    (_, future) = (await Freshness(shop.handle(), SPEC).look()).findings
    assert (future.key, future.remedy) == ("stock: future rows", "manual_intervention")


async def test_freshness_lets_clocks_differ_by_seconds(shop: Shop) -> None:
    """A row a few seconds ahead is no finding, but no proof of freshness either."""
    stock(shop, 18001, -20)
    assert await issues(shop) == ["STALE_SYNC"]


async def test_freshness_of_an_empty_table_is_unknown(shop: Shop) -> None:
    """What was never synced was never fresh: there is nothing to judge."""
    stock(shop)
    assert await issues(shop) == []
