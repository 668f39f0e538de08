"""Taking stock changes only what the look really says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.crew import Tables
from engine.ward import Ward, procedure
from engine.world import START, World, play
from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import Limits
from prunella.core.states import IncidentState
from prunella.engine import stock
from prunella.engine.gathered import gathering
from prunella.engine.sweep import sweep


@pytest.mark.parametrize(
    ("found", "active", "storm"), [(20, 20, False), (21, 42, False), (21, 41, True), (21, None, False), (0, 0, False)]
)
def test_storm_is_more_than_half_and_more_than_twenty(found: int, active: int | None, *, storm: bool) -> None:
    """At the exact edges of decision 24."""
    assert stock.is_storm(Sighting(at=START, count=found, active=active)) is storm


def test_look_that_is_older_than_an_incident_does_not_close_it(sqlite_path: Path) -> None:
    """A slow look that began before a thing was found says nothing about it."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, cures=False)
        ready = procedure(ward, limits=Limits(cool_down_s=600))
        looked_at = world.parts.clock.now()
        await world.later(5)
        await sweep(world.parts, ready)
        async with gathering(world.parts, ready) as gathered:
            taken = await stock.take(gathered, Sighting(at=looked_at), looked_at, None)
        assert taken.resolved == 0
        (one,) = await Tables(world.store).incidents()
        assert one.is_open

    play(sqlite_path, story)


def test_look_that_was_cut_closes_nothing(sqlite_path: Path) -> None:
    """What is not among the first of many may still be there."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, cures=False)
        ready = procedure(ward)
        await sweep(world.parts, ready)
        await world.later(60)
        now = world.parts.clock.now()
        other = Finding(key="b", issue="SICK", message="b is sick")
        async with gathering(world.parts, ready) as gathered:
            await stock.take(gathered, Sighting(findings=(other,), count=2, at=now), now, None)
        assert {one.resource for one in await Tables(world.store).incidents() if one.is_open} == {"a", "b"}

    play(sqlite_path, story)


def test_order_for_one_thing_leaves_the_others_and_a_storm_alone(sqlite_path: Path) -> None:
    """Looking at one thing proves nothing about the rest: neither that they are well nor that a storm is over."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK", "storm": "SICK", "b": "SICK"}, cures=False)
        ready = procedure(ward)
        await sweep(world.parts, ready)
        await world.later(60)
        now = world.parts.clock.now()
        async with gathering(world.parts, ready) as gathered:
            await stock.take(gathered, Sighting(at=now), now, "a")
        opened = {one.resource for one in await Tables(world.store).incidents() if one.is_open}
        assert opened == {"storm", "b"}

    play(sqlite_path, story)


def test_thing_that_moved_on_is_no_regression(sqlite_path: Path) -> None:
    """Healed in one state and stuck in the next: another problem, with attempts of its own."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        ready = procedure(ward)
        await sweep(world.parts, ready)
        await world.later(600)
        now = world.parts.clock.now()
        for issue, regressions in (("STUCK_CONFIRMED", 0), ("SICK", 1)):
            finding = Finding(key="a", issue=issue, message="a is stuck")
            async with gathering(world.parts, ready) as gathered:
                taken = await stock.take(gathered, Sighting(findings=(finding,), at=now), now, None)
                (due,) = taken.due
                assert due.incident.regressions == regressions
                assert (due.incident.previous_id is not None, due.incident.attempts) == (True, regressions)
                await gathered.tx.incidents.save(
                    replace(due.incident, state=IncidentState.RESOLVED, memory={"issue": "SICK"})
                )

    play(sqlite_path, story)
