"""A switch is off for everybody until somebody turns it on; whoever was first stays named."""

from __future__ import annotations

import pytest

from prunella.store.contract import Store
from store.making import NOW, at

pytestmark = pytest.mark.anyio


async def test_switch_stays_with_who_threw_it_first(store: Store) -> None:
    """Thrown twice it names the first person, reason and moment."""
    async with store.transaction() as tx:
        await tx.switches.put("all", "ada", "fire", NOW)
        await tx.switches.put("all", "eve", "later", at(9))
    async with store.transaction() as tx:
        row = (await tx.switches.all())["all"]
    assert (row["by"], row["reason"], row["since"]) == ("ada", "fire", NOW)


async def test_switch_is_dropped_once(store: Store) -> None:
    """Dropping tells whether there was something to drop."""
    async with store.transaction() as tx:
        await tx.switches.put("all", "ada", "", NOW)
        assert await tx.switches.drop("all")
        assert not await tx.switches.drop("all")
        assert await tx.switches.all() == {}
