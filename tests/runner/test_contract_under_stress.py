"""The promises of a runner when handlers fail, take their time, or are many. In virtual time."""

from __future__ import annotations

import asyncio

from prunella.core.events import Event
from runner.stage import at, plays, stage

# Errors


@plays
async def test_runner_calls_again_after_an_error_with_growing_pauses() -> None:
    """A handler that always raises is called after 1, 2, 4, 8, 16 s, told each time, then left alone."""
    async with stage() as on:
        told: list[Event] = []
        on.listeners.subscribe(told.append)

        async def fail(*_: str) -> None:
            raise ZeroDivisionError

        on.handles("heal", fail)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1000)
        assert on.times == [0, 1, 3, 7, 15, 31]
        assert [(event.name, event.fields) for event in told] == [
            ("engine.failed", {"handler": "heal", "error": "ZeroDivisionError"})
        ] * 6
        assert await on.runner.queued() == []
        await on.runner.submit("heal", "a")
        await asyncio.sleep(1000)
        assert [seconds - 1000 for seconds in on.times[6:]] == [0, 1, 3, 7, 15, 31]


@plays
async def test_runner_counts_errors_anew_after_a_success() -> None:
    """One good call, and the pauses begin at one second again."""
    async with stage() as on:

        async def fail_but_third(*_: str) -> None:
            if len(on.called) != 3:
                raise ZeroDivisionError

        on.handles("heal", fail_but_third)
        await on.runner.submit("heal", "a")
        await asyncio.sleep(100)
        assert on.times == [0, 1, 3]
        await on.runner.submit("heal", "a")
        await asyncio.sleep(4)
        assert on.times[3:] == [100, 101, 103]


@plays
async def test_runner_survives_what_handlers_do() -> None:
    """An error, a cancellation or an unknown name is told and hurts nobody else."""
    async with stage() as on:
        told: list[Event] = []
        on.listeners.subscribe(told.append)

        async def cancel(*_: str) -> None:
            raise asyncio.CancelledError

        async def fail(*_: str) -> None:
            raise ExceptionGroup("two", [ValueError("x" * 10_000)])

        on.handles("cancel", cancel)
        on.handles("fail", fail)
        on.handles("heal")
        for name in ("cancel", "fail", "unknown", "heal"):
            await on.runner.submit(name, "a")
        await asyncio.sleep(0.5)
        assert ("heal", ("a",)) in [(name, ids) for _, name, ids in on.called]
        assert [event.fields for event in told] == [
            {"handler": "fail", "error": "ExceptionGroup"},
            {"handler": "unknown", "error": "KeyError"},
        ]
        await on.runner.submit("cancel", "a")
        await asyncio.sleep(0.1)
        assert [name for _, name, _ in on.called].count("cancel") == 2


# Many


@plays
async def test_runner_keeps_to_its_concurrency() -> None:
    """Never more calls at once than allowed, and never fewer while more are due."""
    async with stage(concurrency=3) as on:
        running: list[int] = []
        under_way = 0

        async def work(*_: str) -> None:
            nonlocal under_way
            under_way += 1
            running.append(under_way)
            await asyncio.sleep(10)
            under_way -= 1

        on.handles("heal", work)
        for number in range(9):
            await on.runner.submit("heal", str(number))
        await asyncio.sleep(100)
        assert max(running) == 3
        assert on.times == [0, 0, 0, 10, 10, 10, 20, 20, 20]


@plays
async def test_runner_does_not_wait_for_a_long_call() -> None:
    """While one key takes its time, and is submitted again and again, others are called when they are due."""
    async with stage(concurrency=2) as on:

        async def work(name: str) -> None:
            await asyncio.sleep(1000 if name == "long" else 0)

        on.handles("heal", work)
        await on.runner.submit("heal", "long")
        for number in range(1, 100):
            await on.runner.submit("heal", str(number), at=at(number))
            await on.runner.submit("heal", "long")
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        assert [(seconds, ids[0]) for seconds, _, ids in on.called[1:]] == [
            (number, str(number)) for number in range(1, 100)
        ]
        assert on.ids.count("long") == 1
