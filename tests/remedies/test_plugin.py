"""A function as the remedy of a procedure: what it wants changed is written where its finding is a row of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prunella.core.outcomes import Outcome
from prunella.databases.handle import Database
from prunella.remedies.plugin import PluginRemedy
from remedies.test_entities import function, seen, shop
from remedies.test_functions import assignment
from users import rows, run

pytestmark = pytest.mark.anyio
__all__ = ["shop"]


async def raise_vendor(ctx: Any, row: Any) -> Outcome:
    """Want another vendor."""
    return Outcome.changed(vendor=70)


async def test_row_of_a_finding_is_changed_while_it_is_as_it_was_seen(shop: Database) -> None:
    """A change of any column since the look makes the row another one, which is left alone."""
    wave = await seen(shop, 1, 2)
    await run(shop, "UPDATE orders SET status = 'PENDING' WHERE id = 2")
    remedy = PluginRemedy(function(raise_vendor), database=shop, table="orders")
    first, second = await remedy.apply(wave)
    assert (first.touched, second.skipped) == (1, True)
    assert await rows(shop, "SELECT id FROM orders WHERE vendor = 70") == [(1,)]
    assert (await remedy.undo("run-1")).restored == 1


async def test_change_without_a_row_is_refused(shop: Database) -> None:
    """Where a finding is about no row, or the procedure names no table, there is nothing to write to."""
    (outcome,) = await PluginRemedy(function(raise_vendor), database=shop, table="orders").apply([assignment()])
    assert outcome.detail == "reassign_vendor wants columns changed, but k is no row of a table"
    (given,) = await seen(shop, 1)
    (other,) = await PluginRemedy(function(raise_vendor), database=shop).apply([replace(given)])
    assert (outcome.ok, other.ok) == (False, False)


async def test_row_that_lacks_its_key_is_a_failure(shop: Database) -> None:
    """A check of a user may hand over part of a row; without its key, or with a key of several columns, none is changed."""
    (given,) = await seen(shop, 1)
    part = replace(given, finding=replace(given.finding, row={"vendor": 1}))
    (outcome,) = await PluginRemedy(function(raise_vendor), database=shop, table="orders").apply([part])
    assert outcome.detail == "reassign_vendor: the row of 1 lacks column 'id'"
    await run(shop, "CREATE TABLE lines (basket integer, number integer, vendor integer, PRIMARY KEY (basket, number))")
    (several,) = await PluginRemedy(function(raise_vendor), database=shop, table="lines").apply([given])
    assert "primary key of several columns" in several.detail
