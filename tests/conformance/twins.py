"""Planted bugs: prunella with one promise broken each, and the cases that have to notice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import prunella as pr
from conformance.clocks import HostClock, host_clock
from conformance.contract import Desk, Down, Face, Function, Refused, Wish
from conformance.ours import Prunella
from prunella.core.clock import HOST


def failing(face: Face, function: Function, become: Callable[[BaseException], BaseException]) -> Function:
    """Return `function` with its errors turned into others."""

    async def acall(*args: Any) -> Any:
        try:
            return await function(*args)
        except BaseException as error:
            other = become(error)
        raise other

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except BaseException as error:
            other = become(error)
        raise other

    return acall if face == "asyncio" else call


class _Twin(Prunella):
    name = "planted bug"


class Herd(_Twin):
    """Lets every call through while half open."""

    def breaker(self, wish: Wish) -> pr.Breaker | None:
        limits = super().breaker(wish)
        return limits and replace(limits, probes=1000)


class NoLease(_Twin):
    """Waits for a hung probe for ever."""

    def breaker(self, wish: Wish) -> pr.Breaker | None:
        limits = super().breaker(wish)
        return limits and replace(limits, probe_lease_s=1e6)


class Bounds(_Twin):
    """Judges a rate a little too late, and what is long past."""

    def breaker(self, wish: Wish) -> pr.Breaker | None:
        limits = super().breaker(wish)
        return limits and replace(limits, failure_rate=wish.failure_rate and wish.failure_rate + 0.05, window_s=1e6)


class SameOpenTime(_Twin):
    """Opens for the same time again and again."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        made = super().policy(wish, face)
        made.subscribe(lambda event: setattr(made.breaker, "_openings", 0))
        return made


class Serial(_Twin):
    """Holds a lock during the call."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        lock, alock, made = threading.Lock(), asyncio.Lock(), super().guard(wish, face)

        def guard(function: Function) -> Function:
            guarded = made(function)

            async def acall(*args: Any) -> Any:
                async with alock:
                    await asyncio.sleep(0.001)
                    return await guarded(*args)

            def call(*args: Any) -> Any:
                with lock:
                    return guarded(*args)

            return acall if face == "asyncio" else call

        return guard


class StaleLocks(_Twin):
    """Keeps its locks when the process forks."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        made = super().policy(wish, face)
        made.breaker.renew = lambda: None  # type: ignore[method-assign]
        return made


class WallClock(_Twin):
    """Measures by the wall clock."""

    @contextmanager
    def clock(self, face: Face) -> Iterator[HostClock]:
        with host_clock(face) as clock:
            ahead_s = time.time() - time.monotonic()
            with HOST.replaced(monotonic=lambda: clock.now() + time.time() - time.monotonic() - ahead_s):
                yield clock


class Swallows(_Twin):
    """Takes a cancellation for a failure."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(replace(wish, unless=None), face)
        return lambda function: failing(face, made(failing(face, function, _into_failure)), _into_failure)


class ClosesOnSuccess(_Twin):
    """Closes on every success, whenever it began."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = self.policy(wish, face)

        def guard(function: Function) -> Function:
            guarded = made(function)

            async def acall(*args: Any) -> Any:
                result = await guarded(*args)
                made.breaker.force_closed()
                return result

            def call(*args: Any) -> Any:
                result = guarded(*args)
                made.breaker.force_closed()
                return result

            return acall if face == "asyncio" else call

        return guard


class CountsLate(_Twin):
    """Opens at a failure, whenever it began."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = self.policy(wish, face)
        failures = 0

        def late(error: BaseException) -> BaseException:
            nonlocal failures
            failures += isinstance(error, Down)
            if failures > (wish.failures or 0):
                made.breaker.force_open("a late failure")
            return error

        return lambda function: failing(face, made(function), late)


class Shared(_Twin):
    """Counts the attempts of all loops together."""

    def blocks(self, wish: Wish, face: Face) -> Callable[[], Any]:
        made = self.policy(wish, face).attempts()
        loops: list[Any] = []

        def shared() -> Any:
            if not loops:
                loops.append(aiter(made) if face == "asyncio" else iter(made))
            return loops[0]

        return shared


class Endless(_Twin):
    """Knows no limit of time."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        return super().policy(replace(wish, total_s=None, attempt_s=None), face)


class Boundless(_Twin):
    """Knows no limit of number or place."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        return super().policy(replace(wish, places=None, limit_per_s=None, budget_ratio=None), face)


class Uncapped(_Twin):
    """Doubles the wait before it looks at the longest allowed."""

    def retry(self, wish: Wish) -> pr.Retry:
        return replace(super().retry(wish), steps=lambda failed: wish.wait_s * 2.0**failed)


class Naive(_Twin):
    """Takes everything for a plain function."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(wish, face)

        def guard(function: Function) -> Function:
            def call(*args: Any) -> Any:
                return function(*args)

            return made(call)

        return guard


class Once(_Twin):
    """Does not try again."""

    def retry(self, wish: Wish) -> pr.Retry:
        return pr.Retry(attempts=1)


class SmallPool(_Twin):
    """Makes synchronous attempts in four threads that know nothing of the caller."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        pool = ThreadPoolExecutor(4)
        return lambda function: lambda *args: pool.submit(function, *args).result(wish.attempt_s)


class ThreadEach(_Twin):
    """Makes each synchronous attempt in a thread of its own."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        def guard(function: Function) -> Function:
            def call(*args: Any) -> Any:
                thread = threading.Thread(target=function, args=args, daemon=True)
                thread.start()
                thread.join(wish.attempt_s)
                raise TimeoutError

            return call

        return guard


class Talkative(_Twin):
    """Lets a listener's error out."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        told, made = wish.listener, super().guard(wish, face)

        def tell(error: BaseException) -> BaseException:
            if told is not None:
                told(error)
            return error

        return lambda function: (
            made(failing(face, function, tell)) if wish.attempts == 1 else _telling(made, function, face, told)
        )


class Sleepy(_Twin):
    """Sits out any wait that a service asks for."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        made = super().policy(wish, face)
        made.update(max_inline_wait_s=1e11)
        return made


class Deaf(_Twin):
    """Does not hear what a service asks."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(wish, face)
        return lambda function: made(failing(face, function, _without_headers))


class Undated(_Twin):
    """Measures dates by its own clock."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(wish, face)
        return lambda function: made(failing(face, function, _without_date))


class Strict(_Twin):
    """Raises at a Retry-After that it can't read."""

    def retry(self, wish: Wish) -> pr.Retry:
        return replace(super().retry(wish), on=_reads_strictly)


class LoopBound(_Twin):
    """Belongs to the event loop that used it first."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made, loops = super().guard(wish, face), []

        def guard(function: Function) -> Function:
            guarded = made(function)

            async def call(*args: Any) -> Any:
                loops.append(asyncio.get_running_loop())
                if loops[0] is not loops[-1]:
                    raise RuntimeError("bound to a different event loop")
                return await guarded(*args)

            return call

        return guard


class Multiplies(_Twin):
    """Raises errors anew, so that nobody sees that it has tried already; without notes."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(wish, face)
        return lambda function: failing(face, made(function), lambda error: type(error)(*error.args))


class Harmful(_Twin):
    """Repeats what may do harm."""

    def guard_once(self, wish: Wish, face: Face, *, keyed: bool) -> Callable[[Function], Function]:
        return self.guard(wish, face)


class Keyless(_Twin):
    """Does not look at idempotency keys."""

    def guard_once(self, wish: Wish, face: Face, *, keyed: bool) -> Callable[[Function], Function]:
        return super().guard_once(wish, face, keyed=False)


class Leaks(_Twin):
    """Does not give places back when a call fails or is cancelled, nor turns in a queue."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = self.policy(wish, face)
        core = made.core((), {})
        if core.limiter is not None:
            core.limiter.hand_back = _ignoring  # type: ignore[method-assign, assignment]
        if core.bulkhead is not None:
            core.bulkhead.abandon = _ignoring  # type: ignore[method-assign, assignment]
        return made


class Fixed(_Twin):
    """Does not learn from 429."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(wish, face)
        return lambda function: made(
            failing(face, function, lambda error: Down() if isinstance(error, Refused) else error)
        )


class Credulous(_Twin):
    """Believes every result."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        return super().policy(replace(wish, refuse_result=None), face)


class Stubborn(_Twin):
    """Goes on trying against an open breaker, client errors and the end of the interpreter."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        made = super().guard(replace(wish, attempts=1, wait_s=0.0), face)

        def guard(function: Function) -> Function:
            guarded = made(function)

            async def acall(*args: Any) -> Any:
                for left in reversed(range(wish.attempts)):
                    try:
                        return await guarded(*args)
                    except BaseException:
                        if not left:
                            raise
                        await HOST.asleep(wish.wait_s)
                raise AssertionError

            def call(*args: Any) -> Any:
                for left in reversed(range(wish.attempts)):
                    try:
                        return guarded(*args)
                    except BaseException:
                        if not left:
                            raise
                        HOST.sleep(wish.wait_s)
                raise AssertionError

            return acall if face == "asyncio" else call

        return guard


class CountsRefusals(_Twin):
    """Counts its own refusals against the service."""

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        places = super().guard(Wish(places=wish.places), face)
        breaker = super().guard(replace(wish, places=None), face)
        return lambda function: breaker(failing(face, places(function), _into_failure_of_service))


class Forgetful(_Twin):
    """Tells the caller that it was written down, and means to write it."""

    @contextmanager
    def durable(self, wish: Wish, face: Face) -> Iterator[Desk]:
        with super().durable(wish, face) as desk:
            yield _Promises(desk)


class _Promises:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.breaks = desk.breaks
        self.waiting = desk.waiting

    def guard(self, function: Function) -> Function:
        def call(*args: Any) -> Any:
            raise pr.HandedOver("soon", operation_id="soon", due_at=HOST.now() + timedelta(seconds=30))

        async def acall(*args: Any) -> Any:
            return call()

        return acall if asyncio.iscoroutinefunction(function) else call

    def comes_due(self) -> None:
        pass


class Lenient(_Twin):
    """Takes any setting."""

    def policy(self, wish: Wish, face: Face) -> pr.Policy:
        wait_s = wish.wait_s if wish.wait_s >= 0 else 0.0
        failures = wish.failures and max(wish.failures, 1)
        open_s = wish.open_s if wish.open_s > 0 else 1.0
        sane = replace(wish, attempts=max(wish.attempts, 1), wait_s=wait_s, failures=failures or 1, open_s=open_s)
        return super().policy(sane, face)


def _into_failure_of_service(error: BaseException) -> BaseException:
    return Down() if isinstance(error, pr.LoadShed) else error


def _ignoring(_: object) -> None:
    """Do nothing."""


def _into_failure(error: BaseException) -> BaseException:
    return error if isinstance(error, Exception) else Down()


def _without_headers(error: BaseException) -> BaseException:
    return Refused(503) if isinstance(error, Refused) else error


def _without_date(error: BaseException) -> BaseException:
    if not isinstance(error, Refused):
        return error
    return Refused(503, {name: value for name, value in error.response.headers.items() if name != "Date"})


def _reads_strictly(error: BaseException) -> bool:
    return not isinstance(error, Refused) or int(error.response.headers["Retry-After"]) >= 0


def _telling(
    made: Callable[[Function], Function], function: Function, face: Face, told: Callable[..., object] | None
) -> Function:
    guarded = made(function)

    async def acall(*args: Any) -> Any:
        result = await guarded(*args)
        if told is not None:
            told(result)
        return result

    def call(*args: Any) -> Any:
        result = guarded(*args)
        if told is not None:
            told(result)
        return result

    return acall if face == "asyncio" else call


NOTICED: tuple[tuple[Prunella, str], ...] = (
    (Herd(), "A F G"),
    (Serial(), "B 12b"),
    (LoopBound(), "12"),
    (StaleLocks(), "12b"),
    (WallClock(), "C"),
    (Swallows(), "D H I J 8a 8c"),
    (ClosesOnSuccess(), "E F G2"),
    (NoLease(), "G G2"),
    (CountsLate(), "2"),
    (Bounds(), "10a 10b"),
    (SameOpenTime(), "11"),
    (Shared(), "K"),
    (Endless(), "L 4a 4b 4c 8d"),
    (Boundless(), "8e 13c V 6"),
    (Uncapped(), "M"),
    (Naive(), "N"),
    (Once(), "O S 3a 3b 3d 17a 17b R1"),
    (SmallPool(), "P Q"),
    (ThreadEach(), "R"),
    (Talkative(), "S"),
    (Sleepy(), "T 3f"),
    (Deaf(), "3a 3b 3c 3d T2"),
    (Undated(), "3c"),
    (Strict(), "3e"),
    (Multiplies(), "5 17a 17b"),
    (Harmful(), "7a"),
    (Keyless(), "7b"),
    (Leaks(), "8b 13b"),
    (Fixed(), "13a"),
    (Credulous(), "14"),
    (Stubborn(), "U 9 8a R1"),
    (CountsRefusals(), "13d"),
    (Forgetful(), "15a 15b 15c 15d 9b"),
    (Lenient(), "18 18b"),
)
"""Each bug, and the cases that have to fail for it on every face."""
