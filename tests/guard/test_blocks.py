"""Blocks are guarded as functions are, and give back what they hold however they end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import prunella as pr
from guard.conftest import ManualTime

FAST = pr.Retry(attempts=3, base_s=0.0)


class Down(Exception):
    """The service's error."""


def _policy(**parts: Any) -> pr.Policy:
    return pr.policy("crm", **{"retry": FAST, **parts})


# One attempt ----------------------------------------------------------------------------------------------------------


def test_block_passes_its_errors_on_and_they_count(clock: ManualTime) -> None:
    """The very error comes out, after one attempt, and the breaker has seen it."""
    policy = _policy(breaker=pr.Breaker(failures=2))
    for _ in range(2):
        error = Down()
        with pytest.raises(Down) as caught, policy.attempt():
            raise error
        assert caught.value is error
    with pytest.raises(pr.CircuitOpen), policy.attempt():
        pytest.fail("the block must not run")


def test_block_that_succeeds_counts_as_success(clock: ManualTime) -> None:
    """A streak of failures ends with it."""
    policy = _policy(breaker=pr.Breaker(failures=2))
    for _ in range(5):
        with pytest.raises(Down), policy.attempt():
            raise Down
        with policy.attempt():
            pass
    assert policy.breaker.standing()["successes"] == 5


def test_block_holds_its_place_while_it_runs(clock: ManualTime) -> None:
    """A second one is refused meanwhile."""
    policy = _policy(bulkhead=pr.Bulkhead(1))
    with policy.attempt(), pytest.raises(pr.LoadShed), policy.attempt():
        pytest.fail("there is one place")
    with policy.attempt():
        pass


@pytest.mark.parametrize("kind", [Down, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, TimeoutError])
@pytest.mark.parametrize("loop", [False, True], ids=["attempt", "attempts"])
def test_block_gives_its_place_back_however_it_ends(kind: type[BaseException], loop: bool, clock: ManualTime) -> None:
    """And the error that ended it comes out as it is."""
    policy = _policy(bulkhead=pr.Bulkhead(1), retry=pr.Retry(attempts=1))
    error = kind("why")

    def work() -> None:
        if not loop:
            with policy.attempt():
                raise error
        for attempt in policy.attempts():
            with attempt:
                raise error

    with pytest.raises(kind) as caught:
        work()
    assert caught.value is error
    assert policy.explain()["under_way"] == 0


def test_block_sees_the_time_it_has(clock: ManualTime) -> None:
    """`remaining_s` holds inside the block only."""
    policy = _policy(deadline_s=9, attempt_timeout_s=5)
    with policy.attempt():
        clock.passes(1)
        assert pr.remaining_s() == 4
    assert pr.remaining_s() == math.inf
    for attempt in policy.attempts():
        with attempt:
            assert pr.remaining_s() == 5
        assert pr.remaining_s() == math.inf


def test_block_waits_for_its_turn(clock: ManualTime) -> None:
    """The limiter spaces blocks as it spaces calls."""
    policy = _policy(limiter=pr.AdaptiveLimiter(rate_per_s=2))
    for _ in range(3):
        with policy.attempt():
            pass
    assert clock.slept == [0.5, 0.5]


def test_asynchronous_block_waits_without_holding_up_others(clock: ManualTime) -> None:
    """`async with` gives the loop its turn."""
    policy = _policy(limiter=pr.AdaptiveLimiter(rate_per_s=1), bulkhead=pr.Bulkhead(9))
    entered: list[float] = []

    async def work() -> None:
        async with policy.attempt():
            entered.append(clock.monotonic())

    async def main() -> None:
        await asyncio.gather(work(), work(), work())

    clock.run(main())
    assert entered == [0, 1, 2]


def test_block_without_a_result_is_not_validated(clock: ManualTime) -> None:
    """There is nothing to look at unless the block sets `result`."""
    policy = _policy(validate=lambda answer: answer["ok"])
    with policy.attempt():
        pass
    for attempt in policy.attempts():
        with attempt:
            pass
    assert attempt.number == 1


def test_result_of_a_block_is_looked_at(clock: ManualTime) -> None:
    """What the block sets is validated, each attempt's own."""
    policy = _policy(validate=lambda answer: answer["ok"])
    tries = 0
    for attempt in policy.attempts():
        with attempt:
            tries += 1
            if tries == 1:
                attempt.result = {"ok": False}
    assert tries == 2, "the first attempt's result must not be taken for the second's"
    tries = 0
    with pytest.raises(pr.BadResponse):
        for attempt in policy.attempts():
            with attempt:
                tries += 1
                attempt.result = {"ok": False}
    assert tries == 3


def test_block_can_be_left_in_another_context(clock: ManualTime) -> None:
    """Frameworks enter and leave a dependency in different contexts; that is no failure of the service."""
    policy = _policy(deadline_s=5, breaker=pr.Breaker(failures=1))
    block = policy.attempt()
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert policy.breaker.standing()["successes"] == 1


def test_one_block_object_guards_one_block_at_a_time(clock: ManualTime) -> None:
    """Entered again while it is in use it either refuses or keeps both apart; no place is lost."""
    policy = _policy(bulkhead=pr.Bulkhead(5))
    block = policy.attempt()
    with block:
        try:
            with block:
                pass
        except RuntimeError:
            pass
        assert policy.explain()["under_way"] == 1
    gc.collect()
    assert policy.explain()["under_way"] == 0


# Attempts -------------------------------------------------------------------------------------------------------------


def test_attempts_are_numbered_and_end_with_success(clock: ManualTime) -> None:
    """A loop ends after the first block that succeeds."""
    numbers = []
    for attempt in _policy().attempts():
        with attempt:
            numbers.append(attempt.number)
            if len(numbers) < 2:
                raise Down
    assert numbers == [1, 2]


def test_attempts_wait_between_blocks(clock: ManualTime) -> None:
    """Waits are those of the policy, and are over before the next block begins."""
    begun = []
    with pytest.raises(Down):
        for attempt in _policy(retry=pr.Retry(base_s=1, jitter="none")).attempts():
            with attempt:
                begun.append(clock.monotonic())
                raise Down
    assert begun == [0, 1, 3]


def test_asynchronous_attempts_wait_in_the_loop(clock: ManualTime) -> None:
    """The same for tasks, which work side by side meanwhile."""
    policy = _policy(retry=pr.Retry(base_s=1, jitter="none"))
    begun: list[float] = []

    async def work() -> None:
        async for attempt in policy.attempts():
            async with attempt:
                begun.append(clock.monotonic())
                raise Down

    async def main() -> None:
        for outcome in await asyncio.gather(work(), work(), return_exceptions=True):
            assert isinstance(outcome, Down)

    clock.run(main())
    assert begun == [0, 0, 1, 1, 3, 3]


def test_forgotten_with_is_refused(clock: ManualTime) -> None:
    """A loop without `with attempt:` would never end; the message says what is missing."""
    rounds = 0
    with pytest.raises(RuntimeError, match="inside `with attempt:`"):
        for _ in _policy().attempts():
            rounds += 1
    assert rounds == 1


def test_forgotten_with_is_refused_in_asynchronous_loops(clock: ManualTime) -> None:
    """The same for `async for`."""

    async def main() -> None:
        async for _ in _policy().attempts():
            pass

    with pytest.raises(RuntimeError, match="inside `with attempt:`"):
        clock.run(main())


def test_forgotten_with_is_refused_on_a_later_round(clock: ManualTime) -> None:
    """Every round is checked, not only the first."""
    rounds = 0
    with pytest.raises(RuntimeError, match="inside `with attempt:`"):
        for attempt in _policy().attempts():
            rounds += 1
            if rounds == 1:
                with attempt:
                    raise Down
    assert rounds == 2


def test_loop_that_is_left_early_gives_everything_back(clock: ManualTime) -> None:
    """break and errors beside the block free place and probe, and the deadline ends with the loop."""
    policy = _policy(bulkhead=pr.Bulkhead(1), deadline_s=5, breaker=pr.Breaker(failures=1, open_s=1))
    policy.breaker.force_open("test")
    clock.passes(2)
    for _ in policy.attempts():
        break
    with pytest.raises(ValueError, match="beside"):
        for _ in policy.attempts():
            raise ValueError("beside the block")
    for attempt in policy.attempts():
        with attempt:
            break
    assert policy.explain()["under_way"] == 0
    assert policy.breaker.standing()["state"] == "closed", "the third loop was the probe"
    assert pr.remaining_s() == math.inf


def test_asynchronous_loop_that_is_left_early_gives_everything_back(clock: ManualTime) -> None:
    """The loop's finaliser runs in another context; deadline, place and probe are free all the same."""
    policy = _policy(bulkhead=pr.Bulkhead(1), deadline_s=5, breaker=pr.Breaker(failures=1, open_s=1))
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        policy.breaker.force_open("test")
        await asyncio.sleep(2)
        with pytest.raises(ValueError, match="beside"):
            async for _ in policy.attempts():
                raise ValueError("beside the block")
        assert pr.remaining_s() == math.inf
        gc.collect()
        await asyncio.sleep(0.01)
        assert policy.explain()["under_way"] == 0
        async with policy.attempt():
            pass

    clock.run(main())
    assert complaints == []
    assert policy.breaker.standing()["state"] == "closed"


def test_fallback_does_not_run_a_block_once_more(clock: ManualTime) -> None:
    """A block can't be replaced: its attempts are the policy's, and its error is raised."""
    rounds = 0
    with pytest.raises(Down):
        for attempt in _policy(fallback=pr.Fallback(value="stand-in")).attempts():
            with attempt:
                rounds += 1
                raise Down
    assert rounds == 3


def test_cancellation_ends_a_loop_of_attempts(clock: ManualTime) -> None:
    """In the block and in the wait, at once."""
    policy = _policy(retry=pr.Retry(base_s=10, jitter="none"), bulkhead=pr.Bulkhead(1))
    rounds: list[int] = []

    async def work(takes_s: float) -> None:
        async for attempt in policy.attempts():
            async with attempt:
                rounds.append(attempt.number)
                await asyncio.sleep(takes_s)
                raise Down

    async def main() -> None:
        for takes_s in (5.0, 0.0):
            task = asyncio.create_task(work(takes_s))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert policy.explain()["under_way"] == 0

    clock.run(main())
    assert rounds == [1, 1]


# Shared objects (table K) ---------------------------------------------------------------------------------------------


def test_twenty_tasks_on_one_attempts_object_have_three_attempts_each(clock: ManualTime) -> None:
    """The object is a recipe, no state: each loop counts for itself."""
    attempts = _policy(retry=pr.Retry(base_s=0.1, jitter="none")).attempts()

    async def work() -> int:
        rounds = 0
        try:
            async for attempt in attempts:
                async with attempt:
                    rounds += 1
                    await asyncio.sleep(0.01)
                    raise Down
        except Down:
            return rounds
        return 0

    async def main() -> list[int]:
        return await asyncio.gather(*(work() for _ in range(20)))

    assert clock.run(main()) == [3] * 20


@pytest.mark.parametrize("parts", [{}, {"breaker": pr.Breaker(failures=10**6)}, {"bulkhead": pr.Bulkhead(32)}])
def test_threads_on_one_policy_have_three_attempts_each(parts: dict[str, Any]) -> None:
    """32 threads share one attempts object and one guarded function; nobody's attempts are another's."""
    policy = _policy(**parts)
    attempts, together = policy.attempts(), threading.Barrier(32, timeout=10)
    counts: list[tuple[int, int]] = []

    @policy
    def call(made: list[int]) -> None:
        made.append(1)
        raise Down

    def work() -> None:
        rounds, made = 0, list[int]()
        together.wait()
        with pytest.raises(Down):
            for attempt in attempts:
                with attempt:
                    rounds += 1
                    raise Down
        with pytest.raises(Down):
            call(made)
        counts.append((rounds, len(made)))

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [(3, 3)] * 32


def test_block_inside_a_generator_does_not_leak_its_deadline(clock: ManualTime) -> None:
    """A generator that is suspended inside a block does not shorten its consumer's time for good."""
    policy = _policy(deadline_s=5)

    def rows() -> Iterator[int]:
        with policy.attempt():
            yield 1

    for _ in rows():
        pass
    assert pr.remaining_s() == math.inf

    async def async_rows() -> AsyncIterator[int]:
        async with policy.attempt():
            yield 1

    async def main() -> float:
        async for _ in async_rows():
            pass
        return pr.remaining_s()

    assert clock.run(main()) == math.inf
