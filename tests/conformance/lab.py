"""Where a case is carried out: services to call, callers alone and in crowds, time that passes.

A case is written once, as a coroutine. For threads its awaits never suspend, so it runs as plain code; for asyncio
they do. Waits here use the machine's own functions, whatever a clock has put in their place.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from conformance.contract import Adapter, Clock, Face, Function, Wish
from conformance.service import OK, Gate, Service, Step

_sleep, _asleep = time.sleep, asyncio.sleep
CROWD = {"sync": 4, "asyncio": 40, "threads": 32}
_SETTLED_S = 5.0
_QUIET_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    result: Any = None
    error: BaseException | None = None


class Caller:
    """One call that was begun and goes on beside the case."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.thread: threading.Thread | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Tell whether the call has ended."""
        return self.outcome is not None


class Lab:
    """One adapter on one face."""

    def __init__(self, adapter: Adapter, face: Face, clock: Clock) -> None:
        self.adapter = adapter
        self.face = face
        self.clock = clock
        self.crowd = CROWD[face]
        self.scene_of_many = False
        self._made: dict[tuple[object, ...], Any] = {}
        self._making = threading.Lock()
        self._callers: list[Caller] = []
        self._gates: list[Gate] = []

    # What is there ----------------------------------------------------------------------------------------------------

    def guard(self, **wish: Any) -> Callable[[Function], Function]:
        """Return a decorator that guards as wished; the same one to all threads of a scene."""
        made: Callable[[Function], Function] = self._once(self.adapter.guard, self._wish(wish))
        return made

    def guard_once(self, *, keyed: bool, **wish: Any) -> Callable[[Function], Function]:
        """Return a decorator for what may do harm when repeated."""
        made: Callable[[Function], Function] = self._once(self.adapter.guard_once, self._wish(wish), keyed=keyed)
        return made

    def service(self, *script: Step) -> Service:
        """Return a service that answers by a script."""
        return Service(self.face, self.clock, script or (OK,))

    def gate(self) -> Gate:
        """Return a gate that is closed; the lab opens it when the case has ended."""
        self._gates.append(Gate(self.face))
        return self._gates[-1]

    def _wish(self, wish: dict[str, Any]) -> Wish:
        return Wish(**{"open_s": self.clock.open_s, **wish})

    def _once(self, make: Callable[..., Any], wish: Wish, **options: bool) -> Any:
        if not self.scene_of_many:
            return make(wish, self.face, **options)
        with self._making:
            key = (wish, *options.values())
            if key not in self._made:
                self._made[key] = make(wish, self.face, **options)
            return self._made[key]

    # Time -------------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return seconds that only grow, as the library sees them."""
        return self.clock.now()

    @property
    def period_s(self) -> float:
        """A little more than breakers stay open: ours do up to a tenth longer, so that processes do not probe in step."""
        return self.clock.open_s * 1.2

    async def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        if self.face == "asyncio":
            await _asleep(seconds)
        else:
            self.clock.pass_s(seconds)

    @contextmanager
    def naps(self) -> Iterator[list[float]]:
        """Write down every wait of the library instead of waiting."""
        naps: list[float] = []
        with self.clock.napping(naps):
            yield naps

    @contextmanager
    def wall_clock_set_back(self, hours: float) -> Iterator[None]:
        """Set the wall clock back for everything that the library reads it with."""
        with _shifted(self.adapter.name, timedelta(hours=hours)):
            yield

    # Callers ----------------------------------------------------------------------------------------------------------

    async def call(self, guarded: Function, *args: Any) -> Outcome:
        """Call and return how it ended, whatever was raised."""
        try:
            if self.face == "asyncio":
                return Outcome(await guarded(*args))
            return Outcome(guarded(*args))
        except BaseException as error:
            return Outcome(error=error)

    async def items(self, guarded: Function) -> Outcome:
        """Take every item of a guarded stream."""
        try:
            if self.face == "asyncio":
                return Outcome([item async for item in guarded()])
            return Outcome(list(guarded()))
        except BaseException as error:
            return Outcome(error=error)

    def start(self, guarded: Function, count: int = 1, *args: Any) -> list[Caller]:
        """Begin calls that go on beside the case."""
        callers = [Caller() for _ in range(count)]
        self._callers += callers
        for caller in callers:
            if self.face == "asyncio":
                caller.task = asyncio.get_running_loop().create_task(self._acall(caller, guarded, args))
            else:
                work = partial(copy_context().run, self._tcall, caller, guarded, args)
                caller.thread = threading.Thread(target=work, daemon=True)
                caller.thread.start()
        return callers

    async def settled(self, callers: Sequence[Caller], service: Service) -> None:
        """Wait until each caller is at the service or has ended, or until nothing moves any more."""
        seen, quiet_since = (-1, -1), time.monotonic()
        for _ in range(2000):
            ended = sum(caller.done for caller in callers)
            if ended + service.inside >= len(callers) and (self.face != "asyncio" or seen == (ended, service.inside)):
                return
            if (ended, service.inside) != seen:
                seen, quiet_since = (ended, service.inside), time.monotonic()
            elif time.monotonic() - quiet_since > _QUIET_S:
                return
            if self.face == "asyncio":
                await _asleep(0)
            else:
                _sleep(0.001)

    async def finished(self, callers: Sequence[Caller]) -> list[Outcome]:
        """Wait until the callers have ended, and return how."""
        for caller in callers:
            if caller.task is not None:
                await asyncio.wait((caller.task,), timeout=_SETTLED_S)
            if caller.thread is not None:
                caller.thread.join(_SETTLED_S)
        return [caller.outcome or Outcome(error=TimeoutError("the call never ended")) for caller in callers]

    async def at_once(self, guarded: Function, count: int, *args: Any) -> list[Outcome]:
        """Make calls at once and wait for all."""
        return await self.finished(self.start(guarded, count, *args))

    async def each_alone(self, scene: Callable[[int], Awaitable[None]]) -> None:
        """Play a scene once; for threads, 32 times at once."""
        if self.face != "threads":
            return await scene(0)
        self.scene_of_many = True
        outcomes = await self.at_once(lambda number: without_loop(scene(next(number))), self.crowd, itertools.count())
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return None

    def refused(self, outcome: Outcome) -> bool:
        """Tell whether a call was refused, and not made."""
        return isinstance(outcome.error, self.adapter.refusals)

    async def closes(self) -> None:
        """Let go of everything that still waits."""
        for gate in self._gates:
            gate.open()
        for caller in self._callers:
            if caller.task is not None and not caller.task.done():
                caller.task.cancel()
        await self.finished(self._callers)

    async def _acall(self, caller: Caller, guarded: Function, args: tuple[Any, ...]) -> None:
        caller.outcome = await self.call(guarded, *args)

    def _tcall(self, caller: Caller, guarded: Function, args: tuple[Any, ...]) -> None:
        try:
            caller.outcome = Outcome(guarded(*args))
        except BaseException as error:
            caller.outcome = Outcome(error=error)


def without_loop(work: Awaitable[None]) -> None:
    """Run a coroutine that never suspends."""
    assert isinstance(work, Coroutine)
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("a case suspended where there is no event loop")


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process and return its exit status; it is killed when it takes more than two seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(2)
            work()
            os._exit(0)
        finally:
            os._exit(1)  # the child must not go on with the parent's work
    return os.waitpid(pid, 0)[1]


@contextmanager
def _shifted(package: str, back: timedelta) -> Iterator[None]:
    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - back

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.utcnow() - back  # noqa: DTZ003 - what some libraries measure with

    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == package]
    held = [module for module in modules if getattr(module, "datetime", None) is datetime]
    true_time = time.time
    for module in held:
        module.datetime = Shifted  # type: ignore[attr-defined]
    time.time = lambda: true_time() - back.total_seconds()
    try:
        yield
    finally:
        time.time = true_time
        for module in held:
            module.datetime = datetime  # type: ignore[attr-defined]
