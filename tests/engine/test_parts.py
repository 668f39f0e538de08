"""Who waits for an incident is woken once it moves, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from functools import partial

from prunella.engine.parts import LEASE_S, Bulletin
from prunella.testing import run_virtual


def test_announcement_wakes_everybody_who_waits_for_that_incident() -> None:
    """Two wait for one incident and one for another: two are woken."""

    async def story() -> None:
        bulletin = Bulletin()
        first, second, other = bulletin.watch("i-1"), bulletin.watch("i-1"), bulletin.watch("i-2")
        bulletin.announce("i-1")
        assert (first.done(), second.done(), other.done()) == (True, True, False)

    run_virtual(story())


def _note(woken: list[int], number: int, _: asyncio.Future[None]) -> None:
    woken.append(number)


def test_who_asked_first_is_woken_first() -> None:
    """Nobody is passed over, and a simulated history does not depend on where its objects happen to lie."""

    async def story() -> None:
        bulletin, woken = Bulletin(), list[int]()
        for number in range(50):
            bulletin.watch("i-1").add_done_callback(partial(_note, woken, number))
        bulletin.announce("i-1")
        await asyncio.sleep(0)
        assert woken == [*range(50)]

    run_virtual(story())


def test_announcement_between_asking_and_waiting_is_not_missed() -> None:
    """Whoever asked before reading the row hears of a change in between."""

    async def story() -> None:
        bulletin = Bulletin()
        moved = bulletin.watch("i-1")
        bulletin.announce("i-1")
        await asyncio.wait_for(moved, 1)

    run_virtual(story())


def test_waiting_leaves_nothing_behind() -> None:
    """Unwatched, announced or cancelled: nothing is kept for an incident that nobody waits for."""

    async def story() -> None:
        bulletin = Bulletin()
        first, second = bulletin.watch("i-1"), bulletin.watch("i-1")
        bulletin.unwatch("i-1", first)
        assert len(bulletin._waiting["i-1"]) == 1
        bulletin.unwatch("i-1", second)
        third = bulletin.watch("i-2")
        third.cancel()
        bulletin.announce("i-2")
        bulletin.unwatch("i-2", third)
        bulletin.unwatch("nobody", third)
        bulletin.announce("nobody")
        assert not bulletin._waiting

    run_virtual(story())


def test_lease_outlives_the_longest_call() -> None:
    """A claim lasts twice as long as any call may take (document B: 10 s), so that a live worker never loses one."""
    assert LEASE_S >= 20.0
