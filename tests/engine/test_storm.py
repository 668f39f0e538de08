"""A storm holds, probes and lets go; nobody pays for it with attempts, and it never locks itself up."""

from __future__ import annotations

from pathlib import Path

from engine.crew import Tables
from engine.ward import ORDER, Ward, procedure
from engine.world import World, play
from prunella.core.outcomes import Outcome
from prunella.core.states import IncidentState
from prunella.engine.sweep import sweep

_FAILED = Outcome.failed("no")


def many(count: int) -> dict[str, str]:
    return {f"k{n:03}": "SICK" for n in range(count)}


def test_one_thing_that_is_ill_for_itself_locks_no_storm(sqlite_path: Path) -> None:
    """The first probe can never succeed; the next one goes to another thing and ends the storm."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(40), active=50, script=[_FAILED])
        ready = procedure(ward, entity=ORDER)
        await sweep(world.parts, ready)
        await world.later(300)
        await sweep(world.parts, ready)
        assert [thing for _, thing, _ in ward.treated[:2]] == ["k000", "k001"]
        assert len(ward.treated) == 41

    play(sqlite_path, story)


def test_held_things_are_let_go_when_the_storm_is_over(sqlite_path: Path) -> None:
    """Most got well by themselves an hour before the next probe: the few that are left are healed at once."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(40), active=50, script=[_FAILED] * 9)
        ready = procedure(ward, entity=ORDER)
        for _ in range(24):
            await sweep(world.parts, ready)
            await world.later(300)
        ward.sick, ward.script = {"k039": "SICK"}, []
        before = len(ward.treated)
        await sweep(world.parts, ready)
        assert [thing for _, thing, _ in ward.treated[before:]] == ["k039"]
        assert {one.state for one in await Tables(world.store).incidents()} == {IncidentState.RESOLVED}

    play(sqlite_path, story)


def test_held_things_say_why_and_until_when(sqlite_path: Path) -> None:
    """Every one of them names the storm and the next probe."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(40), active=50, script=[_FAILED] * 9)
        ready = procedure(ward, entity=ORDER)
        await sweep(world.parts, ready)
        await world.later(100)
        swept = await sweep(world.parts, ready)
        reasons = set(swept.waiting.values())
        assert reasons == {"40 of 50 active are stuck at once; the next probe goes out at 00:05:00 UTC"}
        held = [one.held_reason for one in await Tables(world.store).incidents() if one.resource != "storm"]
        assert set(held) == reasons

    play(sqlite_path, story)
