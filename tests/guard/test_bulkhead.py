"""So many at once and no more, first come first served, and no place is ever lost."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime
from prunella.core.errors import LoadShed
from prunella.guard.bulkhead import Bulkhead, LiveBulkhead, Waiter

EXAMPLES = int(os.environ.get("PRUNELLA_EXAMPLES", "100"))


def live(limit: int, wait_s: float = 0.0) -> LiveBulkhead:
    """Return a bulkhead at work."""
    return LiveBulkhead("crm", Bulkhead(limit, wait_s))


def queued(bulkhead: LiveBulkhead) -> Waiter:
    """Enter where all places are taken."""
    waiter = bulkhead.enter()
    assert waiter is not None
    return waiter


def test_call_beyond_the_limit_is_refused() -> None:
    """Without a wait the third of two is refused at once, with the figures."""
    bulkhead = live(2)
    assert [bulkhead.enter(), bulkhead.enter()] == [None, None]
    with pytest.raises(LoadShed, match=r"^crm: all 2 places are taken$"):
        bulkhead.enter()
    bulkhead.leave()
    assert bulkhead.enter() is None


def test_place_is_taken_at_once_or_not_at_all() -> None:
    """Who can't wait takes a free place and joins no queue."""
    bulkhead = live(1, wait_s=10.0)
    assert [bulkhead.enter_at_once(), bulkhead.enter_at_once()] == [True, False]
    waiter = queued(bulkhead)
    bulkhead.leave()
    assert (waiter.granted, bulkhead.enter_at_once()) == (True, False)
    bulkhead.leave()
    assert bulkhead.enter_at_once()


@pytest.mark.parametrize("parts", [{}, {"attempt_timeout_s": 5}, {"limiter": pr.AdaptiveLimiter(rate_per_s=1e6)}])
def test_call_within_a_call_needs_a_place_of_its_own(parts: dict[str, Any], clock: ManualTime) -> None:
    """Whichever way calls take, the second of one is refused, and both places are free afterwards."""
    policy = pr.policy("crm", bulkhead=Bulkhead(1), **parts)

    @policy
    def work(depth: int) -> None:
        assert policy.explain()["under_way"] == 1
        if depth:
            work(depth - 1)

    @policy
    async def awork(depth: int) -> None:
        assert policy.explain()["under_way"] == 1
        if depth:
            await awork(depth - 1)

    work(0)
    with pytest.raises(LoadShed):
        work(1)
    clock.run(awork(0))
    with pytest.raises(LoadShed):
        clock.run(awork(1))
    assert policy.explain()["under_way"] == 0


def test_places_go_out_first_come_first_served() -> None:
    """Each place that comes free goes to who has waited longest, and nobody new gets in before."""
    bulkhead = live(1, wait_s=10.0)
    bulkhead.enter()
    waiters = [queued(bulkhead) for _ in range(5)]
    for number in range(5):
        bulkhead.leave()
        assert [waiter.granted for waiter in waiters] == [True] * (number + 1) + [False] * (4 - number)
        assert not queued(bulkhead).granted


def test_waiter_is_woken_once_its_place_is_there() -> None:
    """Who waits is called by who leaves; until then it hears nothing."""
    bulkhead, woken = live(1, wait_s=10.0), []
    bulkhead.enter()
    waiter = queued(bulkhead)
    waiter.wake = lambda: woken.append("woken")
    assert woken == []
    bulkhead.leave()
    assert woken == ["woken"]
    bulkhead.seat(waiter)


def test_wait_that_was_in_vain_is_refused() -> None:
    """A waiter without a place leaves the queue, and the place that comes later goes to the next."""
    bulkhead = live(1, wait_s=3.0)
    bulkhead.enter()
    first, second = queued(bulkhead), queued(bulkhead)
    with pytest.raises(LoadShed, match=r"all 1 places are taken, none came free within 3 s"):
        bulkhead.seat(first)
    bulkhead.leave()
    assert (first.granted, second.granted) == (False, True)


def test_place_that_came_in_the_last_moment_is_taken() -> None:
    """Time is up and the place is there: it is not given away."""
    bulkhead = live(1, wait_s=3.0)
    bulkhead.enter()
    waiter = queued(bulkhead)
    bulkhead.leave()
    bulkhead.seat(waiter)
    assert bulkhead.under_way == 1


def test_place_of_who_gave_up_goes_to_the_next() -> None:
    """Cancelled in the moment of being served: the place is handed on, not lost."""
    bulkhead = live(1, wait_s=3.0)
    bulkhead.enter()
    first, second = queued(bulkhead), queued(bulkhead)
    bulkhead.leave()
    assert first.granted
    bulkhead.abandon(first)
    assert second.granted
    bulkhead.leave()
    assert bulkhead.under_way == 0


def test_who_gave_up_is_not_served() -> None:
    """A waiter that gives up before its turn leaves no gap in the queue."""
    bulkhead = live(1, wait_s=3.0)
    bulkhead.enter()
    first, second = queued(bulkhead), queued(bulkhead)
    bulkhead.abandon(first)
    bulkhead.leave()
    assert (first.granted, second.granted) == (False, True)


def test_waiter_whose_loop_is_gone_hurts_nobody() -> None:
    """Who leaves is not told of the dead loop of the one it wakes; the place comes back when that is freed."""
    bulkhead = live(1, wait_s=3.0)
    bulkhead.enter()
    waiter = queued(bulkhead)

    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    waiter.wake = closed
    bulkhead.leave()
    bulkhead.abandon(waiter)
    assert bulkhead.under_way == 0


def test_raised_limit_lets_waiters_in_at_once() -> None:
    """Nobody waits for a place that is there already."""
    bulkhead = live(1, wait_s=3.0)
    bulkhead.enter()
    waiters = [queued(bulkhead) for _ in range(3)]
    bulkhead.limits = Bulkhead(3, 3.0)
    assert [waiter.granted for waiter in waiters] == [True, True, False]
    assert bulkhead.under_way == 3


def test_lowered_limit_holds_although_there_is_a_queue() -> None:
    """Places above the new limit are not handed on."""
    bulkhead = live(3, wait_s=3.0)
    for _ in range(3):
        bulkhead.enter()
    waiter = queued(bulkhead)
    bulkhead.limits = Bulkhead(1, 3.0)
    bulkhead.leave()
    bulkhead.leave()
    assert (bulkhead.under_way, waiter.granted) == (1, False)
    bulkhead.leave()
    assert (bulkhead.under_way, waiter.granted) == (1, True)


OPS = st.lists(
    st.tuples(st.sampled_from(["enter", "enter", "leave", "abandon", "time out", "limit"]), st.integers(0, 5)),
    min_size=10,
    max_size=60,
)


@settings(max_examples=EXAMPLES)
@given(st.integers(1, 3), OPS)
def test_no_place_is_lost_or_made(limit: int, ops: list[tuple[str, int]]) -> None:
    """In any order of comings and goings exactly the calls inside are counted, and nobody waits beside a free place."""
    bulkhead = live(limit, wait_s=1.0)
    inside, waiting = 0, []
    for op, number in ops:
        if op == "enter":
            waiter = bulkhead.enter()
            if waiter is None:
                inside += 1
            else:
                waiting.append(waiter)
        elif op == "leave" and inside:
            bulkhead.leave()
            inside -= 1
        elif op == "limit":
            bulkhead.limits = Bulkhead(number + 1, 1.0)
        elif op in ("abandon", "time out") and waiting:
            waiter = waiting.pop(number % len(waiting))
            if op == "abandon":
                bulkhead.abandon(waiter)
            elif waiter.granted:
                bulkhead.seat(waiter)
                inside += 1
            else:
                with pytest.raises(LoadShed):
                    bulkhead.seat(waiter)
        granted = [waiter.granted for waiter in waiting]
        assert bulkhead.under_way == inside + sum(granted)
        assert granted == sorted(granted, reverse=True), "served out of turn"
        assert all(granted) or bulkhead.under_way >= bulkhead.limits.limit, "somebody waits beside a free place"


@pytest.mark.parametrize("seed", range(3))
def test_threads_that_come_and_give_up_leave_nothing_behind(seed: int) -> None:
    """32 threads enter, wait, give up and leave as the scheduler likes: never more than four inside, none at the end."""
    bulkhead, most, count, lock = live(4, wait_s=5.0), 0, 0, threading.Lock()

    def inside() -> None:
        nonlocal most, count
        with lock:
            count += 1
            most = max(most, count)
        with lock:
            count -= 1

    def work(patient: bool) -> None:
        for _ in range(40):
            waiter = bulkhead.enter()
            if waiter is not None:
                woken = threading.Event()
                waiter.wake = woken.set
                if not waiter.granted and (not patient or not woken.wait(20)):
                    bulkhead.abandon(waiter)
                    continue
                bulkhead.seat(waiter)
            inside()
            bulkhead.leave()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=((number + seed) % 3 > 0,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert bulkhead.under_way == 0
    assert len(bulkhead._queue) == 0
    assert 1 <= most <= 4


def test_tasks_are_served_in_turn(clock: ManualTime) -> None:
    """Ten tasks and one place: each gets it, in the order in which they came."""
    policy, order = pr.policy("crm", bulkhead=Bulkhead(1, wait_s=100.0)), []

    @policy
    async def work(number: int) -> None:
        order.append(number)
        await asyncio.sleep(1.0)

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))

    clock.run(main())
    assert order == list(range(10))
    assert policy.explain()["under_way"] == 0


def test_task_waits_no_longer_than_allowed(clock: ManualTime) -> None:
    """After `wait_s` it is refused, and the place is free for others afterwards."""
    policy = pr.policy("crm", bulkhead=Bulkhead(1, wait_s=2.0))

    @policy
    async def work(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return clock.monotonic()

    async def main() -> list[Any]:
        return [*await asyncio.gather(work(5.0), work(1.0), return_exceptions=True)]

    first, second = clock.run(main())
    assert (first, type(second)) == (5.0, LoadShed)
    assert clock.run(work(1.0)) == 6.0


@pytest.mark.parametrize("after_s", [0.5, 1.0, 1.5])
def test_cancelled_task_gives_its_place_back(after_s: float, clock: ManualTime) -> None:
    """Cancelled while it waits, in the moment of its turn, or inside: afterwards nothing is taken."""
    policy = pr.policy("crm", bulkhead=Bulkhead(1, wait_s=100.0))

    @policy
    async def work() -> None:
        await asyncio.sleep(1.0)

    async def main() -> None:
        first, second, third = (asyncio.ensure_future(work()) for _ in range(3))
        await asyncio.sleep(after_s)
        second.cancel()
        await asyncio.wait([first, second, third])
        assert [first.exception(), third.exception()] == [None, None]

    for seed in range(10):  # each another order in which they begin and are woken
        clock.run(main(), seed=seed)
        assert policy.explain()["under_way"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit": 0}, "Bulkhead: limit must be an int >= 1, got 0"),
        ({"limit": 1.5}, "Bulkhead: limit must be an int >= 1, got 1.5"),
        ({"limit": True}, "Bulkhead: limit must be an int >= 1, got True"),
        ({"limit": 1, "wait_s": -1}, "Bulkhead: wait_s must be seconds >= 0, got -1"),
        ({"limit": 1, "wait_s": math.inf}, "Bulkhead: wait_s must be seconds >= 0, got inf"),
    ],
)
def test_misuse_is_refused_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    """A bulkhead that can't work is refused where it is declared."""
    with pytest.raises(ValueError, match=r".") as caught:
        Bulkhead(**wrong)
    assert str(caught.value) == message
