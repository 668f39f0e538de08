"""A person outranks the schedule, never the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.ward import ORDER, Treatment, Ward, procedure
from engine.world import World, play
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.states import RunState
from prunella.engine import orders
from prunella.engine.parts import Parts


def staffed(world: World, ward: Ward, **changed: object) -> Parts:
    remedies = {"treat": Treatment(ward), "other": Treatment(ward, name="other")}
    ready = procedure(ward, remedies=remedies, entity=ORDER, **changed)
    return replace(world.parts, procedures={"ward": ready})


def test_dry_run_writes_nothing_and_calls_nobody(sqlite_path: Path) -> None:
    """The plan is shown, and no table of ours has a row more."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        swept = await orders.dry_run(staffed(world, ward), "ward")
        assert swept.plan is not None
        assert (swept.plan["targets"], ward.treated) == (["a"], [])
        assert (await world.incidents(), await world.audit(), await world.told()) == ([], [], [])
        async with world.store.transaction() as tx:
            assert await tx.procedures.all() == []

    play(sqlite_path, story)


def test_order_heals_one_thing_by_the_remedy_of_choice(sqlite_path: Path) -> None:
    """That one, at once, its cool-down aside; a remedy that nobody knows is refused before anything is written."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK", "b": "SICK"})
        parts = staffed(world, ward)
        with pytest.raises(InvalidInput, match="has no remedy 'magic'; known: treat, other, manual_intervention"):
            await orders.heal_one(parts, "ward", "a", remedy="magic", by="ada")
        with pytest.raises(InvalidInput, match="there is no procedure 'nobody'; known: ward"):
            await orders.heal_one(parts, "nobody", "a", remedy=None, by="ada")
        assert await world.incidents() == []
        await orders.heal_one(parts, "ward", "a", remedy="other", by="ada")
        (run,) = await world.runs((await world.incidents())[0].id)
        assert (run.remedy, run.resource, run.state) == ("other", "a", RunState.VERIFIED)
        assert set(ward.sick) == {"b"}

    play(sqlite_path, story)


def test_order_is_held_by_the_kill_switch(sqlite_path: Path) -> None:
    """Limits, levels and pauses hold for orders, too."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        parts = staffed(world, ward)
        for name in (None, "ward"):
            await orders.pause(parts, name, by="ada")
            swept = await orders.heal_one(parts, "ward", "a", remedy=None, by="eve")
            assert "paused by ada" in swept.waiting["a"]
            await orders.resume(parts, name, by="ada")
            with pytest.raises(IllegalTransition, match="is not paused"):
                await orders.resume(parts, name, by="ada")
        assert ward.treated == []
        await orders.run_now(parts, "ward", by="ada")
        assert len(ward.treated) == 1

    play(sqlite_path, story)


def test_end_of_the_kill_switch_wakes_what_it_held_and_nothing_else(sqlite_path: Path) -> None:
    """An incident that waits for its own back-off goes on waiting."""

    async def story(world: World) -> None:
        waiting = await world.incident((await world.fail()).incident_id)
        held = await world.incident((await world.fail("shy")).incident_id)
        due = waiting.next_at
        await orders.pause(world.parts, None, by="ada")
        await world.save(replace(held, held_reason="everything is paused by ada", next_at=None))
        await orders.resume(world.parts, None, by="ada")
        assert (await world.incident(waiting.id)).next_at == due
        assert (await world.incident(held.id)).next_at == world.parts.clock.now()

    play(sqlite_path, story)


def test_undo_refuses_what_it_cannot_put_back(sqlite_path: Path) -> None:
    """Unknown: None; not reversible, or undone before: refused by name."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        parts = staffed(world, ward)
        assert await orders.undo(parts, "nobody", by="ada") is None
        await orders.run_now(parts, "ward", by="ada")
        (run,) = await world.runs((await world.incidents())[0].id)
        with pytest.raises(IllegalTransition, match="can't be undone by machine"):
            await orders.undo(replace(parts, procedures={}), run.id, by="ada")
        assert await orders.undo(parts, run.id, by="ada") is not None
        with pytest.raises(IllegalTransition, match="was undone before"):
            await orders.undo(parts, run.id, by="ada")

    play(sqlite_path, story)
