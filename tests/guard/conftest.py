"""Time in the hands of a test: it stands still until somebody waits, for threads and tasks alike."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from prunella.core.clock import HOST
from prunella.testing import virtual_time

T = TypeVar("T")
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class ManualTime:
    """The time and chance that guards see.

    `slept` holds every wait in the order they began. Inside `run` tasks wait in virtual time, at once.
    """

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.chance = 0.0
        self._passed_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def monotonic(self) -> float:
        return self._passed_s + (self._loop.time() if self._loop is not None else 0.0)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def random(self) -> float:
        return self.chance

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._passed_s += seconds

    async def asleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds)

    def passes(self, seconds: float) -> None:
        """Let time go by without anybody waiting for it."""
        self._passed_s += seconds

    def run(self, work: Coroutine[Any, Any, T], *, seed: int | None = None) -> T:
        """Run a coroutine to its end; what it takes is added to the time that has passed."""
        with virtual_time(seed) as loop, self.in_place():
            self._loop = loop
            try:
                return loop.run_until_complete(work)
            finally:
                self._loop = None
                self._passed_s += loop.time()

    def in_place(self) -> AbstractContextManager[None]:
        """Make it the time of all guards until the block ends."""
        return HOST.replaced(
            monotonic=self.monotonic, now=self.now, random=self.random, sleep=self.sleep, asleep=self.asleep
        )


@contextmanager
def manual_time() -> Iterator[ManualTime]:
    """Put a fresh manual time into HOST, and the machine's own back afterwards."""
    hands = ManualTime()
    with hands.in_place():
        yield hands


@pytest.fixture
def clock() -> Iterator[ManualTime]:
    """Return a time that only waiting moves."""
    with manual_time() as hands:
        yield hands
