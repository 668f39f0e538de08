"""The time that a library lives in: real, or virtual where it lets itself be told the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from conformance.contract import Face
from prunella.core.clock import HOST
from prunella.testing import VirtualLoop, virtual_time

_sleep, _asleep = time.sleep, asyncio.sleep


class RealClock:
    """The machine's time; waiting takes as long as it says."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def pass_s(self, seconds: float) -> None:
        _sleep(seconds)

    def run(self, work: Any) -> None:
        asyncio.run(work)

    @contextmanager
    def napping(self, naps: list[float]) -> Iterator[None]:
        async def anap(seconds: float, result: Any = None) -> Any:
            naps.append(seconds)
            await _asleep(0)
            return result

        waits: Any = (naps.append, anap)
        time.sleep, asyncio.sleep = waits
        try:
            yield
        finally:
            time.sleep, asyncio.sleep = _sleep, _asleep


class HostClock(RealClock):
    """Prunella's time: shifted for threads, the virtual loop's for tasks."""

    def __init__(self, loop: VirtualLoop | None) -> None:
        self._loop = loop
        self._shift_s = 0.0

    def now(self) -> float:
        return self._loop.time() if self._loop is not None else time.monotonic() + self._shift_s

    def wall(self) -> datetime:
        return HOST.now()

    def pass_s(self, seconds: float) -> None:
        self._shift_s += seconds

    def run(self, work: Any) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(work)

    @contextmanager
    def napping(self, naps: list[float]) -> Iterator[None]:
        async def anap(seconds: float) -> None:
            naps.append(seconds)
            await _asleep(0)

        with HOST.replaced(sleep=naps.append, asleep=anap):
            yield


@contextmanager
def real_clock() -> Iterator[RealClock]:
    """Lend the machine's time."""
    yield RealClock()


@contextmanager
def host_clock(face: Face) -> Iterator[HostClock]:
    """Lend prunella a time that passes when it is told to; threads that wait do so for real."""
    if face == "asyncio":
        with virtual_time() as loop:
            yield HostClock(loop)
        return
    clock = HostClock(None)
    sleep = clock.pass_s if face == "sync" else _sleep
    with HOST.replaced(monotonic=clock.now, sleep=sleep):
        yield clock
