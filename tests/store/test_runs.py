"""Every attempt is written before its call and settled once after it, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prunella.core.errors import Conflict
from prunella.core.states import RunState
from prunella.store.contract import Store
from store.making import at, incident, run

pytestmark = pytest.mark.anyio


async def test_run_is_settled_once(store: Store) -> None:
    """How an attempt ended is written once; the second writer is told that it is too late."""
    ended = run(state=RunState.DONE, ended_at=at(2), status=201, detail="created")
    async with store.transaction() as tx:
        await tx.runs.add([run()])
        await tx.runs.settle(ended, RunState.RUNNING)
        assert await tx.runs.of_incident("incident-1") == [ended]
    with pytest.raises(Conflict, match="run-1"):
        async with store.transaction() as tx:
            await tx.runs.settle(replace(ended, state=RunState.FAILED), RunState.RUNNING)
    async with store.transaction() as tx:
        assert await tx.runs.of_incident("incident-1") == [ended]


async def test_runs_of_an_incident_come_in_their_order(store: Store) -> None:
    """Oldest first; those that began together by id; other incidents' aside."""
    runs = [run(3, started_at=at(0)), run(1, started_at=at(1)), run(2, started_at=at(1), state=RunState.DONE)]
    async with store.transaction() as tx:
        await tx.runs.add([*reversed(runs), run(9, incident_id="incident-2")])
        assert await tx.runs.of_incident("incident-1") == runs
        assert {one.id for one in await tx.runs.running_of("incident-1")} == {"run-3", "run-1"}
        assert await tx.runs.of_incident("incident-9") == []


async def test_attempt_that_died_needs_a_word_until_it_is_made_again(store: Store) -> None:
    """What died last is found at every look, however late the next one comes; what was made again is not."""
    died = run(2, state=RunState.UNKNOWN, started_at=at(1), ended_at=at(2))
    async with store.transaction() as tx:
        await tx.runs.add([run(1, state=RunState.UNKNOWN, started_at=at(0), ended_at=at(1)), died])
        assert await tx.runs.unsettled_of(["incident-1"]) == [died]
        again = run(3, started_at=at(3))
        await tx.runs.add([again])
        assert await tx.runs.unsettled_of(["incident-1"]) == [again]
        assert await tx.runs.unsettled_of([]) == []


async def test_runs_in_flight_are_counted_by_service(store: Store) -> None:
    """Only running calls to that service count, and none that began longer ago than a call can last."""
    async with store.transaction() as tx:
        assert await tx.runs.in_flight("hubspot", at(-1)) == 0
        await tx.runs.add([run(1), run(2, service="stripe"), run(3, state=RunState.TIMED_OUT), run(4)])
        assert await tx.runs.in_flight("hubspot", at(-1)) == 2
        assert await tx.runs.in_flight("hubspot", at(0)) == 0
        await tx.runs.add([])


async def test_attempts_are_tallied(store: Store) -> None:
    """By issue, remedy and state, with the mean time from finding to proof; older ones and replays do not count."""
    about: dict[str, Any] = {"procedure": "stuck-order", "remedy": "reassign_vendor", "issue": "STUCK_PENDING"}
    async with store.transaction() as tx:
        await tx.incidents.open_or_join(incident(1))
        proven = [run(n, **about, state=RunState.VERIFIED, ended_at=at(1), verified_at=at(n * 100)) for n in (1, 2)]
        failed = run(3, **about, state=RunState.FAILED, ended_at=at(1), incident_id="forgotten")
        await tx.runs.add([*proven, failed, run(4, **about, started_at=at(-1)), run(5)])
        rows = sorted((row["issue"], row["remedy"], row["state"], row["cases"]) for row in await tx.runs.tallies(at(0)))
        place = ("STUCK_PENDING", "reassign_vendor")
        assert rows == [(*place, "failed", 1), (*place, "verified", 2)]
        took_s = {row["state"]: row["took_s"] for row in await tx.runs.tallies(at(0))}
        assert took_s == {"failed": None, "verified": pytest.approx(150.0, abs=0.01)}
