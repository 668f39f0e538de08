"""However calls end, their places, probes, turns and numbers in the queue are free afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime, manual_time
from prunella.core.clock import HOST

PLACES, PROBES = 2, 2
BREAKER = pr.Breaker(failures=2, open_s=1, probes=PROBES, successes=PROBES, probe_lease_s=1e6)
"""The lease is so long that a lost probe shows."""
PARTS: dict[str, Any] = {
    "breaker": BREAKER,
    "limiter": pr.AdaptiveLimiter(rate_per_s=5, wait_s=9),
    "bulkhead": pr.Bulkhead(PLACES, wait_s=3),
    "deadline_s": 6.0,
    "attempt_timeout_s": 0.7,
    "retry": pr.Retry(attempts=3, base_s=0.3, jitter="none"),
}


class Down(Exception):
    """The service's error."""


Way = Callable[[pr.Policy, Callable[[], Awaitable[None]]], Awaitable[None]]


async def _by_acall(policy: pr.Policy, body: Callable[[], Awaitable[None]]) -> None:
    await policy.acall(body)


async def _by_attempt(policy: pr.Policy, body: Callable[[], Awaitable[None]]) -> None:
    async with policy.attempt():
        await body()


async def _by_attempts(policy: pr.Policy, body: Callable[[], Awaitable[None]]) -> None:
    async for attempt in policy.attempts():
        async with attempt:
            await body()


async def _by_generator(policy: pr.Policy, body: Callable[[], Awaitable[None]]) -> None:
    @policy
    async def stream() -> AsyncIterator[int]:
        await body()
        yield 1

    async for _ in stream():
        pass


WAYS: dict[str, Way] = {"acall": _by_acall, "attempt": _by_attempt, "attempts": _by_attempts, "stream": _by_generator}


@dataclass(frozen=True)
class Visit:
    """One task: when it begins, how it goes, when it is cancelled."""

    way: str
    begins_s: float
    takes_s: float
    fails: bool
    cancelled_after_s: float | None


tenths = st.integers(0, 30).map(lambda number: number / 10)
soon = st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])
"""Few instants, so that ends, turns and cancels fall on the same one."""
combinations = st.sampled_from(
    [
        {"bulkhead"},
        {"bulkhead", "retry"},
        {"limiter"},
        {"deadline_s", "attempt_timeout_s", "retry"},
        {"retry"},
        set(PARTS),
    ]
)
visits = st.builds(
    Visit,
    way=st.sampled_from(sorted(WAYS)),
    begins_s=soon,
    takes_s=soon,
    fails=st.booleans(),
    cancelled_after_s=st.none() | soon,
)


@settings(max_examples=300)
@given(
    crowd=st.lists(visits, min_size=1, max_size=10),
    parts=combinations,
    opened=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_calls_cancelled_at_any_moment_leave_every_counter_at_zero(
    crowd: list[Visit], parts: set[str], opened: bool, seed: int
) -> None:
    """Acceptance 8: in the limiter's and the bulkhead's queue, as a probe, in an attempt, in a retry's wait."""
    with manual_time() as clock:
        policy = pr.policy("crm", **{name: PARTS[name] for name in {*parts, "breaker"}})
        if opened:
            policy.breaker.force_open("so that the crowd are probes")
            clock.passes(2)
        clock.run(_visited(policy, crowd), seed=seed)
        clock.passes(1000)
        clock.run(_as_good_as_new(policy), seed=seed)


async def _visited(policy: pr.Policy, crowd: list[Visit]) -> None:
    tasks = [asyncio.create_task(_visit(policy, visit)) for visit in crowd]
    for task, visit in zip(tasks, crowd, strict=True):
        if visit.cancelled_after_s is not None:
            asyncio.get_running_loop().call_later(visit.begins_s + visit.cancelled_after_s, task.cancel)
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome is None or isinstance(outcome, asyncio.CancelledError | Down | pr.GuardError), repr(outcome)
    for task in tasks:
        assert task.cancelled() or task.cancelling() <= 1


async def _visit(policy: pr.Policy, visit: Visit) -> None:
    async def body() -> None:
        await asyncio.sleep(visit.takes_s)
        if visit.fails:
            raise Down

    await asyncio.sleep(visit.begins_s)
    await WAYS[visit.way](policy, body)
    assert pr.remaining_s() == float("inf")


async def _as_good_as_new(policy: pr.Policy) -> None:
    """Show it from outside: every probe is let through, then every place is free, and one more is one too many."""
    assert policy.explain()["under_way"] in (0, None)
    everybody_in, may_leave = asyncio.Event(), asyncio.Event()
    inside = 0

    async def body() -> None:
        nonlocal inside
        inside += 1
        if inside == PLACES:
            everybody_in.set()
        async with asyncio.timeout(0.5):
            await may_leave.wait()

    if policy.settings.limiter is not None:
        policy.update(limiter=None)
    for _ in range(2):  # the first round may be the probes
        inside = 0
        everybody_in.clear()
        may_leave.clear()
        tasks = [asyncio.create_task(policy.acall(body)) for _ in range(PLACES)]
        async with asyncio.timeout(0.4):
            await everybody_in.wait()
        may_leave.set()
        await asyncio.gather(*tasks)
    assert policy.breaker.standing()["state"] == "closed"


# Synchronous code -----------------------------------------------------------------------------------------------------


def _block(policy: pr.Policy, body: Callable[[], None]) -> None:
    with policy.attempt():
        body()


def _loop(policy: pr.Policy, body: Callable[[], None]) -> None:
    for attempt in policy.attempts():
        with attempt:
            body()


def _stream(policy: pr.Policy, body: Callable[[], None]) -> None:
    @policy
    def lines() -> Iterator[int]:
        body()
        yield 1

    list(lines())


SYNC_WAYS: dict[str, Callable[[pr.Policy, Callable[[], None]], None]] = {
    "call": lambda policy, body: policy.call(body), "attempt": _block, "attempts": _loop, "stream": _stream,
}  # fmt: skip


@settings(max_examples=200)
@given(
    rounds=st.lists(
        st.tuples(
            st.sampled_from(sorted(SYNC_WAYS)),
            st.lists(st.sampled_from(["ok", "fail", "interrupt"]), min_size=1, max_size=3),
            st.none() | st.integers(0, 3),
        ),
        min_size=1,
        max_size=10,
    ),
    parts=combinations,
    opened=st.booleans(),
)
def test_calls_interrupted_at_any_wait_leave_every_counter_at_zero(
    rounds: list[tuple[str, list[str], int | None]], parts: set[str], opened: bool
) -> None:
    """KeyboardInterrupt in the function or in any wait passes as it is, and everything is free again."""
    with manual_time() as clock:
        policy = pr.policy("crm", **{name: PARTS[name] for name in {*parts, "breaker"}})
        if opened:
            policy.breaker.force_open("so that the first ones are probes")
            clock.passes(2)
        for way, outcomes, interrupted_wait in rounds:
            with _interrupting(clock, interrupted_wait), contextlib.suppress(Down, pr.GuardError, KeyboardInterrupt):
                SYNC_WAYS[way](policy, _played(outcomes))
            assert pr.remaining_s() == float("inf")
            assert policy.explain()["under_way"] in (0, None)
        clock.passes(1000)
        clock.run(_as_good_as_new(policy))


def _played(outcomes: list[str]) -> Callable[[], None]:
    left = list(outcomes)

    def body() -> None:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if outcome == "fail":
            raise Down
        if outcome == "interrupt":
            raise KeyboardInterrupt

    return body


@contextlib.contextmanager
def _interrupting(clock: ManualTime, which: int | None) -> Iterator[None]:
    """Raise KeyboardInterrupt out of one of the next waits."""
    waits = 0

    def sleep(seconds: float) -> None:
        nonlocal waits
        waits += 1
        if which is not None and waits > which:
            raise KeyboardInterrupt
        clock.sleep(seconds)

    with HOST.replaced(sleep=sleep):
        yield


def test_interrupt_in_the_queue_gives_the_number_back() -> None:
    """The main thread, waiting for a place, is interrupted as by Ctrl-C; the queue is empty afterwards."""
    policy = pr.policy("crm", bulkhead=pr.Bulkhead(1, wait_s=30))
    main_thread, bulkhead = threading.main_thread().ident, policy._core.bulkhead
    assert main_thread is not None and bulkhead is not None

    def interrupt() -> None:
        while not any(waiter.wake is not bool for waiter in bulkhead._queue):
            time.sleep(0.001)  # until it waits: an interrupt before that would end the test run
        signal.pthread_kill(main_thread, signal.SIGINT)

    with policy.attempt():
        other = threading.Thread(target=interrupt, daemon=True)
        other.start()
        with pytest.raises(KeyboardInterrupt):
            policy.call(lambda: pytest.fail("there is no place"))
        other.join()
    assert policy.explain()["under_way"] == 0
    assert policy.call(lambda: "free") == "free"
    assert policy.explain()["under_way"] == 0


def test_places_are_passed_on_between_threads_and_tasks() -> None:
    """A place that a thread leaves wakes a task, and the other way round; first come, first served."""
    policy = pr.policy("crm", bulkhead=pr.Bulkhead(1, wait_s=10))
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with policy.attempt():
            held.set()
            leave.wait(10)

    async def task() -> str:
        async with policy.attempt():
            pass
        return "task"

    async def main() -> str:
        asyncio.get_running_loop().call_later(0.01, leave.set)
        return await task()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    assert asyncio.run(main()) == "task"
    thread.join()
    assert policy.explain()["under_way"] == 0


# Limiter --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1], ids=["first come first", "last come first"])
def test_cancelled_waiters_do_not_delay_the_next_call(order: int, clock: ManualTime) -> None:
    """Acceptance 13: ten who gave up their turns leave them to who comes next."""
    policy = pr.policy("crm", limiter=pr.AdaptiveLimiter(rate_per_s=1, wait_s=100))

    async def work() -> float:
        return clock.monotonic()

    async def main() -> float:
        await policy.acall(work)
        tasks = [asyncio.create_task(policy.acall(work)) for _ in range(10)]
        await asyncio.sleep(0.1)
        for task in tasks[::order]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return await policy.acall(work)

    assert clock.run(main()) == 1.0


@given(st.lists(st.tuples(tenths, st.none() | tenths), min_size=1, max_size=12), st.integers(0, 2**32))
def test_limiter_keeps_its_distance_whoever_gives_up(crowd: list[tuple[float, float | None]], seed: int) -> None:
    """Turns that were handed back are given out again, but never two calls closer together than the rate allows."""
    with manual_time() as clock:
        policy = pr.policy("crm", limiter=pr.AdaptiveLimiter(rate_per_s=2, wait_s=100))
        made: list[float] = []

        async def work() -> None:
            made.append(clock.monotonic())

        async def visit(begins_s: float) -> None:
            await asyncio.sleep(begins_s)
            await policy.acall(work)

        async def main() -> None:
            tasks = []
            for begins_s, cancelled_after_s in crowd:
                tasks.append(task := asyncio.create_task(visit(begins_s)))
                if cancelled_after_s is not None:
                    asyncio.get_running_loop().call_later(begins_s + cancelled_after_s, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)

        clock.run(main(), seed=seed)
        made.sort()
        assert all(later - earlier >= 0.5 - 1e-9 for earlier, later in itertools.pairwise(made))
