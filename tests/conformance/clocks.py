"""The time that a library lives in: real, or virtual where it lets itself be told the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from conformance.contract import Face
from prunella.core.clock import HOST
from prunella.testing import VirtualLoop, virtual_time

_sleep, _asleep = time.sleep, asyncio.sleep
_NAPS: ContextVar[list[float] | None] = ContextVar("naps", default=None)
"""Where the waits of this thread or task are written down; None to wait."""


class RealClock:
    """The machine's time; waiting takes as long as it says."""

    open_s = 0.3

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
        before = _NAPS.set(naps)
        try:
            yield
        finally:
            _NAPS.reset(before)


class HostClock(RealClock):
    """Prunella's time: shifted for threads, the virtual loop's for tasks."""

    open_s = 60.0

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
def real_clock() -> Iterator[RealClock]:
    """Lend the machine's time."""
    waits: Any = (_napping(_sleep), _anapping(_asleep))
    time.sleep, asyncio.sleep = waits
    try:
        yield RealClock()
    finally:
        time.sleep, asyncio.sleep = _sleep, _asleep


@contextmanager
def host_clock(face: Face) -> Iterator[HostClock]:
    """Lend prunella a time that passes when it is told to; threads that wait do so for real."""
    if face == "asyncio":
        with virtual_time() as loop, HOST.replaced(asleep=_anapping(_asleep)):
            yield HostClock(loop)
        return
    clock = HostClock(None)
    sleep = clock.pass_s if face == "sync" else _sleep
    with HOST.replaced(monotonic=clock.now, sleep=_napping(sleep)):
        yield clock


def _napping(sleep: Callable[[float], None]) -> Callable[[float], None]:
    def nap(seconds: float) -> None:
        naps = _NAPS.get()
        if naps is None:
            sleep(seconds)
        else:
            naps.append(seconds)

    return nap


def _anapping(asleep: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def anap(seconds: float, result: Any = None) -> Any:
        naps = _NAPS.get()
        if naps is not None:
            naps.append(seconds)
        return await asleep(seconds if naps is None else 0.0, result)

    return anap
