"""One contract in every setting: the runner of one process on either store, and Procrastinate. In real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from prunella.core.clock import SystemClock
from prunella.core.errors import StoreUnavailable
from prunella.core.events import Event, Listeners
from prunella.store.postgres import PostgresStore
from prunella.store.sqlite import SqliteStore
from runner.ground import Calls, Ground, emptied_queue, running, waiting

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["local on sqlite", "local on postgresql", "procrastinate", "procrastinate pooled"])
async def ground(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Ground]:
    """Stand on each setting in turn."""
    found = await _ground(request)
    yield found
    await found.close()


async def _ground(request: pytest.FixtureRequest) -> Ground:
    if request.param == "local on sqlite":
        path: Path = request.getfixturevalue("sqlite_path")
        return Ground(SqliteStore.open_file(path, SystemClock()), None)
    url = str(request.getfixturevalue("migrated_postgres_url"))
    store = await PostgresStore.open(url)
    if request.param == "local on postgresql":
        return Ground(store, None)
    await emptied_queue(url)
    return Ground(store, url, pooled=request.param.endswith("pooled"))


async def test_key_waits_once_and_the_earliest_time_wins(ground: Ground) -> None:
    """Submitted often and for several times, one by one and many at once: one call, at the earliest, and not before."""
    calls, runner = Calls(), ground.runner()
    runner.handle("heal", calls.handler("heal", "", None))
    async with running(runner):
        for seconds in (60, 0.3, 90):
            await runner.submit("heal", "a", at=ground.after(seconds))
        began = monotonic()
        await runner.submit_many(
            [(("heal", "b"), ground.after(60)), (("heal", "b"), ground.after(0.3)), (("heal", "a"), ground.after(60))]
        )
        await runner.submit_many([(("heal", "c"), ground.after(60)), (("heal", "c"), None)])
        assert sorted(one.ids for one in await runner.queued() if one.ids != ("c",)) == [("a",), ("b",)]
        await calls.times(3)
        late_s = monotonic() - began - 0.3
    assert sorted(calls.ids) == ["a", "b", "c"]
    assert -0.02 < late_s < ground.late_s


async def test_call_submitted_while_it_runs_follows_once(ground: Ground) -> None:
    """News during a call lead to one more, soon after it and never beside it; for later, at that time."""
    calls, runner, go = Calls(), ground.runner(), asyncio.Event()
    runner.handle("heal", calls.handler("heal", "", lambda *_: go.wait()))
    async with running(runner):
        await runner.submit("heal", "a")
        await calls.until(lambda: len(calls.begun) == 1)
        for _ in range(5):
            await runner.submit("heal", "a")
        assert [one.running for one in await runner.queued()] == [True, False]
        go.set()
        await calls.times(2)
        await runner.submit("heal", "a", at=ground.after(600))
        assert (await waiting(runner)).due_in_s > 500
    assert (calls.ids, calls.beside_itself) == (["a", "a"], [])


async def test_call_stands_or_falls_with_its_transaction(ground: Ground) -> None:
    """Rolled back with the row it is about it is never called; committed it is, and not before."""
    calls, runner = Calls(), ground.runner()
    runner.handle("heal", calls.handler("heal", "", None))
    async with running(runner):
        with pytest.raises(ZeroDivisionError):
            async with ground.store.transaction() as tx:
                await runner.submit("heal", "lost", tx=tx)
                raise ZeroDivisionError
        async with ground.store.transaction() as tx:
            await runner.submit("heal", "kept", tx=tx)
            await runner.submit("heal", "kept", at=ground.after(60), tx=tx)
            assert calls.begun == []
        await calls.times(1)
    assert calls.ids == ["kept"]


async def test_runner_that_keeps_up_keeps_the_order(ground: Ground) -> None:
    """One at a time, calls begin in the order in which they were submitted; what is late runs at once."""
    calls, runner = Calls(), ground.runner(concurrency=1)
    runner.handle("heal", calls.handler("heal", "", None))
    await runner.submit("heal", "past", at=ground.after(-3600))
    for number in range(20):
        await runner.submit("heal", str(number))
    async with running(runner):
        await calls.times(21)
    assert calls.ids == ["past", *(str(number) for number in range(20))]


async def test_cancelled_call_is_forgotten(ground: Ground) -> None:
    """What waits is not called; what runs goes on, and what it had waiting is gone; unknown ones are no error."""
    calls, runner, go = Calls(), ground.runner(), asyncio.Event()
    runner.handle("heal", calls.handler("heal", "", lambda *_: go.wait()))
    async with running(runner):
        await runner.submit("heal", "waiting", at=ground.after(60))
        await runner.submit("heal", "running")
        await calls.until(lambda: len(calls.begun) == 1)
        await runner.submit("heal", "running", at=ground.after(60))
        for name in ("waiting", "running", "unknown"):
            await runner.cancel("heal", name)
        assert [(one.ids, one.running) for one in await runner.queued()] == [(("running",), True)]
        go.set()
        await calls.times(1)
        await runner.submit("heal", "waiting")
        await calls.times(2)
    assert calls.ids == ["running", "waiting"]


async def test_call_that_raises_comes_again_with_growing_pauses(ground: Ground) -> None:
    """After 1, 2, 4, 8, 16 s, told each time, then no more; a success in between begins anew."""
    told: list[Event] = []
    listeners = Listeners()
    listeners.subscribe(told.append)
    calls, runner, fails, well = Calls(), ground.runner(listeners), True, 0

    async def fail(*_: str) -> None:
        nonlocal well
        if fails:
            await runner.submit("heal", "a", at=ground.after(600))  # that it waits as well does not hide the error
            raise ZeroDivisionError
        well += 1

    async def call() -> tuple[int, float]:
        """Call it now instead of waiting: its errors are counted all the same.

        Returns how many were told by then, as on a slow machine a short wait may end by itself, and how long it waits.
        """
        begun = len(calls.begun)
        await runner.submit("heal", "a")
        await calls.times(begun + 1)
        due_in_s = (await waiting(runner)).due_in_s
        return len(told), due_in_s

    runner.handle("heal", calls.handler("heal", "", fail))
    async with running(runner):
        pauses_s: dict[int, float] = {}
        while len(told) < 6:
            pauses_s |= [await call()]
        assert set(pauses_s) >= {4, 5, 6}
        assert pauses_s == {many: pytest.approx([1, 2, 4, 8, 16, 600][many - 1], abs=0.9) for many in pauses_s}
        await runner.cancel("heal", "a")
        again_s = dict([await call() for _ in range(2)])
        assert again_s == {many: pytest.approx(2 ** (many - 7), abs=0.9) for many in again_s}
        fails, begun = False, len(calls.begun)
        await runner.submit("heal", "a")
        await calls.times(begun + 1)
        fails, before = True, len(told)
        failed, due_in_s = await call()
        assert due_in_s == pytest.approx(2 ** (failed - before - 1), abs=0.9)
    assert len(told) == len(calls.begun) - well
    assert {(event.name, event.fields["error"]) for event in told} == {("engine.failed", "ZeroDivisionError")}


async def test_call_that_finds_the_database_away_comes_every_two_seconds(ground: Ground) -> None:
    """However often: an outage is nobody's error, and does not use up the tries."""
    calls, runner, is_away = Calls(), ground.runner(), True

    async def heal(*_: str) -> None:
        if is_away:
            raise StoreUnavailable("the database does not answer")

    runner.handle("heal", calls.handler("heal", "", heal))
    async with running(runner):
        await runner.submit("heal", "a")
        for count in range(1, 7):
            await calls.times(count)
            assert (await waiting(runner)).due_in_s == pytest.approx(2, abs=0.9)
            is_away = count < 6
            await runner.submit("heal", "a")
        await calls.times(7)
    assert await ground.runner().queued() == []


async def test_queue_lists_what_runs_then_the_next_first(ground: Ground) -> None:
    """Running ones, due ones, later ones; with the seconds that are left."""
    calls, runner, go = Calls(), ground.runner(concurrency=1), asyncio.Event()
    runner.handle("heal", calls.handler("heal", "", lambda *_: go.wait()))
    async with running(runner):
        await runner.submit("heal", "running")
        await calls.until(lambda: len(calls.begun) == 1)
        await runner.submit("heal", "later", at=ground.after(600))
        await runner.submit("heal", "sooner", at=ground.after(300))
        await runner.submit("heal", "now")
        queued = await runner.queued()
        await runner.cancel("heal", "now")
        go.set()
    assert [(one.handler, one.ids[0], one.running) for one in queued] == [
        ("heal", "running", True),
        ("heal", "now", False),
        ("heal", "sooner", False),
        ("heal", "later", False),
    ]
    assert [one.due_in_s for one in queued] == pytest.approx([0, 0, 300, 600], abs=10)


async def test_stop_waits_for_what_runs_and_starts_nothing(ground: Ground) -> None:
    """What runs ends, whatever is submitted meanwhile; stopping twice is stopping."""
    calls, runner, go = Calls(), ground.runner(), asyncio.Event()

    async def work(*_: str) -> None:
        await go.wait()
        await runner.submit("heal", "follow-up")

    runner.handle("heal", calls.handler("heal", "", work))
    async with running(runner):
        await runner.submit("heal", "a")
        await calls.until(lambda: len(calls.begun) == 1)
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        await runner.submit("heal", "too late")
        assert not stopping.done()
        go.set()
        await stopping
        await runner.stop()
    assert (calls.ids, calls.ended) == (["a"], 1)
