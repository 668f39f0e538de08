"""Time, randomness and ids: the only place that reads them, so that everything else can be replayed.

Whoever needs one takes a `Clock`, a `Rng` or `Ids`; a direct read elsewhere is refused by the linter.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

_ADRIFT_S = 0.5
Rng = random.Random
"""A seeded source of chance; `Rng()` seeds itself from the operating system."""


class Chance(Protocol):
    """A source of numbers from 0 to 1."""

    def random(self) -> float:
        """Return a number >= 0 and < 1."""
        ...


class Clock(Protocol):
    """Tell the time and let time pass."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC: for rows and messages, never for measuring."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow: for measuring and waiting."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less returns without giving up the turn."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await _asleep(seconds)


class AnchoredClock(SystemClock):
    """Follow another machine's wall clock: anchored once, then carried by the monotonic clock.

    On PostgreSQL every process anchors to the database's clock, so that a host whose clock jumps or drifts
    still judges due times as its neighbours do.
    """

    def __init__(self) -> None:
        self._offset_s = self._host_s = time.time() - time.monotonic()

    def anchor(self, now: datetime) -> None:
        """Take `now` as the present moment."""
        self._offset_s = now.timestamp() - time.monotonic()
        self._host_s = time.time() - time.monotonic()

    def is_adrift(self) -> bool:
        """Tell whether the host's two clocks parted since: one was set, or the host slept and the monotonic one too."""
        return abs(time.time() - time.monotonic() - self._host_s) > _ADRIFT_S

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._offset_s + time.monotonic(), UTC)


class ManualClock:
    """Time that stands still until a test moves it; sleeping moves it at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` (>= 0) pass."""
        self._elapsed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(max(seconds, 0.0))


class Ids:
    """Make ids that sort in the order they were made: UUID version 7 (RFC 9562 sections 5.7 and 6.2)."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._last = 0

    def new(self) -> str:
        """Return a fresh id as text."""
        stamp = int(self._clock.now().timestamp() * 1000) << 12
        self._last = max(stamp, self._last + 1)  # 4,096 ids a millisecond, then the counter borrows from the next
        high, low = self._last >> 12, self._last & 0xFFF
        value = high << 80 | 0x7 << 76 | low << 64 | 0b10 << 62 | self._rng.getrandbits(62)
        return str(uuid.UUID(int=value))


def first_id_at(moment: datetime) -> str:
    """Return the least id that `Ids` could make at a moment; ids are compared with it as text."""
    stamp = max(int(moment.timestamp() * 1000), 0)
    return str(uuid.UUID(int=stamp << 80 | 0x7 << 76 | 0b10 << 62))


class Host:
    """Time and chance as the guards use them: plain functions, so that a call through a guard costs no wrapper.

    Every guard of the process reads `HOST`; `prunella.testing.virtual_time` replaces its functions for a while.
    """

    __slots__ = ("_layers", "asleep", "monotonic", "now", "random", "sleep")

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = _now
        self.monotonic: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = time.sleep
        self.asleep: Callable[[float], Awaitable[None]] = _asleep
        self.random: Callable[[], float] = random.random
        own = {name: getattr(self, name) for name in ("now", "monotonic", "sleep", "asleep", "random")}
        self._layers: list[dict[str, Callable[..., Any]]] = [own]

    @contextmanager
    def replaced(self, **functions: Callable[..., Any]) -> Iterator[None]:
        """Put other functions in place until the block ends; blocks may end in another order than they began."""
        self._layers.append(functions)
        self._overlay()
        try:
            yield
        finally:
            self._layers = [layer for layer in self._layers if layer is not functions]
            self._overlay()

    def _overlay(self) -> None:
        for layer in self._layers:
            for name, function in layer.items():
                setattr(self, name, function)


def _now() -> datetime:
    return datetime.now(UTC)


async def _asleep(seconds: float) -> None:
    import asyncio  # the library's import must stay quick

    await asyncio.sleep(seconds)


HOST = Host()
"""The time and chance of this process."""
