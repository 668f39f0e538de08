"""At most one open incident per scope, one holder at a time, and no change that overwrites another's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from prunella.core.errors import Conflict
from prunella.core.records import Incident
from prunella.core.states import IncidentState
from prunella.store.contract import Store
from store.making import LEASE, NOW, SECOND, Outside, at, at_once, incident, opened, resolved

pytestmark = pytest.mark.anyio

CLAIMABLE = ("pending", "open", "healing", "verifying")


async def claim(store: Store, worker: str, now: datetime = NOW, incident_id: str = "incident-1") -> Incident | None:
    async with store.transaction() as tx:
        return await tx.incidents.claim(incident_id, worker, now, now + LEASE)


async def save(store: Store, changed: Incident) -> None:
    async with store.transaction() as tx:
        await tx.incidents.save(changed)


async def get(store: Store, incident_id: str = "incident-1") -> Incident:
    async with store.transaction() as tx:
        found = await tx.incidents.get(incident_id)
    assert found is not None
    return found


# Open or join


async def test_incident_joins_the_one_that_is_open(store: Store) -> None:
    """A second failure of the same scope adds its count and its time and opens nothing."""
    first = await opened(store, 1, count=2)
    joined = await opened(store, 2, fingerprint="print-1", count=3, first_seen=at(5), last_seen=at(5))
    assert joined == replace(first, count=5, last_seen=at(5), signal_id="signal-2")


@pytest.mark.parametrize("field", ["service", "account", "fingerprint"])
async def test_incident_of_another_scope_is_opened(store: Store, field: str) -> None:
    """Service, account and fingerprint make the scope: another value of one is another incident."""
    await opened(store, 1)
    other = await opened(store, 2, **{"fingerprint": "print-1", field: "other"})
    assert (other.id, other.count) == ("incident-2", 1)


async def test_incidents_opened_at_once_are_one_with_an_exact_count(store: Store, outside: Outside) -> None:
    """Fifty reports of one problem at the same time open one incident that counts fifty."""
    found = await at_once(opened(store, number, fingerprint="print") for number in range(50))
    assert len({one.id for one in found}) == 1
    assert outside("SELECT count(*), max(count) FROM incidents") == [(1, 50)]


async def test_incident_is_opened_anew_after_it_was_resolved(store: Store) -> None:
    """What was resolved stays resolved; the next failure opens an incident that points back and counts as regressed."""
    await resolved(store, 1, at(10))
    again = await opened(store, 2, fingerprint="print-1", first_seen=at(20), last_seen=at(20))
    assert again.id == "incident-2"
    async with store.transaction() as tx:
        assert await tx.incidents.link_previous(again, at(11)) is None
        previous = await tx.incidents.link_previous(again, at(10))
    assert previous is not None
    assert previous.id == "incident-1"
    linked = await get(store, "incident-2")
    assert (linked.regressed, linked.previous_id) == (True, "incident-1")


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
async def test_incident_is_forced_while_all_of_it_was(store: Store, first: bool, second: bool) -> None:
    """A real failure that joins a drill makes it real, whatever a worker that read it before writes back."""
    read = await opened(store, 1, forced=first)
    await opened(store, 2, fingerprint="print-1", forced=second)
    async with store.transaction() as tx:
        await tx.incidents.save(read)
    assert (await get(store)).forced is (first and second)


async def test_incident_joined_later_is_due_at_the_earliest_time(store: Store) -> None:
    """Joining wakes a resting incident and never postpones one that is due already."""
    for before, joining, after in (
        (None, at(5), at(5)),
        (at(9), at(5), at(5)),
        (at(2), at(5), at(2)),
        (at(2), None, at(2)),
    ):
        name = f"{before}/{joining}"
        await opened(store, name, next_at=before)
        joined = await opened(store, f"{name}+", fingerprint=f"print-{name}", next_at=joining)
        assert joined.next_at == after, name


async def test_incident_joined_by_an_older_report_keeps_its_newest_time(store: Store) -> None:
    """Reports that overtake each other do not turn `last_seen` and its evidence back."""
    await opened(store, 1, last_seen=at(9))
    joined = await opened(store, 2, fingerprint="print-1", last_seen=at(5))
    assert (joined.count, joined.last_seen, joined.signal_id) == (2, at(9), "signal-1")


# Claim


async def test_claim_has_one_winner(store: Store) -> None:
    """Of twenty workers that claim at the same moment one gets the incident."""
    await opened(store)
    won = [one for one in await at_once(claim(store, f"worker-{number}") for number in range(20)) if one]
    assert len(won) == 1
    assert won[0] == await get(store)
    assert (won[0].state, won[0].lease_until, won[0].version) == (IncidentState.HEALING, NOW + LEASE, 1)


async def test_claim_ends_with_its_lease(store: Store) -> None:
    """A claim holds until its lease ends, to the moment; then another worker may have the incident."""
    await opened(store)
    assert await claim(store, "first")
    assert await claim(store, "second", NOW + LEASE - SECOND / 1_000_000) is None
    taken = await claim(store, "second", NOW + LEASE)
    assert taken is not None
    assert (taken.claimed_by, taken.lease_until, taken.version) == ("second", NOW + 2 * LEASE, 2)


@pytest.mark.parametrize("state", list(IncidentState))
async def test_claim_takes_only_what_a_machine_may_work_on(store: Store, state: IncidentState) -> None:
    """What is closed, or waits for a person, is not claimed."""
    await save(store, replace(await opened(store), state=state))
    assert bool(await claim(store, "worker")) == (state in CLAIMABLE)


async def test_claim_of_nothing_is_none(store: Store) -> None:
    """An incident that does not exist is not claimed, and not taken."""
    assert await claim(store, "worker", incident_id="incident-9") is None
    async with store.transaction() as tx:
        assert await tx.incidents.get("incident-9") is None
        with pytest.raises(LookupError, match="incident-9"):
            await tx.incidents.take("incident-9")


async def test_release_all_ends_every_lease(store: Store) -> None:
    """After the other processes died their incidents are free, and what they were waited for has come."""
    await opened(store, 1)
    await opened(store, 2, next_at=at(60))
    await claim(store, "dead")
    async with store.transaction() as tx:
        assert await tx.incidents.release_all(at(1)) == 1
        waiting = {row["id"]: (row["lease_until"], row["next_at"]) for row in await tx.incidents.wakeable()}
    assert waiting["incident-1"][0] == at(1)
    assert waiting["incident-2"] == (None, at(60))
    assert await claim(store, "next", at(1))


# Save


async def test_save_loses_against_a_change_in_between(store: Store) -> None:
    """A row that moved since it was read is not overwritten."""
    read = await opened(store)
    await save(store, replace(read, attempts=1))
    with pytest.raises(Conflict, match="incident-1"):
        await save(store, replace(read, attempts=7))
    assert (await get(store)).attempts == 1
    with pytest.raises(Conflict):
        await save(store, incident(9))


async def test_save_has_one_winner(store: Store) -> None:
    """Of twenty writers that read the same version one succeeds."""
    read = await opened(store)

    async def write(attempts: int) -> bool:
        try:
            await save(store, replace(read, attempts=attempts))
        except Conflict:
            return False
        return True

    assert (await at_once(write(number) for number in range(20))).count(True) == 1
    assert (await get(store)).version == read.version + 1


async def test_save_leaves_the_counters_of_intake_alone(store: Store) -> None:
    """Reports that arrive while an incident is healed keep counting, whatever the healer writes back."""
    claimed = await opened(store)
    await opened(store, 2, fingerprint="print-1", count=4, last_seen=at(5))
    await save(
        store, replace(claimed, state=IncidentState.VERIFYING, attempts=3, next_at=at(9), action_taken="replayed")
    )
    found = await get(store)
    assert (found.count, found.last_seen, found.signal_id) == (5, at(5), "signal-2")
    assert (found.state, found.attempts, found.next_at, found.action_taken) == ("verifying", 3, at(9), "replayed")


async def test_take_keeps_others_waiting(store: Store) -> None:
    """Twenty transactions that take, count up and save all succeed, one after the other."""
    await opened(store)

    async def count() -> None:
        async with store.transaction() as tx:
            taken = await tx.incidents.take("incident-1")
            await tx.incidents.save(replace(taken, attempts=taken.attempts + 1))

    await at_once(count() for _ in range(20))
    assert (await get(store)).attempts == 20
