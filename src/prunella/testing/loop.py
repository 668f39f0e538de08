"""Virtual time for asyncio: hours pass in milliseconds, in an order that one seed repeats bit for bit.

For code that takes its time, chance and I/O from outside. There are no sockets and no threads here: what waits for
one is reported as a deadlock, and work meant for a thread (`asyncio.to_thread`) runs in the loop, in no time.
Must never wait for real time, and must never run a line of a crashed program again.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from prunella.core.clock import HOST, Rng

_START = datetime(2026, 1, 1, tzinfo=UTC)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Say that every task waits for something that nobody will bring."""


class SimulatedCrash(Exception):
    """End a run that `VirtualLoop.crash` abandoned, as `kill -9` ends a process."""


class _NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address.

    asyncio keeps tasks in sets (task groups, `asyncio.wait`); by address, their order would differ from run to run.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


@dataclass
class Sands:
    """The virtual time itself, in seconds."""

    now_s: float = 0.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Run asyncio in virtual time: when nothing is ready, the clock jumps to the next timer.

    Usable wherever a loop factory is asked for. Two runs are identical as far as the program is: a set of strings
    changes its order with PYTHONHASHSEED, and no loop can help that.

    Args:
        seed: draw the next callback by lot from those that are ready, the same for the same seed; None keeps
            asyncio's order, first come first served.
        sands: the time it shows; loops that follow each other may share one.

    Attributes:
        slept: every wait of a guard while `virtual_time` lent this loop, in seconds.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, seed: int | None = None, sands: Sands | None = None) -> None:
        self._sands = sands if sands is not None else Sands()
        self.slept: list[float] = []
        self._lot = None if seed is None else Rng(seed)
        self._crashed = False
        super().__init__()
        self.set_task_factory(partial(_make_task, itertools.count(1)))

    @property
    def crashed(self) -> bool:
        """Tell whether `crash` was called; such a loop runs nothing any more."""
        return self._crashed

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._sands.now_s

    def crash(self) -> None:
        """Abandon the program as soon as the callback or task at work gives up its turn.

        `run_until_complete` then ends with SimulatedCrash. No suspended task sees a cancellation, and no `finally`
        of theirs runs, neither now nor when the interpreter exits: their frames are kept for ever, which costs a
        few kilobytes per task. The caller itself runs on to its next await: see `crash_here`.
        """
        self._crashed = True

    async def crash_here(self) -> NoReturn:
        """Abandon the program at this very await."""
        self.crash()
        never: asyncio.Future[NoReturn] = self.create_future()
        await never

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Call `func` in the loop, one turn later: a thread would bring back real time and chance."""
        outcome: asyncio.Future[T] = self.create_future()

        def call() -> None:
            if outcome.cancelled():
                return
            try:
                outcome.set_result(func(*args))
            except Exception as exc:
                outcome.set_exception(exc)

        self.call_soon(call)
        return outcome

    def pass_alone(self, seconds: float) -> bool:
        """Let time pass at once where nobody else would do anything in it; False, and no time has passed, otherwise.

        What a sleep would come to, without its turn of the loop: most waits of a simulated database are of this kind.
        """
        if self._ready:
            return False
        self._drop_cancelled_timers()
        until_s = self._sands.now_s + seconds
        if self._scheduled and self._scheduled[0].when() <= until_s:
            return False
        self._sands.now_s = until_s
        return True

    def _run_once(self) -> None:
        # Replaces asyncio's own turn, which polls sockets and waits for real time.
        self._end_if_crashed()
        self._wake_timers()
        for _ in range(len(self._ready)):
            handle = self._draw()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - asyncio has no public way to run a handle
            self._end_if_crashed()

    def _wake_timers(self) -> None:
        self._drop_cancelled_timers()
        if not self._ready and not self._stopping:
            self._jump()
        while self._scheduled and self._scheduled[0].when() <= self._sands.now_s:
            self._ready.append(heapq.heappop(self._scheduled))

    def _drop_cancelled_timers(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)

    def _jump(self) -> None:
        next_s = self._scheduled[0].when() if self._scheduled else math.inf
        if next_s == math.inf:
            raise Deadlock(_describe_deadlock(self))
        self._sands.now_s = max(self._sands.now_s, next_s)

    def _draw(self) -> asyncio.Handle:
        if self._lot is not None:
            self._ready.rotate(-self._lot.randrange(len(self._ready)))
        return self._ready.popleft()

    def _end_if_crashed(self) -> None:
        if not self._crashed:
            return
        tasks = asyncio.all_tasks(self)
        _keep_for_ever([*tasks, *self._ready, *self._scheduled])
        for task in tasks:
            asyncio._unregister_task(task)  # noqa: SLF001 - documented for those who extend asyncio
        self._ready.clear()
        self._scheduled.clear()
        raise SimulatedCrash(f"the program was abandoned after {self._sands.now_s:g} virtual seconds")


def _make_task(
    numbers: Iterator[int],
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
    **options: Any,
) -> asyncio.Task[T]:
    assert asyncio.iscoroutine(coro)
    number = next(numbers)
    options["name"] = options.get("name") or f"Task-{number}"
    return _NumberedTask(coro, number=number, loop=loop, **options)


def _keep_for_ever(things: list[object]) -> None:
    # A suspended coroutine that is freed runs its `finally`. Modules are emptied at exit, so a list in one is not
    # safe enough: only a reference that nobody can give back is.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(things))


def _describe_deadlock(loop: VirtualLoop) -> str:
    waiting = sorted(asyncio.all_tasks(loop), key=hash)
    shown = "; ".join(f"{task.get_name()} {_place_of(task)}" for task in waiting[:10])
    return (
        f"virtual loop: nothing is ready and no timer is set at {loop.time():g} s, {len(waiting)} tasks wait for ever: "
        f"{shown or 'none'}; complete what they wait for or give the wait a timeout "
        "(sockets and threads do not exist in virtual time)"
    )


def _place_of(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack()
    if not frames:
        return "not started"
    frame = frames[-1]
    return f"in {frame.f_code.co_qualname} line {frame.f_lineno}"


@contextmanager
def virtual_time(seed: int | None = None) -> Iterator[VirtualLoop]:
    """Lend a fresh VirtualLoop; at the end what still runs on it is cancelled (not after a crash) and it is closed.

    Meanwhile every guard lives in its time too, in synchronous code as well, and `asyncio.run` starts loops that share
    it; `loop.slept` tells the guards' waits.
    """
    loop = VirtualLoop(seed)
    try:
        with _guards_follow(loop, seed):
            yield loop
    finally:
        try:
            if not loop.crashed:
                _wind_up(loop)
        finally:
            loop.close()


@contextmanager
def _guards_follow(loop: VirtualLoop, seed: int | None) -> Iterator[None]:
    sands = loop._sands  # noqa: SLF001 - this module's own
    begun_at = HOST.monotonic()  # guards that worked before must not see their clock go back

    def sleep(seconds: float) -> None:
        loop.slept.append(seconds)
        sands.now_s += seconds

    async def asleep(seconds: float) -> None:
        loop.slept.append(seconds)
        await asyncio.sleep(seconds)

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return VirtualLoop(seed, sands)

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        with HOST.replaced(
            monotonic=lambda: begun_at + sands.now_s,
            now=lambda: _START + timedelta(seconds=sands.now_s),
            random=Rng(seed).random if seed is not None else HOST.random,
            sleep=sleep,
            asleep=asleep,
        ):
            yield
    finally:
        asyncio.set_event_loop_policy(before)


def _wind_up(loop: VirtualLoop) -> None:
    leftovers = asyncio.all_tasks(loop)
    for task in leftovers:
        task.cancel()
    if leftovers:
        loop.run_until_complete(asyncio.wait(leftovers))
    loop.run_until_complete(loop.shutdown_asyncgens())


def run_virtual(coro: Coroutine[Any, Any, T], *, seed: int | None = None) -> T:
    """Run `coro` to its end in virtual time and return its result."""
    with virtual_time(seed) as loop:
        return loop.run_until_complete(coro)


class LoopClock:
    """A Clock that follows the running loop; the wall clock stands at `start` when the loop's time is zero."""

    def __init__(self, start: datetime = _START) -> None:
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)
