"""How things stand, in document B's words, and how long an answer waits for more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import START, World, case, open_gate, play
from prunella.core.records import Incident
from prunella.core.states import IncidentState
from prunella.engine import report
from prunella.engine.report import Standing, outward_status
from store.making import operation

SECOND = timedelta(seconds=1)
HORIZON = START + 8 * SECOND


def incident(**changed: Any) -> Incident:
    return case(incident=changed).incident


@pytest.mark.parametrize("state", IncidentState)
def test_status_outside_is_one_of_three(state: IncidentState) -> None:
    """Resolved is resolved, a disabled gate is disabled, all else is pending (document B)."""
    one = incident(state=state)
    resolved = state is IncidentState.RESOLVED
    assert outward_status(one, None) == ("resolved" if resolved else "pending")
    assert outward_status(one, open_gate(state="disabled")) == ("resolved" if resolved else "disabled")
    for shut in ("closed", "open", "half_open", "paused"):
        assert outward_status(one, open_gate(state=shut)) == ("resolved" if resolved else "pending")


def test_event_whose_own_request_went_through_is_resolved() -> None:
    """Others of the incident may still wait: this event's request is done."""
    done = operation(1, state="done")
    standing = Standing(incident(next_at=START), done, None)
    assert (standing.status, standing.next_at) == ("resolved", None)
    assert Standing(incident(), operation(1), None).status == "pending"


def test_next_try_is_the_events_own_or_its_incidents() -> None:
    """The event's own due time comes first; nothing is scheduled once it is settled or shut."""
    due = START + SECOND
    assert Standing(incident(next_at=START), operation(1, due_at=due), None).next_at == due
    assert Standing(incident(next_at=due), operation(1), None).next_at == due
    assert Standing(incident(next_at=due), None, open_gate(state="disabled")).next_at is None
    assert Standing(incident(next_at=due, state="resolved"), None, None).next_at is None


@pytest.mark.parametrize(
    ("changed", "settled"),
    [
        ({"state": "resolved"}, True),
        ({"state": "escalated"}, True),
        ({"state": "suppressed"}, True),
        ({"state": "awaiting_approval"}, True),
        ({"state": "verifying"}, True),
        ({"state": "open", "next_at": None}, True),
        ({"state": "open", "next_at": HORIZON + SECOND}, True),
        ({"state": "open", "next_at": HORIZON}, False),
        ({"state": "open", "next_at": START}, False),
        ({"state": "pending", "next_at": START}, False),
        ({"state": "healing", "lease_until": START, "next_at": None}, False),
    ],
)
def test_answer_waits_only_while_something_will_happen(changed: dict[str, Any], settled: bool) -> None:
    """Settled: closed, with a person, or nothing due before the horizon; a lease means that somebody is at it."""
    assert Standing(incident(**changed), None, None).is_settled(HORIZON) is settled


def test_disabled_service_settles_at_once() -> None:
    """Nothing will happen to an event of a disabled service."""
    assert Standing(incident(next_at=START), None, open_gate(state="disabled")).is_settled(HORIZON)


# Against the store ----------------------------------------------------------------------------------------------------


def test_answer_comes_as_soon_as_it_is_settled(sqlite_path: Path) -> None:
    """A recovery of half a second is answered then, not at the deadline."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        standing = await report.settled(world.parts, receipt, within_s=8.0)
        assert standing is not None
        assert standing.status == "resolved"
        assert world.now_s() < 1.0

    play(sqlite_path, story, running=True)


def test_answer_never_waits_longer_than_it_may(sqlite_path: Path) -> None:
    """A remedy that hangs is answered after 8 s with pending."""

    async def story(world: World) -> None:
        world.hands.takes_s = 60
        receipt = await world.fail()
        standing = await report.settled(world.parts, receipt, within_s=8.0)
        assert standing is not None
        assert (standing.status, world.now_s()) == ("pending", 8.0)

    play(sqlite_path, story, running=True)


def test_answer_does_not_wait_for_what_is_due_later(sqlite_path: Path) -> None:
    """A wait of an hour is said at once."""

    async def story(world: World) -> None:
        receipt = await world.fail(status=429, headers={"retry-after": "3600"})
        standing = await report.settled(world.parts, receipt, within_s=8.0)
        assert standing is not None
        assert (standing.status, standing.next_at) == ("pending", START + 3600 * SECOND)
        assert world.now_s() < 1.0

    play(sqlite_path, story, running=True)


def test_change_by_another_process_is_seen(sqlite_path: Path) -> None:
    """Nothing is announced here when another worker resolves it: the row is looked at again every half second."""

    async def story(world: World) -> None:
        receipt = await world.fail()

        async def elsewhere() -> None:
            await world.later(2.2)
            one = await world.incident(receipt.incident_id)
            await world.save(replace(one, state=IncidentState.RESOLVED, resolved_at=START))

        other = asyncio.create_task(elsewhere())
        standing = await report.settled(world.parts, receipt, within_s=8.0)
        await other
        assert standing is not None
        assert standing.status == "resolved"
        assert 2.2 <= world.now_s() <= 2.8

    play(sqlite_path, story)


def test_success_without_an_incident_stands_nowhere(sqlite_path: Path) -> None:
    """A success that healed nothing has no incident to tell of."""

    async def story(world: World) -> None:
        receipt = await world.succeed()
        assert await report.standing(world.parts, receipt) is None
        assert await report.settled(world.parts, receipt, within_s=8.0) is None

    play(sqlite_path, story)


def test_story_holds_everything_that_was_done(sqlite_path: Path) -> None:
    """Incident, gate, timeline in order, runs and the evidence with the payload's structure but not its values."""

    async def story(world: World) -> None:
        receipt = await world.fail(payload={"card": "4111", "items": [1, 2]})
        await world.later(5)
        told = await report.story(world.parts, receipt.incident_id or "")
        assert told is not None
        assert told.incident.state is IncidentState.RESOLVED
        actions = [entry.action for entry in told.timeline]
        assert (actions[0], actions[-1]) == ("incident.opened", "incident.resolved")
        assert [entry.at for entry in told.timeline] == sorted(entry.at for entry in told.timeline)
        assert [run.remedy for run in told.runs] == ["replay"]
        assert told.evidence is not None
        assert told.evidence["payload_shape"] == {"card": "string", "items": ["integer"]}
        assert "4111" not in repr(told)
        assert await report.story(world.parts, "nobody") is None

    play(sqlite_path, story, running=True)
