"""What was done is written down, whatever the remedy, the look or the store does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.crew import Tables
from engine.ward import ORDER, Treatment, Ward, procedure
from engine.world import World, play
from prunella.core.findings import Sighting
from prunella.core.outcomes import Outcome
from prunella.core.states import IncidentState, RunState
from prunella.engine import orders
from prunella.engine.sweep import sweep
from prunella.remedies.contract import Assignment


class Odd(Treatment):
    """A remedy that gives the wrong number of answers."""

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        return []


class Blinded(Ward):
    """A check of the user that raises at its second look."""

    async def look(self, only: str | None = None) -> Sighting:
        if self.looks == 1:
            self.looks += 1
            raise RuntimeError("boom")
        return await super().look(only)


def test_look_that_raises_after_the_act_loses_nothing(sqlite_path: Path) -> None:
    """Its outcome is written, and the proof comes with the next look."""

    async def story(world: World) -> None:
        ward = Blinded(world.parts.clock, sick={"a": "SICK"})
        ready = procedure(ward, remedies={"treat": Treatment(ward)})
        await sweep(world.parts, ready)
        (one,) = await Tables(world.store).incidents()
        assert (one.state, one.held_reason) == (IncidentState.VERIFYING, "the look after the act failed")
        await world.later(61)
        await sweep(world.parts, ready)
        assert [one.state for one in await Tables(world.store).runs()] == [RunState.VERIFIED]

    play(sqlite_path, story)


@pytest.mark.parametrize("fault", ["raises", "odd"])
def test_remedy_that_misbehaves_is_a_failed_attempt(sqlite_path: Path, fault: str) -> None:
    """It raises, or answers for others than it was asked for: failed with the reason, and the worker lives."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[RuntimeError("boom")])
        remedy = Treatment(ward) if fault == "raises" else Odd(ward)
        await sweep(world.parts, procedure(ward, remedies={"treat": remedy}))
        (run,) = await Tables(world.store).runs()
        words = {"raises": "raised RuntimeError", "odd": "gave 0 answers for 1 things"}
        assert run.state is RunState.FAILED
        assert words[fault] in run.detail

    play(sqlite_path, story)


def test_busy_costs_no_attempt(sqlite_path: Path) -> None:
    """Another worker is doing the same right now: nothing was done, nothing counts, nobody is told."""

    async def story(world: World) -> None:
        busy = Outcome(ok=False, busy=True, detail="another worker is at it")
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[busy] * 5)
        ready = procedure(ward, entity=ORDER)
        for _ in range(6):
            await sweep(world.parts, ready)
            await world.later(300)
        (one,) = await Tables(world.store).incidents()
        assert (one.state, one.attempts, len(ward.treated)) == (IncidentState.RESOLVED, 1, 6)
        assert await world.told() == []

    play(sqlite_path, story)


def test_lost_reply_keeps_its_key_through_failures(sqlite_path: Path) -> None:
    """A call brought no reply, then the service is down: what may have been done is repeated under its key, not anew."""

    async def story(world: World) -> None:
        lost = Outcome(ok=False, unanswered=True, detail="crm gave no reply")
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[lost, Outcome.failed("HTTP 503")])
        ready = procedure(ward, remedies={"treat": Treatment(ward, idempotent=True)}, entity=replace(ORDER, attempts=9))
        while len(ward.treated) < 3:
            await sweep(world.parts, ready)
            await world.later(300)
        assert len({key for _, _, key in ward.treated}) == 1
        assert [one.state for one in await Tables(world.store).incidents()] == [IncidentState.RESOLVED]

    play(sqlite_path, story)


def test_undone_is_not_done_again_by_the_machine(sqlite_path: Path) -> None:
    """A person put it back: the procedure leaves it alone until a person retries."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        ready = procedure(ward)
        parts = replace(world.parts, procedures={"ward": ready})
        await sweep(parts, ready)
        (run,) = await Tables(world.store).runs()
        await orders.undo(parts, run.id, by="ada")
        ward.sick["a"] = "SICK"
        await world.later(600)
        swept = await sweep(parts, ready)
        assert len(ward.treated) == 1
        assert swept.waiting["a"] == "treat was undone by ada; it is not done again before a person retries"

    play(sqlite_path, story)
