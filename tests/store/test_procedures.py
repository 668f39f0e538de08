"""A procedure never runs twice at the same time, and its row remembers how it went."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import update

from prunella.store.contract import Store
from prunella.store.sql import Sql
from prunella.store.tables import procedures
from store.making import LEASE, NOW, Outside, at, at_once

pytestmark = pytest.mark.anyio


async def register(store: Store) -> dict[str, object]:
    async with store.transaction() as tx:
        return await tx.procedures.register("patrol")


async def claim(store: Store, worker: str, now: datetime = NOW) -> bool:
    async with store.transaction() as tx:
        return await tx.procedures.claim("patrol", worker, now, now + LEASE)


async def finish(store: Store, worker: str, *, failed: bool = False) -> None:
    async with store.transaction() as tx:
        await tx.procedures.finish("patrol", worker, at(5), failed=failed, result={"healed": 2})


async def test_procedure_is_registered_once(store: Store, outside: Outside) -> None:
    """However many processes start at the same moment, there is one row, and it keeps what it knows."""
    await at_once(register(store) for _ in range(20))
    assert outside("SELECT name, runs, failures FROM procedures") == [("patrol", 0, 0)]
    await claim(store, "worker")
    assert (await register(store))["last_started_at"] == NOW


async def test_procedure_is_claimed_by_one(store: Store) -> None:
    """Of twenty workers one runs it; when its lease ends without an end, the next may."""
    await register(store)
    assert (await at_once(claim(store, f"worker-{number}") for number in range(20))).count(True) == 1
    assert not await claim(store, "next", at(19))
    assert await claim(store, "next", NOW + LEASE)


async def test_procedure_that_ended_may_run_again(store: Store) -> None:
    """Ending gives it back at once and counts the run, and the failure where it failed."""
    await register(store)
    await claim(store, "worker")
    await finish(store, "worker", failed=True)
    assert await claim(store, "other", at(6))
    await finish(store, "other")
    row = await register(store)
    assert (row["runs"], row["failures"], row["lease_until"]) == (2, 1, None)
    assert (row["last_started_at"], row["last_ended_at"], row["last_result"]) == (at(6), at(5), {"healed": 2})


async def test_procedure_is_not_ended_by_who_lost_it(store: Store) -> None:
    """A worker whose lease ended does not end the run of the one that took over."""
    await register(store)
    await claim(store, "slow")
    await claim(store, "quick", NOW + LEASE)
    await finish(store, "slow")
    assert not await claim(store, "third", NOW + LEASE)
    assert (await register(store))["runs"] == 0


async def test_procedure_that_a_person_paused_is_not_claimed(store: Store) -> None:
    """Paused means: nobody runs it; and what was never registered does not run either."""
    async with store.transaction() as tx:
        await tx.procedures.register("patrol")
        await tx.procedures._session.change(Sql(update(procedures).values(paused_by="ada")))
    assert not await claim(store, "worker")
    async with store.transaction() as tx:
        assert not await tx.procedures.claim("unknown", "worker", NOW, at(9))


async def test_release_all_ends_every_lease(store: Store) -> None:
    """After the other processes died everything may run at once."""
    await register(store)
    await claim(store, "dead")
    async with store.transaction() as tx:
        assert await tx.procedures.release_all() == 1
        (row,) = await tx.procedures.all()
    assert row["lease_until"] is None
    assert await claim(store, "next")
