"""What the runner of one process promises beyond the contract: it is quick, and it keeps no more than what waits."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from prunella.core.clock import SystemClock
from prunella.core.errors import StoreUnavailable
from prunella.core.events import Listeners
from prunella.runner.local import LocalRunner
from prunella.testing import LoopClock, run_virtual

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_ten_thousand_submissions_are_all_called() -> None:
    """10,000 keys, submitted in any order of time, are all called."""

    async def story() -> int:
        runner = LocalRunner(LoopClock(), Listeners())
        called: set[str] = set()

        async def handler(one: str) -> None:
            called.add(one)

        runner.handle("heal", handler)
        for number in range(10_000):
            await runner.submit("heal", str(number), at=START + timedelta(seconds=number % 7))
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(10)
        await runner.stop()
        await running
        return len(called)

    assert run_virtual(story()) == 10_000


def test_database_that_was_away_is_waited_for() -> None:
    """A handler that finds the database away for ten minutes is called until it is back, and then within 2 s."""

    async def story() -> float:
        clock = LoopClock()
        runner = LocalRunner(clock, Listeners())
        healed: list[float] = []

        async def handler() -> None:
            if clock.monotonic() < 600:
                raise StoreUnavailable("the database does not answer")
            healed.append(clock.monotonic())

        runner.handle("heal", handler)
        await runner.submit("heal")
        running = asyncio.create_task(runner.run())
        await asyncio.sleep(610)
        await runner.stop()
        await running
        (at,) = healed
        return at

    assert 600 <= run_virtual(story()) <= 602


def test_submitting_what_waits_already_keeps_nothing() -> None:
    """A key that is submitted, cancelled or moved forward again and again takes the room of one."""

    async def story() -> int:
        runner = LocalRunner(LoopClock(), Listeners())
        for number in range(10_000):
            await runner.submit("heal", "a", at=START + timedelta(days=30) - timedelta(seconds=number))
            await runner.submit("heal", "b", at=START + timedelta(days=30))
            await runner.cancel("heal", "b")
        assert len(await runner.queued()) == 1
        return len(runner._heap)

    assert run_virtual(story()) < 200


@pytest.mark.anyio
async def test_runner_works_on_the_machines_own_clock() -> None:
    """The same in real time: a call in 20 ms comes neither early nor much too late."""
    runner = LocalRunner(SystemClock(), Listeners())
    called: list[float] = []
    done = asyncio.Event()

    async def handler() -> None:
        called.append(time.monotonic())
        done.set()

    runner.handle("heal", handler)
    running = asyncio.create_task(runner.run())
    began = time.monotonic()
    await runner.submit("heal", at=SystemClock().now() + timedelta(seconds=0.02))
    async with asyncio.timeout(5):
        await done.wait()
    await runner.stop()
    await running
    assert called[0] - began >= 0.019


def test_clock_that_jumps_moves_nothing_that_waits() -> None:
    """A wall clock that is put back an hour after the submission does not delay the call by an hour."""

    class Jumping(LoopClock):
        offset = timedelta(0)

        def now(self) -> datetime:
            return super().now() + self.offset

    async def story() -> list[float]:
        clock = Jumping()
        runner = LocalRunner(clock, Listeners())
        called: list[float] = []

        async def handler() -> None:
            called.append(clock.monotonic())

        runner.handle("heal", handler)
        running = asyncio.create_task(runner.run())
        await runner.submit("heal", at=START + timedelta(seconds=30))
        clock.offset = timedelta(hours=-1)
        await asyncio.sleep(4000)
        await runner.stop()
        await running
        return called

    assert run_virtual(story()) == [30]
