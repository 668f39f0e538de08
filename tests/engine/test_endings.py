"""Each ending is written with its figures, and told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.crew import Tables
from engine.ward import ORDER, Treatment, Ward, procedure
from engine.world import World, play
from prunella.core.outcomes import Outcome
from prunella.core.procedures import StuckRule
from prunella.core.states import IncidentState, RunState
from prunella.engine.sweep import sweep


async def figures(world: World) -> dict[str, dict[str, float]]:
    """Return the figures that are not zero, by action."""
    async with world.store.transaction() as tx:
        rows = await tx.metrics.since("2026-01-01")
    names = ("detected", "succeeded", "failed", "manual", "notified")
    return {row["action"]: {name: row[name] for name in names if row[name]} for row in rows}


def test_healed_and_failed_are_counted(sqlite_path: Path) -> None:
    """One failure, then a recovery: found once, failed once, succeeded once."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[Outcome.failed("no")])
        ready = procedure(ward, entity=ORDER)
        for _ in range(2):
            await sweep(world.parts, ready)
            await world.later(300)
        assert await figures(world) == {"treat": {"detected": 1, "succeeded": 1, "failed": 1}}

    play(sqlite_path, story)


def test_handing_over_is_no_failure_and_no_recovery(sqlite_path: Path) -> None:
    """Ten things whose remedy is a person: ten hand-overs in one sweep, none of them counted as an attempt."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={f"k{n}": "SICK" for n in range(10)})
        ready = procedure(ward, remedies={"manual": Treatment(ward)}, entity=ORDER)
        assert ORDER.stuck["PENDING"] == StuckRule(after_s=1800, remedy="treat")
        ready.remedies.pop("manual")  # type: ignore[attr-defined]
        await sweep(world.parts, ready)
        found = await Tables(world.store).incidents()
        assert {one.state for one in found} == {IncidentState.ESCALATED}
        assert await figures(world) == {"manual_intervention": {"detected": 10, "manual": 10, "notified": 10}}
        ward.sick.clear()
        await world.later(300)
        await sweep(world.parts, ready)
        assert "succeeded" not in (await figures(world))["manual_intervention"]

    play(sqlite_path, story)


@pytest.mark.parametrize("idempotent", [True, False])
def test_death_in_mid_call(sqlite_path: Path, *, idempotent: bool) -> None:
    """Within the lease it is unknown: repeated under its key where that is declared harmless, else a person's."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[KeyboardInterrupt()])
        ready = procedure(ward, remedies={"treat": Treatment(ward, idempotent=idempotent)})
        with pytest.raises(KeyboardInterrupt):
            await sweep(world.parts, ready)
        await world.later(59)
        swept = await sweep(world.parts, ready)
        assert "it is being healed by" in swept.waiting["a"]
        await world.later(2)
        await sweep(world.parts, ready)
        states = [one.state for one in await Tables(world.store).runs()]
        (one,) = await Tables(world.store).incidents()
        if idempotent:
            assert (states, one.state) == ([RunState.UNKNOWN, RunState.VERIFIED], IncidentState.RESOLVED)
            assert len({key for _, _, key in ward.treated}) == 1
            assert one.attempts == 1
        else:
            assert (states, one.state) == ([RunState.UNKNOWN], IncidentState.ESCALATED)
            assert "not declared idempotent" in (one.held_reason or "")
            assert [told.kind for told in await world.told()] == ["MANUAL_INTERVENTION_REQUIRED"]

    play(sqlite_path, story)


def test_remedy_that_was_taken_out_is_not_repeated(sqlite_path: Path) -> None:
    """Its worker died and the configuration knows it no more: nobody knows what to repeat, so a person looks."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[KeyboardInterrupt()])
        old = procedure(ward, remedies={"old": Treatment(ward, name="old", idempotent=True)})
        with pytest.raises(KeyboardInterrupt):
            await sweep(world.parts, old)
        await world.later(61)
        await sweep(world.parts, procedure(ward, remedies={"treat": Treatment(ward, idempotent=True)}))
        (one,) = await Tables(world.store).incidents()
        assert (one.state, len(ward.treated)) == (IncidentState.ESCALATED, 1)

    play(sqlite_path, story)
