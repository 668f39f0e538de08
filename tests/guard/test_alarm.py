"""One timer for all alarms of a loop: each rings in its time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import prunella as pr
from guard.conftest import ManualTime, manual_time
from prunella.guard import alarm
from prunella.guard.alarm import Alarm
from prunella.testing.loop import VirtualLoop

_VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("request")


async def _ends_after(limit_s: float, takes_s: float) -> tuple[str, float]:
    """Sleep under an alarm; tell which came first, and when."""
    loop = asyncio.get_running_loop()
    alarm = Alarm()
    alarm.set(limit_s)
    try:
        await asyncio.sleep(takes_s)
    except asyncio.CancelledError:
        assert alarm.rang()
        return "rang", loop.time()
    finally:
        alarm.off()
    return "ended", loop.time()


def _set_and_put_away(limit_s: float) -> None:
    alarm = Alarm()
    alarm.set(limit_s)
    alarm.off()


def _timers() -> list[asyncio.TimerHandle]:
    """Return the timers of the loop that are still to come."""
    timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in timers if not timer.cancelled()]


# Ringing --------------------------------------------------------------------------------------------------------------

seconds = st.integers(1, 40).map(lambda tenths: tenths / 10)


_SWEPT = [
    (0.1, 1, 99),
    (0.2, 10, 0.2),
    (0.3, 2, 0.2),
    (0.4, 11, 99),
    (0.5, 12, 99),
    (0.6, 3, 99),
    (0.7, 4, 99),
    (0.8, 5, 99),
]
"""When these are swept, the order of those that stay has to be made anew."""


@given(st.lists(st.tuples(seconds, seconds, seconds), max_size=30), st.integers(0, 2**32))
@example(_SWEPT, 0)
def test_every_alarm_rings_at_its_instant(works: list[tuple[float, float, float]], seed: int) -> None:
    """However alarms follow each other, work ends at its limit exactly, or earlier by itself."""

    async def work(begins_s: float, limit_s: float, takes_s: float) -> None:
        await asyncio.sleep(begins_s)
        ending, at_s = await _ends_after(limit_s, takes_s)
        assert at_s == pytest.approx(begins_s + min(limit_s, takes_s), abs=1e-6)
        if limit_s != takes_s:
            assert ending == ("rang" if limit_s < takes_s else "ended")

    async def main() -> None:
        await asyncio.gather(*(work(*times) for times in works))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    with manual_time() as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(alarm, "_ROOM", 1)  # what was put away is swept out again and again
        clock.run(main(), seed=seed)


@given(st.lists(seconds, min_size=1, max_size=6), seconds)
def test_nested_alarms_do_not_take_each_others_cancellation(limits_s: list[float], takes_s: float) -> None:
    """In one task the alarm with the shortest limit ends the work, the outermost of those that are due at once."""

    async def nested(depth: int) -> str:
        if depth == len(limits_s):
            await asyncio.sleep(takes_s)
            return "ended"
        alarm = Alarm()
        alarm.set(limits_s[depth])
        try:
            return await nested(depth + 1)
        except asyncio.CancelledError:
            if not alarm.rang():
                raise
            return f"rang {depth}"
        finally:
            alarm.off()

    with manual_time() as clock:
        ending = clock.run(nested(0))
    if min(limits_s) != takes_s:
        assert ending == ("ended" if takes_s < min(limits_s) else f"rang {limits_s.index(min(limits_s))}")


def test_alarm_that_fails_to_ring_holds_up_no_other(clock: ManualTime) -> None:
    """What a task waits for may refuse its cancellation with an error; the alarms due at once ring all the same."""

    class Stubborn(asyncio.Future[None]):
        def cancel(self, msg: object = None) -> bool:
            raise RuntimeError("not me")

    told: list[str] = []

    async def stuck() -> None:
        alarm = Alarm()
        alarm.set(1)
        try:
            await Stubborn()
        finally:
            alarm.off()

    async def main() -> tuple[str, float]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        lost = asyncio.create_task(stuck())
        await asyncio.sleep(0)
        ending = await _ends_after(1, 5)
        asyncio.Future.cancel(lost._fut_waiter)  # type: ignore[attr-defined]
        await asyncio.wait([lost])
        return ending

    assert clock.run(main()) == ("rang", 1.0)
    assert told == ["not me"]


def test_alarms_ring_in_real_time() -> None:
    """The loop of the standard library lets them ring, a later one after an earlier one too."""

    async def main() -> list[tuple[str, float]]:
        return [await _ends_after(0.01, 60), *await asyncio.gather(_ends_after(0.02, 60), _ends_after(0.01, 60))]

    assert [ending for ending, _ in asyncio.run(main())] == ["rang"] * 3


# What is left behind --------------------------------------------------------------------------------------------------


def test_call_without_a_limit_sets_no_timer(clock: ManualTime) -> None:
    """A policy may limit places and no time."""
    policy = pr.policy("crm", bulkhead=pr.Bulkhead(1))
    at_work: list[list[asyncio.TimerHandle]] = []

    async def work() -> None:
        at_work.append(_timers())

    clock.run(policy.acall(work))
    clock.run(policy(work)())
    assert at_work == [[], []]


def test_many_calls_share_one_timer(clock: ManualTime) -> None:
    """While a thousand calls are under way one timer waits for all of them, the earliest limit's."""
    policies = [pr.policy(f"limit {limit_s}", attempt_timeout_s=limit_s) for limit_s in (9, 3, 6)]
    at_work: list[list[float]] = []

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def work(number: int) -> None:
            if number == 999:
                at_work.append([timer.when() for timer in _timers()])
                ended.set_result(None)
            await ended

        await asyncio.gather(*(policies[number % 3].acall(work, number) for number in range(1000)))

    clock.run(main())
    assert at_work == [[3.0]]


def test_timer_wakes_the_loop_at_most_once_when_nothing_is_left(clock: ManualTime) -> None:
    """After the last call the timer runs out and is not set again."""
    policy = pr.policy("crm", attempt_timeout_s=5)

    async def main() -> list[int]:
        for _ in range(100):
            await policy.acall(asyncio.sleep, 0.01)
        left = [len(_timers())]
        await asyncio.sleep(3.9)
        left.append(len(_timers()))
        await asyncio.sleep(0.2)
        left.append(len(_timers()))
        assert (await _ends_after(1, 5))[0] == "rang"  # the next call finds a watch all the same
        return left

    assert clock.run(main()) == [1, 1, 0]


def test_alarms_put_away_do_not_pile_up(clock: ManualTime) -> None:
    """A hundred thousand calls beside one that takes long leave no more than a few notes."""

    async def main() -> int:
        beside = asyncio.create_task(_ends_after(60, 1))
        await asyncio.sleep(0)
        for _ in range(100_000):
            _set_and_put_away(60)
        watch = alarm._here.watch()
        assert watch is not None
        assert await beside == ("ended", 1.0)
        return len(watch._alarms)

    assert clock.run(main()) <= 100


def test_call_that_has_ended_is_freed_while_the_timer_still_waits(clock: ManualTime) -> None:
    """Neither its task nor what hangs on its context waits for the limit to pass."""

    class Request:
        pass

    policy = pr.policy("crm", attempt_timeout_s=3600)

    async def serve() -> weakref.ref[Request]:
        request = Request()
        _VARIABLE.set(request)
        await policy.acall(asyncio.sleep, 0)
        return weakref.ref(request)

    async def main() -> tuple[bool, bool]:
        serving = asyncio.create_task(serve())
        request, task = await serving, weakref.ref(serving)
        del serving
        await asyncio.sleep(0)
        gc.collect()
        assert len(_timers()) == 1
        return request() is None, task() is None

    assert clock.run(main()) == (True, True)


def test_closed_loop_is_freed() -> None:
    """The thread keeps no loop, and no task, that was closed in the middle of a call."""
    policy = pr.policy("crm", attempt_timeout_s=3600)
    loop = asyncio.new_event_loop()
    held = weakref.ref(loop)
    loop.run_until_complete(policy.acall(asyncio.sleep, 0))
    loop.close()
    del loop
    gc.collect()
    assert held() is None


def test_loops_that_take_turns_in_one_thread_keep_their_alarms() -> None:
    """A loop that rests while another one runs has its alarms when it goes on."""
    one, other = VirtualLoop(), VirtualLoop()
    first = one.create_task(_ends_after(1, 5))
    one.run_until_complete(asyncio.sleep(0))
    assert other.run_until_complete(_ends_after(60, 0)) == ("ended", 0.0)
    assert one.run_until_complete(first) == ("rang", 1.0)
    one.close()
    other.close()


def test_loops_of_two_threads_do_not_meet() -> None:
    """Each thread's alarms wait on one timer of its own loop, however the threads take turns."""
    together = threading.Barrier(2, timeout=10)
    endings: list[tuple[str, int]] = []

    async def work() -> None:
        for _ in range(5):
            together.wait()
            _set_and_put_away(60)
        timers = len(_timers())
        endings.append(((await _ends_after(0.01, 60))[0], timers))

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert endings == [("rang", 1)] * 2
