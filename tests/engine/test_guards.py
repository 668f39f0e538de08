"""What guards noticed becomes Signals: each once, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.world import World, play
from prunella.core.errors import StoreUnavailable
from prunella.core.records import Signal
from prunella.engine.guards import take_notices
from prunella.engine.intake import Intake
from prunella.engine.report import Receipt
from prunella.guard.board import Notice
from prunella.guard.place import DatabasePlace


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DatabasePlace]:
    opened = DatabasePlace(f"sqlite:///{tmp_path / 'noticed.db'}")
    yield opened
    opened.close()


class Choosy(Intake):
    """An intake that can't accept what comes from some services."""

    broken: dict[str, Exception]

    async def accept(self, signal: Signal, *, echo_of: str | None = None) -> Receipt:
        if signal.service in self.broken:
            raise self.broken[signal.service]
        return await super().accept(signal, echo_of=echo_of)


def choosy(world: World, **broken: Exception) -> Choosy:
    intake = Choosy(world.parts)
    intake.broken = broken
    return intake


def notice(place: DatabasePlace, *services: str) -> None:
    for service in services:
        place.board.notice(Notice(service=service, code="circuit_breaker_open", message="down", recovered=False))


def test_notice_that_can_not_be_accepted_holds_up_no_other(
    sqlite_path: Path, place: DatabasePlace, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside in the log with its reason, and not met again; the others are incidents."""
    notice(place, "crm", "bad", "shop")

    async def story(world: World) -> None:
        await take_notices(world.parts, choosy(world, bad=ValueError("no such thing")), place)
        assert [event.fields["service"] for event in world.emitted("signal.accepted")] == ["crm", "shop"]

    play(sqlite_path, story)
    assert place.board.notices(10) == []
    assert "'bad') was set aside" in caplog.text
    assert "no such thing" in caplog.text


def test_store_that_is_away_ends_the_round_and_loses_nothing(sqlite_path: Path, place: DatabasePlace) -> None:
    """What was accepted before is forgotten, and the rest waits for the next look."""
    notice(place, "crm", "away", "shop")

    async def story(world: World) -> None:
        with pytest.raises(StoreUnavailable):
            await take_notices(world.parts, choosy(world, away=StoreUnavailable("gone")), place)
        assert [one.service for one in place.board.notices(10)] == ["away", "shop"]
        await take_notices(world.parts, world.intake, place)
        assert [event.fields["service"] for event in world.emitted("signal.accepted")] == ["crm", "away", "shop"]

    play(sqlite_path, story)
    assert place.board.notices(10) == []
