"""The promises of a runner: once per key, at the right time, only what was committed, a clean end. In virtual time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunella.core.events import Listeners
from prunella.runner.contract import Queued
from prunella.runner.local import LocalRunner
from prunella.testing import LoopClock, run_virtual
from runner.stage import Commit, Stage, at, now_s, plays, stage

# When


@plays
async def test_runner_calls_now_and_at_the_moment() -> None:
    """Without a time at once, with one at that time, with one in the past at once; ids as they were given."""
    async with stage() as on:
        on.handles("heal")
        on.handles("sweep")
        await on.runner.submit("heal", "a", "b", at=at(30))
        await on.runner.submit("heal", "now")
        await on.runner.submit("heal", "past", at=at(-60))
        await on.runner.submit("sweep")
        await asyncio.sleep(29.999)
        assert sorted(on.called) == [(0, "heal", ("now",)), (0, "heal", ("past",)), (0, "sweep", ())]
        await asyncio.sleep(10)
        assert on.called[3:] == [(30, "heal", ("a", "b"))]


@plays
async def test_runner_takes_submissions_before_it_runs() -> None:
    """What was submitted before `run` is called when it runs."""
    runner = LocalRunner(LoopClock(), Listeners())
    on = Stage(runner, Listeners())
    on.handles("heal")
    await runner.submit("heal", "early")
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await runner.stop()
    await running
    assert on.ids == ["early"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-50, 50), max_size=30), st.integers(1, 4))
def test_runner_keeps_the_order_of_due_times(dues: list[int], concurrency: int) -> None:
    """Whatever the order of submission, calls begin in the order of their due times, those overdue first."""

    async def story() -> None:
        async with stage(concurrency) as on:
            on.handles("heal")
            for number, due in enumerate(dues):
                await on.runner.submit("heal", str(number), at=at(due))
            await asyncio.sleep(60)
            assert [dues[int(one)] for one in on.ids] == sorted(dues)
            assert on.times == [max(due, 0) for due in sorted(dues)]

    run_virtual(story())


# Once per key


@plays
async def test_runner_calls_a_key_once() -> None:
    """Submitted many times before it is due, it is called once; another id, or another handler, is another key."""
    async with stage() as on:
        on.handles("heal")
        on.handles("sweep")
        for _ in range(100):
            await on.runner.submit("heal", "a", at=at(5))
        await on.runner.submit("heal", "a", "b", at=at(5))
        await on.runner.submit("sweep", "a", at=at(5))
        assert len(await on.runner.queued()) == 3
        await asyncio.sleep(100)
        assert sorted((name, ids) for _, name, ids in on.called) == [
            ("heal", ("a",)),
            ("heal", ("a", "b")),
            ("sweep", ("a",)),
        ]


@pytest.mark.parametrize("dues", [(5, 9), (9, 5), (9, 5, 7), (5, 5)])
def test_runner_lets_the_earliest_time_win(dues: tuple[int, ...]) -> None:
    """Of several times for one key the earliest counts, in whatever order they came."""

    async def story() -> None:
        async with stage() as on:
            on.handles("heal")
            for due in dues:
                await on.runner.submit("heal", "a", at=at(due))
            await asyncio.sleep(100)
            assert on.times == [min(dues)]

    run_virtual(story())


@plays
async def test_runner_calls_again_what_was_called_before() -> None:
    """Once a call has ended the same key may be submitted anew, by the handler itself as well."""
    async with stage() as on:

        async def again(*ids: str) -> None:
            if len(on.called) < 3:
                await on.runner.submit("heal", *ids, at=at(now_s() + 10))

        on.handles("heal", again)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(100)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1)
        assert on.times == [0, 10, 20, 100]


@plays
async def test_runner_calls_once_more_what_is_submitted_while_it_runs() -> None:
    """News that arrive during a call lead to one more call after it, never to two at once."""
    async with stage() as on:
        on.handles("heal", lambda *_: asyncio.sleep(10))
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1)
        for _ in range(5):
            await on.runner.submit("heal", "a")
        assert [(one.running, one.ids) for one in await on.runner.queued()] == [(True, ("a",)), (False, ("a",))]
        await asyncio.sleep(100)
        assert on.times == [0, 10]


@plays
async def test_runner_keeps_a_later_time_given_while_it_runs() -> None:
    """Submitted for later during a call, it is called at that time, not right after the call."""
    async with stage() as on:
        on.handles("heal", lambda *_: asyncio.sleep(10))
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1)
        await on.runner.submit("heal", "a", at=at(50))
        await asyncio.sleep(100)
        assert on.times == [0, 50]


# With a transaction


@plays
async def test_runner_calls_only_what_was_committed() -> None:
    """Submitted inside a transaction, it waits for the commit; without one it is never called."""
    async with stage() as on:
        on.handles("heal")
        kept, lost = Commit(), Commit()
        await on.runner.submit("heal", "kept", tx=kept)
        await on.runner.submit("heal", "later", at=at(30), tx=kept)
        await on.runner.submit("heal", "lost", tx=lost)
        await asyncio.sleep(10)
        assert (on.called, await on.runner.queued()) == ([], [])
        kept.commit()
        await asyncio.sleep(100)
        assert on.called == [(10, "heal", ("kept",)), (30, "heal", ("later",))]


# Cancel, look, stop


@plays
async def test_runner_forgets_what_is_cancelled() -> None:
    """Cancelled before it is due it is not called; what runs goes on; afterwards it may be submitted anew."""
    async with stage() as on:
        on.handles("heal", lambda *_: asyncio.sleep(10))
        await on.runner.submit("heal", "waiting", at=at(5))
        await on.runner.submit("heal", "running")
        await asyncio.sleep(1)
        await on.runner.submit("heal", "running")
        for name in ("waiting", "running", "unknown"):
            await on.runner.cancel("heal", name)
        await asyncio.sleep(20)
        assert on.called == [(0, "heal", ("running",))]
        await on.runner.submit("heal", "waiting", at=at(30))
        await asyncio.sleep(100)
        assert on.called[1:] == [(30, "heal", ("waiting",))]


@plays
async def test_runner_counts_errors_anew_after_a_cancel() -> None:
    """Cancelling a call that waits for its next try forgets its errors as well."""
    async with stage() as on:

        async def fail(*_: str) -> None:
            raise ZeroDivisionError

        on.handles("heal", fail)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(5)
        await on.runner.cancel("heal", "a")
        await asyncio.sleep(95)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(4)
        assert on.times == [0, 1, 3, 100, 101, 103]


@plays
async def test_runner_lists_what_runs_and_what_waits() -> None:
    """What runs first, then what waits, the next one first, with the seconds left."""
    async with stage() as on:
        on.handles("heal", lambda *_: asyncio.sleep(10))
        await on.runner.submit("heal", "later", at=at(60))
        await on.runner.submit("heal", "sooner", at=at(30))
        await on.runner.submit("heal", "running")
        await asyncio.sleep(5)
        assert await on.runner.queued() == [
            Queued("heal", ("running",), 0, True),
            Queued("heal", ("sooner",), 25, False),
            Queued("heal", ("later",), 55, False),
        ]


@plays
async def test_stop_waits_for_what_runs_and_starts_nothing() -> None:
    """`stop` returns when the running calls have ended; what is due meanwhile, or submitted, is not begun."""
    async with stage(concurrency=2) as on:

        async def work(*_: str) -> None:
            await asyncio.sleep(10)
            await on.runner.submit("heal", "follow-up")

        on.handles("heal", work)
        for name in ("a", "b", "too many"):
            await on.runner.submit("heal", name)
        await on.runner.submit("heal", "due meanwhile", at=at(5))
        await asyncio.sleep(1)
        await on.runner.stop()
        assert now_s() == 10
        await on.runner.submit("heal", "too late")
        await asyncio.sleep(100)
        assert on.ids == ["a", "b"]
        await on.runner.stop()


@plays
async def test_stop_waits_for_a_call_that_fails() -> None:
    """A call that ends with an error during `stop` is not called again, and `stop` ends."""
    async with stage() as on:

        async def fail(*_: str) -> None:
            await asyncio.sleep(10)
            raise ZeroDivisionError

        on.handles("heal", fail)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1)
        await on.runner.stop()
        await asyncio.sleep(100)
        assert on.times == [0]


@plays
async def test_stop_cuts_off_what_takes_too_long() -> None:
    """What still runs after the time it was given is cut off, and `stop` ends; what ended in time has ended well."""
    async with stage() as on:
        ended: list[str] = []

        async def work(name: str) -> None:
            await asyncio.sleep(3 if name == "short" else 100)
            ended.append(name)

        on.handles("heal", work)
        for name in ("short", "long"):
            await on.runner.submit("heal", name)
        await asyncio.sleep(1)
        await on.runner.stop(5)
        assert (now_s(), ended) == (6, ["short"])


@plays
async def test_stop_can_be_hurried() -> None:
    """Asked again with less patience, the first asking ends as well."""
    async with stage() as on:
        on.handles("heal", lambda *_: asyncio.sleep(100))
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1)
        first = asyncio.create_task(on.runner.stop(30))
        await asyncio.sleep(1)
        await on.runner.stop(0)
        await first
        assert now_s() == 2
