"""Limits in time and cancellation, for tasks and for threads."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime
from prunella.core.clock import HOST

FAST = pr.Retry(attempts=3, base_s=0.0)
PARTS: dict[str, dict[str, Any]] = {
    "alone": {},
    "breaker": {"breaker": pr.Breaker(failures=99)},
    "bulkhead": {"bulkhead": pr.Bulkhead(9)},
    "bulkhead and limiter": {"bulkhead": pr.Bulkhead(9), "limiter": pr.AdaptiveLimiter(rate_per_s=1e6)},
    "keys": {"key": lambda *_: "one"},
}
"""Parts that make a call take another way through the guard."""

with_parts = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)


class Down(Exception):
    """The service's error."""


class Sleeper:
    """Take so long for each call; counts calls and cancellations."""

    def __init__(self, *takes_s: float) -> None:
        self.calls = 0
        self.cancelled = 0
        self._takes_s = takes_s

    async def __call__(self) -> str:
        takes_s = self._takes_s[min(self.calls, len(self._takes_s) - 1)]
        self.calls += 1
        try:
            await asyncio.sleep(takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "done"


# Asynchronous limits --------------------------------------------------------------------------------------------------


@with_parts
def test_attempt_that_takes_too_long_is_cancelled_and_repeated(parts: dict[str, Any], clock: ManualTime) -> None:
    """The limit is the attempt's, and a timeout is worth another attempt."""
    service = Sleeper(5, 0.5)
    assert clock.run(pr.policy("crm", retry=FAST, attempt_timeout_s=1, **parts).acall(service)) == "done"
    assert (service.calls, service.cancelled, clock.monotonic()) == (2, 1, 1.5)


@with_parts
def test_last_attempt_that_takes_too_long_is_an_attempt_timeout(parts: dict[str, Any], clock: ManualTime) -> None:
    """It is a TimeoutError and says whose limit it was."""
    service = Sleeper(5)
    with pytest.raises(TimeoutError, match=r"crm.*one attempt took longer than 1 s") as caught:
        clock.run(pr.policy("crm", retry=FAST, attempt_timeout_s=1, **parts).acall(service))
    assert type(caught.value) is pr.AttemptTimeout
    assert (service.calls, clock.monotonic()) == (3, 3.0)


@with_parts
def test_deadline_ends_an_attempt_on_its_way(parts: dict[str, Any], clock: ManualTime) -> None:
    """Elapsed time never passes the whole call's limit, and it is not repeated after that (acceptance 4)."""
    service = Sleeper(5)
    policy = pr.policy("crm", retry=FAST, attempt_timeout_s=2, deadline_s=3, **parts)
    with pytest.raises(pr.DeadlineExceeded):
        clock.run(policy.acall(service))
    assert (service.calls, service.cancelled, clock.monotonic()) == (2, 2, 3.0)


@with_parts
def test_timeouts_count_against_the_service(parts: dict[str, Any], clock: ManualTime) -> None:
    """A service that does not answer in time fails."""
    policy = pr.policy("crm", attempt_timeout_s=1, **{**parts, "breaker": pr.Breaker(failures=2)})
    for _ in range(2):
        with pytest.raises(pr.AttemptTimeout):
            clock.run(policy.acall(Sleeper(5)))
    with pytest.raises(pr.CircuitOpen):
        clock.run(policy.acall(Sleeper(5)))


@with_parts
@pytest.mark.parametrize("ending", ["result", "error"])
def test_work_that_ends_by_itself_on_its_cancellation_leaves_no_cancellation(
    parts: dict[str, Any], ending: str, clock: ManualTime
) -> None:
    """A body may turn our cancel into a result or an error; the task must then count as not cancelled."""

    async def work() -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if ending == "error":
                raise Down from None
        return "saved"

    async def main() -> int:
        policy = pr.policy("crm", attempt_timeout_s=1, **parts)
        if ending == "error":
            with pytest.raises(Down):
                await policy.acall(work)
        else:
            assert await policy.acall(work) == "saved"
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ExceptionGroup):  # a group that fails after a stray cancel would raise CancelledError
            async with asyncio.TaskGroup() as group:
                group.create_task(_fails())
                await asyncio.sleep(1)
        return task.cancelling()

    assert clock.run(main()) == 0


async def _fails() -> None:
    raise Down


@with_parts
def test_own_limit_leaves_no_timer_behind(parts: dict[str, Any], clock: ManualTime) -> None:
    """A call that ends in time is not cancelled later on."""

    async def main() -> str:
        assert await pr.policy("crm", attempt_timeout_s=5, deadline_s=6, **parts).acall(Sleeper(1)) == "done"
        await asyncio.sleep(20)
        return "alive"

    assert clock.run(main()) == "alive"


@with_parts
def test_timeout_of_the_function_itself_stays_its_own(parts: dict[str, Any], clock: ManualTime) -> None:
    """A TimeoutError that the function raises is not taken for the guard's."""
    error = TimeoutError("the client's own")

    async def work() -> None:
        raise error

    with pytest.raises(TimeoutError) as caught:
        clock.run(pr.policy("crm", attempt_timeout_s=5, deadline_s=60, **parts).acall(work))
    assert caught.value is error


def test_inner_limit_ends_before_the_outer_one(clock: ManualTime) -> None:
    """Two timers in one task do not take each other's cancellation for their own."""
    service = Sleeper(50)
    inner = pr.policy("inner", attempt_timeout_s=2)(service)
    outer = pr.policy("outer", attempt_timeout_s=5)

    @outer
    async def handle() -> str:
        with pytest.raises(pr.AttemptTimeout, match="inner"):
            await inner()
        await asyncio.sleep(1)
        return "went on"

    assert clock.run(handle()) == "went on"
    assert clock.monotonic() == 3.0


@pytest.mark.parametrize("drift_s", [0.0, 1e-9, -1e-9])
def test_outer_attempt_limit_decides_whichever_timer_fires_first(drift_s: float, clock: ManualTime) -> None:
    """Both timers of nested policies are due at once; in either order the outer attempt is repeated."""
    service = Sleeper(5, 0.1)
    inner = pr.policy("inner", bulkhead=pr.Bulkhead(9))(service)
    outer = pr.policy("outer", retry=FAST, attempt_timeout_s=1)(inner)
    reads = iter(range(10**9))
    true = HOST.monotonic

    async def main() -> str:
        with HOST.replaced(monotonic=lambda: clock.monotonic() + next(reads) * drift_s):
            return await outer()

    assert clock.run(main()) == "done"
    assert service.calls == 2
    assert HOST.monotonic == true


# Cancellation ---------------------------------------------------------------------------------------------------------


@with_parts
def test_cancellation_during_the_wait_ends_it(parts: dict[str, Any], clock: ManualTime) -> None:
    """Table I: cancelled while waiting for the second attempt, a task raises CancelledError after one attempt."""
    calls: list[float] = []

    async def work() -> None:
        calls.append(clock.monotonic())
        raise Down

    async def main() -> None:
        policy = pr.policy("crm", retry=pr.Retry(base_s=5, jitter="none"), deadline_s=60, **parts)
        task = asyncio.create_task(policy.acall(work))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(20)

    clock.run(main())
    assert calls == [0.0]


@with_parts
@pytest.mark.parametrize("limits", [{}, {"attempt_timeout_s": 8.0}, {"deadline_s": 8.0}])
def test_cancellation_during_an_attempt_is_never_repeated(
    parts: dict[str, Any], limits: dict[str, Any], clock: ManualTime
) -> None:
    """Table J: an outer time limit ends a call that retries everything, once and as TimeoutError of the outer."""
    service = Sleeper(5)
    policy = pr.policy("crm", retry=pr.Retry(base_s=0, on=lambda error: True), **limits, **parts)

    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await policy.acall(service)
        assert not isinstance(caught.value, pr.GuardError)
        await asyncio.sleep(20)

    clock.run(main())
    assert (service.calls, service.cancelled) == (1, 1)


@with_parts
def test_cancellation_in_the_moment_of_the_timeout_stays_a_cancellation(
    parts: dict[str, Any], clock: ManualTime
) -> None:
    """When both come at the same instant the caller's cancel wins: it must not turn into a TimeoutError."""
    service = Sleeper(5)

    async def main() -> None:
        policy = pr.policy("crm", retry=FAST, attempt_timeout_s=1, **parts)
        task = asyncio.create_task(policy.acall(service))
        asyncio.get_running_loop().call_later(1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main())
    assert service.calls == 1


@given(st.integers(0, 2**32), st.floats(0.9, 1.1), st.sampled_from(sorted(PARTS)))
def test_cancellation_around_the_timeout_is_never_lost(seed: int, at_s: float, part: str) -> None:
    """Whenever the cancel comes, the task ends cancelled or had ended before; it never goes on."""
    from guard.conftest import manual_time

    with manual_time() as clock:

        async def main() -> None:
            policy = pr.policy("crm", attempt_timeout_s=1, **PARTS[part])
            task = asyncio.create_task(policy.acall(Sleeper(5)))
            asyncio.get_running_loop().call_later(at_s, task.cancel)
            await asyncio.wait([task])
            if not task.cancelled():
                assert isinstance(task.exception(), pr.AttemptTimeout)
                assert at_s >= 1

        clock.run(main(), seed=seed)


@with_parts
def test_five_cancelled_calls_are_no_failures(parts: dict[str, Any], clock: ManualTime) -> None:
    """Table H: whoever loses patience says nothing about the service."""
    policy = pr.policy("crm", attempt_timeout_s=9, **{**parts, "breaker": pr.Breaker(failures=3)})

    async def main() -> None:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await policy.acall(Sleeper(5))
        assert await policy.acall(Sleeper(1)) == "done"

    clock.run(main())


# Threads --------------------------------------------------------------------------------------------------------------


def _threaded(**parts: Any) -> pr.Policy:
    return pr.policy("crm", **{"sync_timeout": "thread", "attempt_timeout_s": 0.02, **parts})


@with_parts
def test_synchronous_attempt_is_left_behind_when_its_time_is_up(parts: dict[str, Any]) -> None:
    """With `sync_timeout="thread"` the caller goes on, and the attempt is repeated."""
    never, calls = threading.Event(), []

    def work() -> str:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            never.wait(5)
        return "done"

    try:
        assert _threaded(retry=FAST, **parts).call(work) == "done"
    finally:
        never.set()
    assert len(calls) == 2
    assert all(name.startswith("prunella") for name in calls)


def test_deadline_alone_ends_a_synchronous_call_in_a_thread() -> None:
    """A deadline of a policy above is a limit too."""
    never = threading.Event()
    inner = _threaded(attempt_timeout_s=None, retry=FAST)(lambda: never.wait(5))
    try:
        with pytest.raises(pr.DeadlineExceeded):
            pr.policy("outer", deadline_s=0.02).call(inner)
    finally:
        never.set()


def test_cooperative_call_stays_in_its_thread(clock: ManualTime) -> None:
    """Without "thread" nothing is moved; the function sees what time it has."""
    policy = pr.policy("crm", attempt_timeout_s=5, deadline_s=3)
    assert policy.call(threading.current_thread) is threading.current_thread()
    assert policy.call(pr.remaining_s) == 3


def test_context_is_kept_in_the_thread() -> None:
    """Table Q: context variables, our deadline among them, are seen by the attempt."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")
    policy = _threaded(attempt_timeout_s=60)
    assert policy.call(variable.get) == "the caller's"
    assert 0 < policy.call(pr.remaining_s) <= 60


def test_timeout_error_of_a_function_in_a_thread_stays_its_own() -> None:
    """It is not mistaken for the guard's."""
    error = TimeoutError("the client's own")

    def work() -> None:
        raise error

    with pytest.raises(TimeoutError) as caught:
        _threaded(attempt_timeout_s=60).call(work)
    assert caught.value is error


def test_forty_calls_at_once_do_not_wait_for_each_other() -> None:
    """Table P: 40 threads whose attempts all have to be under way together before any of them may end."""
    together = threading.Barrier(40, timeout=10)

    @_threaded(attempt_timeout_s=20)
    def guarded() -> bool:
        return together.wait() >= 0

    results: list[bool] = []
    callers = [threading.Thread(target=lambda: results.append(guarded())) for _ in range(40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 40


def test_hung_calls_do_not_add_threads_without_end() -> None:
    """Table R: 100 timeouts in a row over a body that hangs leave at most 64 threads, and end when it does."""
    never = threading.Event()
    guarded = _threaded(attempt_timeout_s=0.001)(never.wait)
    before = threading.active_count()
    try:
        for _ in range(100):
            with pytest.raises(pr.AttemptTimeout):
                guarded()
        assert threading.active_count() - before <= 64
    finally:
        never.set()
    assert _threaded(attempt_timeout_s=20).call(lambda: "alive") == "alive"


def _in_child(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_threads_work_after_a_fork() -> None:
    """Acceptance 12: the parent's pool does not exist in the child, which gets one of its own."""
    program = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
import prunella as pr
policy = pr.policy("crm", attempt_timeout_s=5, sync_timeout="thread", bulkhead=pr.Bulkhead(2))
policy.call(time.sleep, 0.01)
time.sleep(0.01)
child = os.fork()
if not child:
    sys.stdout.write(policy.call(lambda: "done"))
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""
    assert _in_child(program) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_locks_are_fresh_after_a_fork() -> None:
    """Acceptance 12: wherever another thread stands at the fork, in or out of a lock, the child's calls go on."""
    program = """
import faulthandler, os, sys, threading, time, warnings
warnings.simplefilter("ignore")
import prunella as pr
from prunella.core.clock import HOST

other, reached, go_on, look = None, threading.Event(), threading.Event(), [0]

def looks_at_the_clock():
    if threading.current_thread() is other:
        look[0] -= 1
        if look[0] == 0:
            reached.set()
            go_on.wait(20)
    return time.monotonic()

class Key(str):
    def __hash__(self):
        looks_at_the_clock()
        return str.__hash__(self)

HOST.monotonic = looks_at_the_clock
policy = pr.policy("crm", retry=pr.Retry(base_s=0), breaker=pr.Breaker(failures=2, open_s=1e-9), key=Key,
                   limiter=pr.AdaptiveLimiter(rate_per_s=1e9), budget=pr.RetryBudget(floor_per_s=1e9),
                   bulkhead=pr.Bulkhead(1), fallback=pr.Fallback(last_good=True, value="stand-in"))

@policy
def guarded(key):
    if key == "bad":
        raise OSError
    return "done"

def work():
    return [guarded(key) for key in ("good", "bad", "bad", "good")]

places = 0
while True:
    places += 1
    look[0] = places
    reached.clear()
    go_on.clear()
    other = threading.Thread(target=work, daemon=True)
    other.start()
    while other.is_alive() and not reached.wait(0.001):
        pass
    if not reached.is_set():
        break
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(5, exit=True)
        os._exit(0 if work() == ["done", "stand-in", "stand-in", "done"] else 2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, (places, code)
    go_on.set()
    other.join()
assert places > 20, places
sys.stdout.write("all went on")
"""
    assert _in_child(program) == "all went on"


def test_thread_that_is_left_behind_keeps_its_place() -> None:
    """The service still works for it: a bulkhead of one lets nobody in until it has ended."""
    release, entered = threading.Event(), threading.Event()
    crm = _threaded(bulkhead=pr.Bulkhead(1))

    def hang() -> None:
        entered.set()
        release.wait()

    with pytest.raises(pr.AttemptTimeout):
        crm.call(hang)
    assert entered.is_set()
    with pytest.raises(pr.LoadShed):
        crm.call(lambda: "refused")
    release.set()
    while crm.explain()["under_way"]:
        time.sleep(0.001)
    assert crm.call(lambda: "done") == "done"
