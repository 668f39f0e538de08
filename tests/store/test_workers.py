"""Who is alive is one row each; the dead are buried once, and what they held is free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.store.contract import Store
from store.making import NOW, at, credential, opened

pytestmark = pytest.mark.anyio


async def test_worker_that_beats_is_not_buried(store: Store) -> None:
    """Seen again, a worker lives on from its first moment; one that was not seen is buried, by one caller."""
    async with store.transaction() as tx:
        await tx.workers.beat("a", "1", NOW)
        await tx.workers.beat("b", "2", NOW)
        await tx.workers.beat("a", "1", at(9))
    async with store.transaction() as tx:
        assert await tx.workers.bury(at(5)) == ["b"]
        assert await tx.workers.bury(at(5)) == []
        (row,) = await tx.workers.all()
    assert (row["name"], row["version"], row["started_at"], row["seen_at"]) == ("a", "1", NOW, at(9))


async def test_worker_that_leaves_is_gone(store: Store) -> None:
    """Who ended as it should is not found dead later."""
    async with store.transaction() as tx:
        await tx.workers.beat("a", "1", NOW)
        await tx.workers.leave("a")
        assert await tx.workers.bury(at(99)) == []


async def test_dead_hold_nothing_and_the_living_keep_theirs(store: Store) -> None:
    """Leases on incidents and procedures, and rights to refresh, end for the dead alone."""
    for number, worker in ((1, "dead"), (2, "alive")):
        await opened(store, number)
        await claimed(store, f"incident-{number}", worker)
        async with store.transaction() as tx:
            await tx.procedures.register(worker)
            assert await tx.procedures.claim(worker, worker, NOW, at(60))
            await tx.credentials.put(replace(credential(), account=worker))
            tokens = await tx.credentials.read(credential().service, worker)
            assert tokens is not None
            assert await tx.credentials.claim_refresh(tokens, worker, NOW, at(60))
    async with store.transaction() as tx:
        assert await tx.incidents.release_of(["dead"], at(1)) == [("incident-1", "")]
        assert await tx.procedures.release_of(["dead"]) == ["dead"]
        assert await tx.credentials.release_of(["dead"]) == 1
    async with store.transaction() as tx:
        assert [(await tx.incidents.take(f"incident-{number}")).lease_until for number in (1, 2)] == [at(1), at(60)]
        assert {row["name"]: row["lease_until"] for row in await tx.procedures.all()} == {"alive": at(60), "dead": None}
        assert [
            (await tx.credentials.read(credential().service, name)).refreshing_until  # type: ignore[union-attr]
            for name in ("alive", "dead")
        ] == [at(60), None]


async def claimed(store: Store, incident_id: str, worker: str) -> None:
    """Let a worker claim an incident for a minute."""
    async with store.transaction() as tx:
        assert await tx.incidents.claim(incident_id, worker, NOW, at(60)) is not None
