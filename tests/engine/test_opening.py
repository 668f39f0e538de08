"""An incident is opened for what is new, not for what an old look or an old line in a log still shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from engine.crew import Tables
from engine.ward import Ward, procedure
from engine.world import START, World, play
from prunella.core.findings import Finding, Sighting
from prunella.engine import stock
from prunella.engine.gathered import gathering
from prunella.engine.sweep import sweep


@pytest.mark.parametrize(("late_s", "opened"), [(-60, 1), (0, 1), (0.5, 1), (2, 2), (600, 2)])
def test_look_from_before_the_proof_opens_nothing(sqlite_path: Path, late_s: float, opened: int) -> None:
    """Clocks of two workers may differ by a second: a look that close to the proof is taken for the older one."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        ready = procedure(ward)
        await world.later(100)
        await sweep(world.parts, ready)
        looked_at = world.parts.clock.now() + timedelta(seconds=late_s)
        await world.later(1000)
        found = Sighting(findings=(Finding(key="a", issue="SICK", message="a is sick"),), at=looked_at)
        async with gathering(world.parts, ready) as gathered:
            taken = await stock.take(gathered, found, looked_at, None)
        assert len(await Tables(world.store).incidents()) == opened
        assert ("a" in taken.waiting) is (opened == 1)

    play(sqlite_path, story)


@pytest.mark.parametrize(("arose_s", "opened"), [(-600, 1), (0, 1), (1, 2)])
def test_error_from_before_the_act_opens_nothing(sqlite_path: Path, arose_s: float, opened: int) -> None:
    """Judged by the clock that the log is dated by, an hour behind ours."""

    async def story(world: World) -> None:
        behind = timedelta(hours=1)
        ward = Ward(world.parts.clock)
        ready = procedure(ward)
        for moment_s in (arose_s - 60, arose_s):
            now = world.parts.clock.now()
            arose = START - behind + timedelta(seconds=min(moment_s, 0) if moment_s < arose_s else moment_s)
            error = Finding(key="a", issue="FAILED", message="a failed", occurred_at=arose)
            async with gathering(world.parts, ready) as gathered:
                await stock.take(gathered, Sighting(findings=(error,), at=now - behind), now, None)
            await world.later(10)
            if moment_s < arose_s:
                async with gathering(world.parts, ready) as gathered:
                    (one,) = await gathered.tx.incidents.open_of_procedure("ward")
                    acted = {**one.memory, "acted_there": (START - behind).isoformat()}
                    gathered.save(replace(one, memory=acted))
                async with gathering(world.parts, ready) as gathered:
                    now = world.parts.clock.now()
                    await stock.take(gathered, Sighting(at=now - behind), now, None)
                await world.later(10)
        assert len(await Tables(world.store).incidents()) == opened

    play(sqlite_path, story)
