"""What rests as a whole: windows by their cron, and a switch that every worker hears."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from engine.world import START, World, play
from prunella.core.procedures import Window
from prunella.engine.pauses import Pauses, window_at

MINUTE = timedelta(minutes=1)
NIGHT = Window(name="night", cron="0 2 * * *", lasts_s=3600)


@pytest.mark.parametrize(
    ("minutes", "rests"), [(0, False), (119, False), (120, True), (179, True), (180, False), (24 * 60 + 150, True)]
)
def test_window_holds_from_its_beginning_to_its_end(minutes: int, *, rests: bool) -> None:
    """The first moment is in it, the last one is not; it says until when."""
    rest = window_at([NIGHT], START + minutes * MINUTE, "procedures")
    assert (rest is not None) is rests
    if rest is not None:
        assert rest.until is not None
        assert rest.reason == f"maintenance window night until {rest.until:%Y-%m-%d %H:%M} UTC"


def test_longest_of_several_windows_counts() -> None:
    """Windows that overlap end with the last of them; one that pauses messages only holds no procedure."""
    later = Window(name="later", cron="30 2 * * *", lasts_s=3600)
    quiet = Window(name="quiet", cron="0 0 * * *", lasts_s=86400, pause=frozenset({"notifications"}))
    now = START + 150 * MINUTE
    rest = window_at([NIGHT, later, quiet], now, "procedures")
    assert rest is not None
    assert rest.until == START + 210 * MINUTE
    assert window_at([quiet], now, "procedures") is None
    told = window_at([quiet], now, "notifications")
    assert told is not None


def test_switch_is_heard_within_a_second(sqlite_path: Path) -> None:
    """Asked ten times a second the store is read once; who threw it hears it at once."""

    async def story(world: World) -> None:
        here = Pauses(world.store, world.parts.clock)
        there = Pauses(world.store, world.parts.clock, [NIGHT])
        assert await here.now() is None
        assert await there.now() is None
        async with world.store.transaction() as tx:
            await tx.switches.put("all", "ada", "fire", START)
        assert await there.now() is None
        here.forget()
        rest = await here.now()
        assert rest is not None
        assert (rest.reason, rest.until) == (
            "everything is paused by ada: fire; go on with: prunella resume",
            None,
        )
        await world.later(1)
        assert await there.now() == rest
        assert there.messages(START) is None
        await asyncio.gather(*(there.now() for _ in range(9)))

    play(sqlite_path, story)
