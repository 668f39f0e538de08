"""Learning beside everything else: nobody waits for it, nothing odd stops it, nothing counts twice, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.crew import engine
from prunella.core.clock import SystemClock
from prunella.core.issues import Candidate, Effect, KnownIssue
from prunella.core.records import Failure, Signal
from prunella.core.services import Service
from prunella.core.states import IncidentState
from prunella.engine.intake import Intake
from prunella.engine.learning import evidence, judging, occurrences, promotion
from prunella.engine.parts import Parts
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore
from prunella.store.sqlite import SqliteStore
from store.making import NOW, at, at_once, opened, resolved, signal

pytestmark = pytest.mark.anyio

HUBSPOT = Service(name="hubspot", base_url="https://api.example.com")
PATIENCE_S = 0.6
"""Shorter than PostgreSQL takes to see that two wait for each other."""


@pytest.fixture
async def together(anyio_backend: str, migrated_postgres_url: str) -> AsyncIterator[Store]:
    """Open a store on which several transactions are under way at once."""
    store = await PostgresStore.open(migrated_postgres_url)
    yield store
    await store.close()


def worker(store: Store, name: str = "one") -> Parts:
    """Return an engine that knows one service."""
    parts = engine(store, name, services={HUBSPOT.name: HUBSPOT})
    parts.runner.handle("heal", _nothing)
    parts.runner.handle("deliver", _nothing)
    return parts


async def _nothing(*_: str) -> None:
    """Leave it: what is written is looked at."""


async def put_issue(store: Store, **changed: Any) -> None:
    """Write a known issue."""
    given: dict[str, Any] = {"id": "stale", "title": "Stale", "expression": "stale", "created_by": "ann"}
    async with store.transaction() as tx:
        await tx.learning.add([KnownIssue(**{**given, "created_at": NOW, **changed})], NOW)


async def failed(store: Store, number: object = 1, **changed: Any) -> None:
    """Write an incident with the event that tells of it."""
    said = Failure(service="hubspot", message=f"order {number} of the shop has gone astray somehow")
    async with store.transaction() as tx:
        await tx.signals.add([(signal(number, failure=said), None, None)])
    await opened(store, number, **{"signal_id": f"signal-{number}", **changed})


async def test_learning_waits_for_nobody_who_settles(together: Store) -> None:
    """While a worker holds an incident, its issue is counted and left free; the incident has its turn at the next look."""
    await put_issue(together)
    await failed(together, issue_id="stale")
    async with asyncio.timeout(10):
        async with together.transaction() as tx:
            held = await tx.incidents.take("incident-1")
            assert (await occurrences.learn(worker(together)))["seen"] == 1
            await judging.note(worker(together), tx, held, "rebuild", Effect.INEFFECTIVE)
        assert (await occurrences.learn(worker(together)))["seen"] == 1
    assert (await occurrences.learn(worker(together)))["seen"] == 0
    async with together.transaction() as tx:
        issue = await tx.learning.issue("stale")
    assert issue is not None
    assert (issue.occurrences, issue.failed_fixes) == (1, 1)


async def test_success_that_proves_holds_no_issue_while_it_waits_for_a_gate(together: Store) -> None:
    """Intake takes gates before issues, as who settles does: neither waits for the other."""
    await put_issue(together, unfixed=1)
    await failed(together, issue_id="stale")
    good = Signal(
        id="well", source="webhook", event_id="well", service="hubspot", occurred_at=at(60), received_at=at(60),
        outcome="success",
    )  # fmt: skip
    async with together.transaction() as tx:
        await tx.gates.take("hubspot", NOW)
        proving = asyncio.create_task(Intake(worker(together)).accept(good))
        done, _ = await asyncio.wait([proving], timeout=0.2)
        assert not done
        async with asyncio.timeout(PATIENCE_S):
            await tx.learning.repaired("stale")
    await proving
    async with together.transaction() as tx:
        found = await tx.incidents.get("incident-1")
    assert found is not None
    assert found.state is IncidentState.RESOLVED


async def test_recoveries_of_one_issue_do_not_queue(together: Store) -> None:
    """Where there is nothing to forget, a recovery leaves its issue's row to others."""
    await put_issue(together)
    async with asyncio.timeout(10), together.transaction() as tx:
        await tx.learning.take("stale")
        async with together.transaction() as other:
            await other.learning.repaired("stale")


async def test_two_looks_at_once_count_once(store: Store) -> None:
    """Several workers look at the same moment: each occurrence counts once, and each repair is credited once."""
    await put_issue(store)
    for number in range(5):
        await failed(store, number, issue_id="stale", last_seen=at(number * 400))
    fresh = await resolved(store, 9, NOW, issue_id="stale", memory={"fix": {"now": "rebuild"}}, learned=1)
    async with store.transaction() as tx:
        watched = replace(fresh, version=fresh.version + 1, state=IncidentState.RESOLVED, resolved_at=NOW)
        await tx.incidents.save(replace(watched, watched_until=at(5)))
    await at_once(occurrences.learn(worker(store, f"w{number}")) for number in range(3))
    async with store.transaction() as tx:
        issue = await tx.learning.issue("stale")
        known = await tx.learning.evidence([evidence.scope_of_issue("stale")])
    assert issue is not None
    assert issue.occurrences == 5
    assert [one.verified for one in known.values()] == [1]


async def test_incident_whose_earlier_one_is_forgotten_is_learned_from(store: Store) -> None:
    """What came back of something that retention took away stops nothing."""
    await failed(store, 1, previous_id="gone")
    await failed(store, 2)
    assert (await occurrences.learn(worker(store)))["seen"] == 2
    async with store.transaction() as tx:
        assert len(await tx.learning.candidates(most=9)) == 2


async def test_odd_problem_stops_no_other(store: Store) -> None:
    """What raises at every look is told and passed over; all else is learned, and it is not looked at for ever."""
    await put_issue(store)
    await failed(store, 1)
    await failed(store, 2, issue_id="stale")
    odd = await resolved(store, 3, NOW, issue_id="stale", learned=1)  # nobody noted what acted
    async with store.transaction() as tx:
        over = replace(odd, version=odd.version + 1, state=IncidentState.RESOLVED, resolved_at=NOW)
        await tx.incidents.save(replace(over, watched_until=at(1)))
    heard: list[Any] = []
    parts = worker(store)
    parts.listeners.subscribe(heard.append)
    assert (await occurrences.learn(parts))["credited"] == 0
    assert [one.fields for one in heard if one.name == "engine.failed"] == [{"handler": "learn", "error": "KeyError"}]
    async with store.transaction() as tx:
        issue = await tx.learning.issue("stale")
        assert len(await tx.learning.candidates(most=9)) == 1
        assert await tx.incidents.next_watched(parts.clock.now()) is None
    assert issue is not None
    assert issue.occurrences == 1


async def test_one_look_takes_a_share_of_what_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage much waits: each look ends soon, and the next one comes at once."""
    monkeypatch.setattr("prunella.engine.learning.occurrences._INCIDENTS", 2)
    for number in range(11):
        await failed(store, number)
    parts = worker(store)
    parts.runner.handle("procedure", _nothing)
    assert (await occurrences.learn(parts))["seen"] == 8
    assert [one.ids for one in parts.runner.in_memory() if one.handler == "procedure"] == [("learn",)]  # type: ignore[attr-defined]
    assert (await occurrences.learn(parts))["seen"] == 3


async def test_all_else_has_its_turn_between_two_problems(anyio_backend: str, sqlite_path: Path) -> None:
    """A look never keeps the process for itself, though SQLite's calls do."""
    store = SqliteStore.open_file(sqlite_path, SystemClock())
    for number in range(3):
        await put_issue(store, id=f"issue-{number}")
        await failed(store, number, issue_id=f"issue-{number}")
    turns = []

    async def others() -> None:
        while True:
            async with store.transaction() as tx:
                turns.append([one.occurrences for one in await tx.learning.issues()])
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    await occurrences.learn(worker(store))
    waiting.cancel()
    await store.close()
    assert {(1, 0, 0), (1, 1, 0)} <= set(map(tuple, turns))


def candidate(number: int, **changed: Any) -> Candidate:
    """Return a pattern that was seen often enough."""
    given: dict[str, Any] = {"fingerprint": f"p{number}", "service": "hubspot", "kind": "network.server"}
    given |= {"component": "hubspot", "action": f"POST /{number}", "message": "order 4711 has gone astray somehow"}
    return Candidate(**{**given, "occurrences": 3, "first_seen": NOW, "last_seen": NOW, **changed})


async def test_two_patterns_of_the_same_words_are_one_issue(store: Store) -> None:
    """The second one's failures are occurrences of the first; nothing is known twice."""
    async with store.transaction() as tx:
        await tx.learning.seen_again([candidate(1), candidate(2)])
    await opened(store, 2, fingerprint="p2")
    assert await promotion.promote(worker(store)) == 1
    async with store.transaction() as tx:
        (issue,) = await tx.learning.issues()
        assert {one.issue_id for number in (1, 2) if (one := await tx.learning.candidate(f"p{number}"))} == {issue.id}
        found = await tx.incidents.get("incident-2")
    assert found is not None
    assert found.issue_id == issue.id


async def test_pattern_whose_issue_stands_already_stops_no_other(store: Store) -> None:
    """A person changed its words, and it was forgotten and seen again: that stands, and the next has its turn."""
    async with store.transaction() as tx:
        await tx.learning.seen_again([candidate(1)])
    parts = worker(store)
    assert await promotion.promote(parts) == 1
    async with store.transaction() as tx:
        (issue,) = await tx.learning.issues()
        await tx.learning.save(replace(issue, expression="never again"), NOW + timedelta(seconds=5))
        await tx.learning.settle("p1")
        await tx.learning.seen_again([candidate(3, message="another thing altogether went wrong", last_seen=at(9))])
    parts.known.forget()
    assert await promotion.promote(parts) == 1
    async with store.transaction() as tx:
        assert len(await tx.learning.issues()) == 2
        again = await tx.learning.candidate("p1")
    assert again is not None
    assert again.refused == f"it was known as {issue.id}, whose words a person changed"
