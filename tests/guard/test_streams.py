"""Generators are guarded up to their first item, and are generators in everything else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

import pytest

import prunella as pr
from guard.conftest import ManualTime

FAST = pr.Retry(attempts=3, base_s=0.0)
PARTS: dict[str, dict[str, Any]] = {
    "alone": {},
    "breaker": {"breaker": pr.Breaker(failures=9)},
    "limits": {"deadline_s": 60, "attempt_timeout_s": 30},
    "bulkhead": {"bulkhead": pr.Bulkhead(2)},
}
with_parts = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)


class Down(Exception):
    """The service's error."""


def _policy(**parts: Any) -> pr.Policy:
    return pr.policy("crm", retry=FAST, **parts)


# Generators -----------------------------------------------------------------------------------------------------------


@with_parts
def test_generator_is_begun_once_when_its_first_item_is_asked_for(parts: dict[str, Any]) -> None:
    """Calling it does nothing yet; what the caller has seen can't be taken back: a later error reaches them as it is."""
    begun = []

    @_policy(**parts)
    def lines() -> Iterator[int]:
        begun.append(1)
        yield 1
        raise Down

    lines().close()  # type: ignore[attr-defined]
    stream = lines()
    assert begun == []
    assert next(stream) == 1
    with pytest.raises(Down) as caught:
        next(stream)
    assert begun == [1]
    assert not getattr(caught.value, "__notes__", [])


@with_parts
def test_generator_takes_what_is_sent_and_thrown_and_returns_its_value(parts: dict[str, Any]) -> None:
    """send, throw, close and the return value pass through."""
    told: list[Any] = []

    @_policy(**parts)
    def dialogue() -> Generator[str, str, str]:
        try:
            told.append((yield "first"))
            try:
                yield "second"
            except Down:
                told.append("thrown")
            yield "third"
        finally:
            told.append("closed")
        return "unreached"

    stream = dialogue()
    assert (next(stream), stream.send("answer"), stream.throw(Down())) == ("first", "second", "third")
    stream.close()
    assert told == ["answer", "thrown", "closed"]

    @_policy(**parts)
    def short() -> Generator[int, None, str]:
        yield 1
        return "value"

    @_policy(**parts)
    def empty() -> Generator[int, None, str]:
        yield from ()
        return "nothing to yield"

    def delegating() -> Generator[int, None, tuple[str, str]]:
        return (yield from short()), (yield from empty())

    outer = delegating()
    assert next(outer) == 1
    with pytest.raises(StopIteration) as end:
        next(outer)
    assert end.value.value == ("value", "nothing to yield")


@with_parts
def test_guarded_generator_makes_a_context_manager(parts: dict[str, Any]) -> None:
    """Retry covers entering; the block's own error goes to the generator once."""
    steps: list[str] = []

    @contextlib.contextmanager
    @_policy(**parts)
    def connection() -> Iterator[str]:
        steps.append("open")
        if len(steps) < 3:
            raise Down
        try:
            yield "connected"
        finally:
            steps.append("close")

    with pytest.raises(ValueError, match="in the block"), connection() as found:
        assert found == "connected"
        raise ValueError("in the block")
    assert steps == ["open", "open", "open", "close"]


def test_failed_openings_give_their_place_back() -> None:
    """A stream counts as under way while it is opened, not while it is read."""
    policy = _policy(bulkhead=pr.Bulkhead(1))

    @policy
    def lines() -> Iterator[int]:
        yield from (1, 2)

    first, second = lines(), lines()
    assert [next(first), next(second), next(first), next(second)] == [1, 1, 2, 2]
    assert policy.explain()["under_way"] == 0


# Asynchronous generators ----------------------------------------------------------------------------------------------


@with_parts
def test_async_generator_that_fails_before_its_first_item_is_begun_again(
    parts: dict[str, Any], clock: ManualTime
) -> None:
    """Table N: a new stream is opened for each attempt."""
    begun = []

    @_policy(**parts)
    async def lines() -> AsyncIterator[int]:
        begun.append(1)
        await asyncio.sleep(0.1)
        if len(begun) < 3:
            raise Down
        yield 1
        yield 2

    async def main() -> list[int]:
        return [line async for line in lines()]

    assert clock.run(main()) == [1, 2]
    assert len(begun) == 3


@with_parts
def test_async_generator_that_fails_later_is_not_begun_again(parts: dict[str, Any], clock: ManualTime) -> None:
    """After the first item errors pass."""
    begun = []

    @_policy(**parts)
    async def lines() -> AsyncIterator[int]:
        begun.append(1)
        yield 1
        raise Down

    async def main() -> None:
        stream = lines()
        assert await anext(stream) == 1
        with pytest.raises(Down):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    clock.run(main())
    assert begun == [1]


@with_parts
def test_async_generator_takes_what_is_sent_and_thrown(parts: dict[str, Any], clock: ManualTime) -> None:
    """asend, athrow and aclose pass through."""
    told: list[Any] = []

    @_policy(**parts)
    async def dialogue() -> AsyncGenerator[str, str]:
        try:
            told.append((yield "first"))
            try:
                yield "second"
            except Down:
                told.append("thrown")
            yield "third"
        finally:
            told.append("closed")

    async def main() -> None:
        stream = dialogue()
        assert await anext(stream) == "first"
        assert await stream.asend("answer") == "second"
        assert await stream.athrow(Down()) == "third"
        await stream.aclose()
        assert told == ["answer", "thrown", "closed"], "closed when aclose returns, not when it is collected"

    clock.run(main())


@with_parts
def test_async_generator_that_is_empty_ends(parts: dict[str, Any], clock: ManualTime) -> None:
    """No item is no failure, and the stream stays ended."""
    begun = []

    @_policy(**parts)
    async def lines() -> AsyncIterator[int]:
        begun.append(1)
        for line in list[int]():
            yield line

    async def main() -> list[int]:
        stream = lines()
        return [line async for line in stream] + [line async for line in stream]

    assert clock.run(main()) == []
    assert begun == [1]


@with_parts
def test_async_generator_that_was_closed_or_failed_stays_ended(parts: dict[str, Any], clock: ManualTime) -> None:
    """As with any asynchronous generator, nothing opens it again."""
    begun = []

    @_policy(**parts)
    async def lines() -> AsyncGenerator[int, None]:
        begun.append(1)
        if begun:
            raise Down
        yield 1

    async def main() -> None:
        closed = lines()
        await closed.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(closed)
        assert begun == []
        failed = lines()
        with pytest.raises(Down):
            await anext(failed)
        with pytest.raises(StopAsyncIteration):
            await anext(failed)
        thrown = lines()
        with pytest.raises(ValueError, match="x"):
            await thrown.athrow(ValueError("x"))
        with pytest.raises(StopAsyncIteration):
            await anext(thrown)

    clock.run(main())
    assert len(begun) == 3


def test_async_generator_is_opened_by_one_task_only(clock: ManualTime) -> None:
    """Two tasks that ask for the first item at once do not open two streams."""
    begun = []

    @_policy()
    async def lines() -> AsyncIterator[int]:
        begun.append(1)
        await asyncio.sleep(1)
        yield 1

    async def main() -> None:
        stream = lines()
        await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)

    clock.run(main())
    assert begun == [1]


def test_guarded_async_generator_makes_a_context_manager(clock: ManualTime) -> None:
    """`asynccontextmanager` works on it, for retried connections."""
    steps: list[str] = []

    @contextlib.asynccontextmanager
    @_policy()
    async def connection() -> AsyncIterator[str]:
        steps.append("open")
        if len(steps) < 3:
            raise Down
        try:
            yield "connected"
        finally:
            steps.append("close")

    async def main() -> None:
        async with connection() as found:
            assert found == "connected"

    clock.run(main())
    assert steps == ["open", "open", "open", "close"]


def test_policies_stack_on_async_generators(clock: ManualTime) -> None:
    """A policy over a guarded stream guards it too, and two layers of three do not make nine."""
    begun: list[int] = []

    def stacked(outer: pr.Policy, inner: pr.Policy, failures: int) -> Any:
        begun.clear()

        @outer
        @inner
        async def lines() -> AsyncIterator[int]:
            begun.append(1)
            if len(begun) <= failures:
                raise Down
            yield 1

        return lines

    async def read(lines: Any) -> list[int]:
        return [line async for line in lines()]

    plain = pr.policy("plain", deadline_s=60)
    assert clock.run(read(stacked(_policy(), plain, 2))) == [1]
    assert clock.run(read(stacked(plain, _policy(), 2))) == [1]
    with pytest.raises(Down):
        clock.run(read(stacked(_policy(), _policy(), 99)))
    assert len(begun) == 3


def test_slow_first_item_times_out_and_the_stream_is_closed(clock: ManualTime) -> None:
    """The attempt's limit covers opening and first item; what was opened is not left open."""
    steps: list[str] = []

    @pr.policy("crm", attempt_timeout_s=1)
    async def lines() -> AsyncIterator[int]:
        try:
            await asyncio.sleep(5)
            yield 1
        finally:
            steps.append("closed")

    async def main() -> None:
        with pytest.raises(pr.AttemptTimeout):
            await anext(lines())

    clock.run(main())
    assert steps == ["closed"]


def test_limit_of_the_opening_does_not_end_the_reading(clock: ManualTime) -> None:
    """Once open, a stream may take its time."""

    @pr.policy("crm", attempt_timeout_s=1, deadline_s=2)
    async def lines() -> AsyncIterator[float]:
        yield pr.remaining_s()
        await asyncio.sleep(10)
        yield pr.remaining_s()

    async def main() -> list[float]:
        return [line async for line in lines()]

    assert clock.run(main()) == [1.0, float("inf")]


# What looks at one result ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["fallback", "validate", "on_result"])
def test_parts_that_look_at_one_result_are_refused_for_streams(part: str) -> None:
    """A stream has no result: a used-up one must never stand in for it, nor our own objects be shown."""
    parts: dict[str, dict[str, Any]] = {
        "fallback": {"fallback": pr.Fallback(last_good=True)},
        "validate": {"validate": bool},
        "on_result": {"retry": pr.Retry(on_result=bool)},
    }
    policy = pr.policy("crm", **parts[part])

    def lines() -> Iterator[int]:
        yield 1

    async def async_lines() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match=f"lines is a generator, and {part} looks at one result"):
        policy(lines)
    with pytest.raises(TypeError, match=f"async_lines is .*generator, and {part} looks at one result"):
        policy(async_lines)


def _no_business(result: Any) -> bool:
    pytest.fail(f"was shown {result!r}")


@pytest.mark.parametrize(
    "changes",
    [{"fallback": pr.Fallback(value=[7])}, {"validate": _no_business}, {"retry": pr.Retry(on_result=_no_business)}],
    ids=["fallback", "validate", "on_result"],
)
def test_parts_that_come_later_leave_streams_alone(changes: dict[str, Any], clock: ManualTime) -> None:
    """What `update` adds for calls is not applied to the streams that were guarded before."""
    policy = pr.policy("crm")
    fails = False

    @policy
    def lines() -> Iterator[int]:
        if fails:
            raise Down
        yield 1

    @policy
    async def async_lines() -> AsyncIterator[int]:
        if fails:
            raise Down
        yield 1

    async def main() -> list[int]:
        return [line async for line in async_lines()]

    policy.update(**changes)
    assert (list(lines()), clock.run(main())) == ([1], [1])
    fails = True
    with pytest.raises(Down):
        list(lines())
    with pytest.raises(Down):
        clock.run(main())
