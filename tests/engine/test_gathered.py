"""What is gathered is written together, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.ward import Ward, procedure
from engine.world import World, play
from prunella.core.states import IncidentState, RunState
from prunella.engine.gathered import gathering
from store.making import opened, run


def test_last_word_counts_and_the_first_version_is_held(sqlite_path: Path) -> None:
    """Two words about an incident and an attempt in one go: one change each, from the state that was read."""

    async def story(world: World) -> None:
        ready = procedure(Ward(world.parts.clock))
        found, tried = await opened(world.store), run()
        async with world.store.transaction() as tx:
            await tx.runs.add([tried])
        async with gathering(world.parts, ready) as gathered:
            gathered.save(replace(found, held_reason="first"))
            last = gathered.save(replace(found, held_reason="last"))
            gathered.settle(replace(tried, state=RunState.DONE), RunState.RUNNING)
            gathered.settle(replace(tried, state=RunState.VERIFIED), RunState.DONE)
            gathered.count("SICK", "treat", failed=1)
            gathered.count("SICK", "treat", failed=1, recovery_s=0.5)
            assert [one.state for one in await gathered.history(found.id)] == [RunState.VERIFIED]
        assert await world.incident(found.id) == gathered.as_written(last)
        assert [one.state for one in await world.runs(found.id)] == [RunState.VERIFIED]
        async with world.store.transaction() as tx:
            (row,) = await tx.metrics.since("2026-01-01")
        assert (row["failed"], row["recovery_s"]) == (2, 0.5)

    play(sqlite_path, story)


def test_nothing_is_written_when_it_raises(sqlite_path: Path) -> None:
    """Neither change nor audit nor figure."""

    async def story(world: World) -> None:
        ready = procedure(Ward(world.parts.clock))
        found = await opened(world.store)
        with pytest.raises(RuntimeError):
            async with gathering(world.parts, ready) as gathered:
                gathered.save(replace(found, state=IncidentState.ESCALATED))
                gathered.note("incident.escalated", "a", reason="", incident=found.id)
                raise RuntimeError
        assert await world.incident(found.id) == found
        assert await world.audit() == []

    play(sqlite_path, story)
