"""Which incidents are due, open, listed and counted, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.core.records import Category, Incident
from prunella.core.states import IncidentState
from prunella.store.contract import Store
from store.making import LEASE, NOW, at, opened, resolved

pytestmark = pytest.mark.anyio


async def test_due_returns_what_is_due_or_was_seen_lately(store: Store) -> None:
    """Due: open and its time has come, or without a time and seen since; oldest first, at most as many as asked."""
    await opened(store, "late", next_at=at(-5), first_seen=at(-9))
    await opened(store, "now", next_at=NOW, first_seen=at(-8))
    await opened(store, "soon", next_at=at(1), first_seen=at(-7))
    await opened(store, "resting", last_seen=at(-60), first_seen=at(-99))
    await opened(store, "forgotten", last_seen=at(-61), first_seen=at(-99))
    await resolved(store, "done", at(0), next_at=at(-5))
    escalated = await opened(store, "escalated", next_at=at(-1), first_seen=at(-1))
    async with store.transaction() as tx:
        await tx.incidents.save(replace(escalated, state=IncidentState.ESCALATED))
        due = [one.fingerprint for one in await tx.incidents.due(NOW, at(-60), 10)]
        first = await tx.incidents.due(NOW, at(-60), 1)
    assert due == ["print-resting", "print-late", "print-now", "print-escalated"]
    assert [one.fingerprint for one in first] == ["print-resting"]


async def test_wakeable_lists_what_has_something_to_wait_for(store: Store) -> None:
    """At a start, everything with a due time or a lease is brought back; what rests or is closed is not."""
    await opened(store, "timed", next_at=at(60))
    await opened(store, "resting")
    await opened(store, "held")
    async with store.transaction() as tx:
        await tx.incidents.claim("incident-held", "worker", NOW, NOW + LEASE)
    await resolved(store, "done", NOW, next_at=at(60))
    async with store.transaction() as tx:
        rows = {row["id"]: (row["next_at"], row["lease_until"]) for row in await tx.incidents.wakeable()}
    assert rows == {"incident-timed": (at(60), None), "incident-held": (None, NOW + LEASE)}


async def test_open_of_lists_a_services_open_incidents(store: Store) -> None:
    """Open ones of that service, oldest first."""
    await opened(store, 2, first_seen=at(2))
    await opened(store, 1, first_seen=at(1))
    await opened(store, 3, service="stripe")
    await resolved(store, 4, NOW)
    async with store.transaction() as tx:
        assert [one.id for one in await tx.incidents.open_of("hubspot")] == ["incident-1", "incident-2"]


async def test_list_pages_through_everything_once(store: Store) -> None:
    """Newest first, page by page, each once, also where many began at the same moment or on a full second."""
    full = NOW.replace(microsecond=0)
    begun = [at(0), at(0), at(0), full, full, full, at(1), at(-1)]
    for number, first_seen in enumerate(begun):
        await opened(store, number, first_seen=first_seen)
    seen: list[Incident] = []
    async with store.transaction() as tx:
        while page := await tx.incidents.list(most=2, before=(seen[-1].first_seen, seen[-1].id) if seen else None):
            seen += page
    assert [(one.first_seen, one.id) for one in seen] == sorted(
        ((first_seen, f"incident-{number}") for number, first_seen in enumerate(begun)), reverse=True
    )


async def test_list_keeps_to_what_was_asked_for(store: Store) -> None:
    """Columns are compared with one value or with any of several."""
    await opened(store, 1)
    await opened(store, 2, service="stripe", category=Category.AUTH)
    await resolved(store, 3, NOW)
    async with store.transaction() as tx:
        by_service = await tx.incidents.list(most=9, service="stripe")
        by_states = await tx.incidents.list(most=9, state=[IncidentState.RESOLVED, "suppressed"])
        by_both = await tx.incidents.list(most=9, service="hubspot", state=IncidentState.OPEN)
        assert await tx.incidents.list(most=9, state=[]) == []
    assert [one.id for one in by_service] == ["incident-2"]
    assert [one.id for one in by_states] == ["incident-3"]
    assert [one.id for one in by_both] == ["incident-1"]
