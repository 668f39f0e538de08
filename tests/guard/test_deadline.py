"""Everything below a deadline sees what is left of it, and nobody below can make it longer."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading

import pytest

import prunella as pr
from guard.conftest import ManualTime
from prunella.core.errors import DeadlineExceeded
from prunella.guard.deadline import AMBIENT, no_deadline, remaining_s


def test_nothing_limits_what_has_no_deadline() -> None:
    """Outside of any policy the time that is left is infinite."""
    assert remaining_s() == math.inf


def test_remaining_time_runs_out_and_not_below(clock: ManualTime) -> None:
    """It falls with the clock, and stays at 0 when the deadline has passed."""
    before = AMBIENT.set(clock.monotonic() + 10.0)
    try:
        seen = []
        for _ in range(4):
            seen.append(remaining_s())
            clock.passes(4.0)
    finally:
        AMBIENT.reset(before)
    assert seen == [10.0, 6.0, 2.0, 0.0]


def test_function_sees_the_time_that_its_policy_gives(clock: ManualTime) -> None:
    """Across attempts and waits the total shrinks; an attempt's own timeout counts where it is shorter."""
    seen = []

    @pr.policy("crm", retry=pr.Retry(attempts=3, base_s=1.0, jitter="none"), deadline_s=10.0, attempt_timeout_s=6.0)
    def call() -> None:
        seen.append(remaining_s())
        clock.passes(2.0)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        call()
    assert seen == [6.0, 6.0, 3.0]
    assert remaining_s() == math.inf


def test_inner_policy_never_has_more_than_is_left(clock: ManualTime) -> None:
    """An inner deadline of an hour is still the outer's five seconds; a shorter one of its own holds."""
    seen = []

    @pr.policy("inner", deadline_s=3600.0)
    def long() -> None:
        seen.append(remaining_s())

    @pr.policy("short", deadline_s=1.0)
    def short() -> None:
        seen.append(remaining_s())

    @pr.policy("outer", deadline_s=5.0)
    def outer() -> None:
        long()
        short()
        seen.append(remaining_s())

    outer()
    assert seen == [5.0, 1.0, 5.0]


def test_call_is_not_begun_when_no_time_is_left(clock: ManualTime) -> None:
    """An inner call after the outer deadline is refused before anything happens."""
    calls = []

    @pr.policy("inner", retry=pr.Retry(), deadline_s=3600.0)
    def inner() -> None:
        calls.append("made")

    @pr.policy("outer", deadline_s=5.0)
    def outer() -> None:
        clock.passes(6.0)
        inner()

    with pytest.raises(DeadlineExceeded):
        outer()
    assert calls == []


def test_tasks_see_their_own_deadline(clock: ManualTime) -> None:
    """Two calls at once in one loop do not mix their deadlines."""

    async def look(after_s: float) -> float:
        await asyncio.sleep(after_s)
        return remaining_s()

    quick, patient = pr.policy("quick", deadline_s=5.0)(look), pr.policy("patient", deadline_s=50.0)(look)

    async def main() -> list[float]:
        return [*await asyncio.gather(quick(1.0), patient(2.0), look(3.0))]

    assert clock.run(main()) == [4.0, 48.0, math.inf]


def test_thread_with_the_context_sees_the_deadline(clock: ManualTime) -> None:
    """A thread that is given the caller's context knows the time that is left; a bare one has no limit."""
    seen: dict[str, float] = {}

    @pr.policy("crm", deadline_s=5.0)
    def call() -> None:
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=lambda: seen.update(bare=remaining_s())),
            threading.Thread(target=lambda: seen.update(context=context.run(remaining_s))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    call()
    assert seen == {"bare": math.inf, "context": 5.0}


def test_what_lives_on_can_leave_a_deadline_behind() -> None:
    """A task started without the call's deadline keeps none; the call keeps its own."""

    async def worker() -> float:
        return remaining_s()

    @pr.policy("crm", deadline_s=5)
    async def call() -> tuple[float, float, float]:
        with no_deadline():
            free = asyncio.create_task(worker())
        bound = asyncio.create_task(worker())
        return await free, await bound, remaining_s()

    free, bound, own = asyncio.run(call())
    assert free == math.inf
    assert 0 < bound <= 5
    assert 0 < own <= 5
