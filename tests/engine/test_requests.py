"""What was asked for in SQL is carried out as any wish is, under the name that was given out, and answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.ward import ORDER, Ward, procedure
from engine.world import World, play
from prunella.core.errors import DatabaseUnavailable
from prunella.engine import requests
from prunella.engine.orders import pause


@dataclass(frozen=True)
class Asked:
    """One wish on the desk."""

    id: str
    key: str
    entity: str = "order"
    issue: str = "STUCK_PENDING"
    action: str = "TREAT"
    requested_by: str = "grace"


@dataclass
class Desk:
    """A desk by the contract; a database that is away raises."""

    wishes: list[Asked] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    away: bool = False

    async def take(self) -> Sequence[Asked]:
        if self.away:
            raise DatabaseUnavailable("database shop: away")
        taken, self.wishes = self.wishes, []
        return taken

    async def answer(self, wish_id: str, words: str) -> None:
        self.answers[wish_id] = words


def put(world: World, ward: Ward) -> None:
    assert isinstance(world.parts.procedures, dict)
    world.parts.procedures["ward"] = procedure(ward, entity=ORDER)


def test_wish_is_carried_out_under_its_own_name(sqlite_path: Path) -> None:
    """What auto_heal_order returned is the id of the attempt that came of it."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"7": "PENDING"}, issue="STUCK_PENDING")
        put(world, ward)
        desk = Desk([Asked("wish-1", "7")])
        await requests.take_wishes(world.parts, [desk])
        assert desk.answers["wish-1"].startswith("SUCCESS")
        async with world.store.transaction() as tx:
            run = await tx.runs.get("wish-1")
        assert run is not None
        assert (run.resource, run.remedy) == ("7", "treat")

    play(sqlite_path, story)


def test_wish_that_cannot_be_met_is_answered_with_the_reason(sqlite_path: Path) -> None:
    """Unknown entity, well by now, everything paused: each has its answer, and the next look comes in 5 s."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"7": "PENDING"}, issue="STUCK_PENDING")
        put(world, ward)
        desk = Desk([Asked("a", "7", entity="invoice"), Asked("b", "8"), Asked("c", "7", action="DANCE")])
        await requests.take_wishes(world.parts, [desk])
        assert desk.answers["a"] == "FAILED: there is no entity 'invoice'"
        assert desk.answers["b"].startswith("FAILED: ")
        assert "dance" in desk.answers["c"].lower()
        await pause(world.parts, None, by="ada", reason="stop")
        desk.wishes = [Asked("d", "7")]
        await requests.take_wishes(world.parts, [desk])
        assert "paused by ada" in desk.answers["d"]
        assert ward.treated == []
        assert world.due_in_s(handler=requests.HANDLER) == 5.0

    play(sqlite_path, story)


def test_database_that_is_away_holds_up_no_other(sqlite_path: Path) -> None:
    """One desk that can't be reached leaves the others their turn."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"7": "PENDING"}, issue="STUCK_PENDING")
        put(world, ward)
        near = Desk([Asked("near", "7")])
        await requests.take_wishes(world.parts, [Desk(away=True), near])
        assert near.answers["near"].startswith("SUCCESS")

    play(sqlite_path, story)
