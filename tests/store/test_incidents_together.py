"""Many incidents and attempts at once: each changes only if it is as it was read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.core.errors import Conflict
from prunella.core.records import Incident
from prunella.core.states import IncidentState, RunState
from prunella.store.contract import Store
from store.making import LEASE, NOW, at, at_once, opened, run

pytestmark = pytest.mark.anyio


async def some(store: Store, count: int = 5) -> list[Incident]:
    return [await opened(store, n, procedure="ward", resource=f"k{n}") for n in range(count)]


async def test_all_are_saved_in_one_go_or_none(store: Store) -> None:
    """What changed meanwhile fails the whole, and counters that intake owns are not touched."""
    found = await some(store)
    moved = [replace(one, held_reason="why", state=IncidentState.ESCALATED, count=99) for one in found]
    async with store.transaction() as tx:
        await tx.incidents.save_all(moved)
        assert {(one.held_reason, one.version, one.count) for one in await tx.incidents.list(most=9)} == {("why", 1, 1)}
    with pytest.raises(Conflict):
        async with store.transaction() as tx:
            fresh = [replace(one, version=1, held_reason="again") for one in moved[:4]]
            await tx.incidents.save_all([*fresh, moved[4]])
    async with store.transaction() as tx:
        assert {one.held_reason for one in await tx.incidents.list(most=9)} == {"why"}
        await tx.incidents.save_all([])


async def test_each_is_claimed_by_one(store: Store) -> None:
    """Of ten workers that saw the same each incident has one; counted as an attempt where that is wanted."""
    found = await some(store)

    async def claim(worker: str) -> list[str]:
        async with store.transaction() as tx:
            await tx.procedures.lock("ward")
            claimed = await tx.incidents.claim_all(found, worker, NOW, NOW + LEASE, counts=True)
        assert all((one.attempts, one.state, one.claimed_by) == (1, IncidentState.HEALING, worker) for one in claimed)
        return [one.id for one in claimed]

    won = await at_once(claim(f"worker-{n}") for n in range(10))
    assert sorted(one for each in won for one in each) == sorted(one.id for one in found)
    async with store.transaction() as tx:
        assert await tx.incidents.next_of_procedure("ward", NOW) == NOW + LEASE
        assert set(await tx.incidents.take_all([found[0].id])) == {found[0].id}


async def test_only_what_is_as_it_was_seen_is_held(store: Store) -> None:
    """Reason and time are written where nobody else has written; the others are left out."""
    found = await some(store, 2)
    async with store.transaction() as tx:
        await tx.incidents.save(replace(found[0], held_reason="mine"))
        assert await tx.incidents.hold_all(found, "a window", at(60)) == [found[1].id]
        assert await tx.incidents.next_of_procedure("ward", NOW) == at(60)
        assert await tx.incidents.next_of_procedure("other", NOW) is None


async def test_attempts_end_together_or_not_at_all(store: Store) -> None:
    """One that somebody ended already fails the whole, so that no outcome is written twice."""
    runs = [run(n) for n in range(4)]
    ended = [replace(one, state=RunState.VERIFIED, detail="well", touched=2) for one in runs]
    async with store.transaction() as tx:
        await tx.runs.add(runs)
        await tx.runs.settle_all(ended[:1], RunState.RUNNING)
        assert await tx.runs.still_running([one.id for one in runs]) == {one.id for one in runs[1:]}
    with pytest.raises(Conflict):
        async with store.transaction() as tx:
            await tx.runs.settle_all(ended, RunState.RUNNING)
    async with store.transaction() as tx:
        assert len(await tx.runs.still_running([one.id for one in runs])) == 3
        assert await tx.runs.get("run-0") == ended[0]


async def test_procedure_tells_who_paused_it(store: Store) -> None:
    """Nobody, somebody, nobody again; one that was never heard of is not paused."""
    async with store.transaction() as tx:
        assert await tx.procedures.paused_by("ward") is None
        await tx.procedures.lock("ward")
        await tx.procedures.pause("ward", "ada")
        assert await tx.procedures.paused_by("ward") == "ada"
