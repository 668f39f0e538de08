"""The first page's figures: what is open, what was settled, how long it took, who fails most."""

from __future__ import annotations

from pathlib import Path

from engine.world import World, play, refused
from prunella.engine import people
from prunella.engine.overview import WEEK, overview, rates


def test_overview_counts_and_leaves_forced_failures_out(sqlite_path: Path) -> None:
    """Active, with a person, disabled, opened and recovered in 24 h, MTTR; what was forced counts in no figure."""

    async def story(world: World) -> None:
        world.hands.by_endpoint["/stuck"] = refused(503)
        await world.fail(operation="POST /a")
        await world.fail(operation="POST /b", forced=True)
        await world.fail(operation="POST /c", endpoint="/stuck")
        await world.fail(operation="POST /d", status=422)
        await world.later(20)
        await people.act_on_service(world.parts, "shy", "disable", by="ada")
        figures = await overview(world.parts)
        resolved = [one for one in await world.incidents() if not one.is_open]
        assert {one.forced for one in resolved} == {True, False}
        assert (figures.active, figures.needs_person, len(figures.disabled)) == (2, 1, 1)
        assert (figures.day.opened, figures.day.recovered, figures.day.left) == (3, 1, 1)
        assert figures.day.rate == 0.5
        assert figures.health == "needs_you"
        assert figures.mttr_s is not None
        assert 0 < figures.mttr_s[0] <= figures.mttr_s[1] < 1
        assert {name: one.opened for name, one in figures.categories.items() if one.opened} == {"network": 2, "data": 1}
        assert sum(tally.opened for _, tally in figures.hours) == 3
        assert [(one.name, one.tally.opened, sum(one.hours)) for one in figures.failing] == [("crm", 3, 3)]
        assert [one.category.value for one in figures.for_people] == ["data"]
        await world.later(25 * 3600)
        old = await overview(world.parts)
        assert (old.day.opened, old.day.rate, old.mttr_s) == (0, None, None)
        week = await rates(world.parts, WEEK)
        assert (len(week), sum(tally.opened for _, tally in week)) == (7 * 24, 3)

    play(sqlite_path, story, running=True)
