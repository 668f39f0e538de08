"""Virtual time keeps asyncio's promises, repeats itself for one seed, reports deadlocks and can die like a process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunella.core.clock import Clock
from prunella.testing.loop import Deadlock, LoopClock, SimulatedCrash, VirtualLoop, run_virtual, virtual_time


def run_in_new_interpreter(program: str, *options: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, *options, "-c", program], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """Let the collector look at what these tests make, not at all that thousands of others left in this process."""
    gc.freeze()


# Time


def test_loop_jumps_to_the_next_timer() -> None:
    """A year of sleep passes at once and to the second."""

    async def sleep_a_year() -> float:
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    assert run_virtual(sleep_a_year()) == 365 * 86400


@given(st.lists(st.floats(min_value=0, max_value=1e9), max_size=20), st.none() | st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_loop_wakes_sleepers_on_time_and_in_order(delays: list[float], seed: int | None) -> None:
    """Whatever the delays and the seed, nobody wakes early or late, or before somebody who is due sooner."""
    woken: list[float] = []

    async def sleep(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        assert asyncio.get_running_loop().time() == delay_s
        woken.append(delay_s)

    async def sleep_all() -> None:
        await asyncio.gather(*map(sleep, delays))

    run_virtual(sleep_all(), seed=seed)
    assert woken == sorted(delays)


def test_loop_does_not_jump_to_a_cancelled_timer() -> None:
    """A timeout that was not needed is no timer: it neither moves the clock nor hides a deadlock."""

    async def finish_early() -> None:
        async with asyncio.timeout(3600):
            await asyncio.sleep(1)
        await wait_for_nobody()

    with pytest.raises(Deadlock, match="at 1 s"):
        run_virtual(finish_early())


def test_loop_lets_a_timeout_fire() -> None:
    """asyncio's own timeouts work in virtual time."""

    async def wait_too_long() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), timeout=5)
        return asyncio.get_running_loop().time()

    assert run_virtual(wait_too_long()) == 5


def test_loop_keeps_asyncio_order_without_a_seed() -> None:
    """Without a seed the first who came is the first served."""
    assert trace(seed=None) == [f"{step}{name}" for step in range(3) for name in "abcdefgh"]


def test_loop_runs_thread_work_in_the_loop() -> None:
    """Work meant for a thread runs in this thread, brings its result or its error, and takes a turn."""

    async def use_threads() -> int:
        seen: list[str] = []
        asyncio.get_running_loop().call_soon(seen.append, "neighbour")
        ident = await asyncio.to_thread(threading.get_ident)
        assert seen == ["neighbour"]
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.to_thread(int, "x")
        return ident

    assert run_virtual(use_threads()) == threading.get_ident()


def test_loop_serves_as_a_loop_factory() -> None:
    """The standard runner takes the loop as it is."""

    async def sleep() -> float:
        await asyncio.sleep(60)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(sleep()) == 60


# Chance


async def record(name: str, seen: list[str]) -> None:
    for step in range(3):
        await asyncio.sleep(0)
        seen.append(f"{step}{name}")


def trace(seed: int | None) -> list[str]:
    seen: list[str] = []

    async def record_all() -> None:
        await asyncio.gather(*(record(name, seen) for name in "abcdefgh"))

    run_virtual(record_all(), seed=seed)
    return seen


def test_seed_shuffles_and_repeats() -> None:
    """One seed gives one order; a hundred seeds give (nearly) a hundred."""
    assert trace(7) == trace(7)
    assert len({tuple(trace(seed)) for seed in range(100)}) > 90


def test_seed_shuffles_timers_due_at_one_instant() -> None:
    """Timers due together fire in different orders under different seeds."""

    async def fire() -> tuple[int, ...]:
        seen: list[int] = []
        for number in range(5):
            asyncio.get_running_loop().call_later(1, seen.append, number)
        await asyncio.sleep(2)
        return tuple(seen)

    assert len({run_virtual(fire(), seed=seed) for seed in range(30)}) > 10


SETS_OF_TASKS = """
import asyncio, sys
from prunella.testing import run_virtual

seen = []
ballast = [object() for _ in range(int(sys.flags.hash_randomization) * 1001)]

async def work(name):
    try:
        await asyncio.sleep(len(name) % 3)
        seen.append(name)
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        seen.append("cancelled " + asyncio.current_task().get_name())
        raise

async def fail():
    await asyncio.sleep(5)
    raise ValueError

async def main():
    done, _ = await asyncio.wait([asyncio.create_task(asyncio.sleep(1)) for _ in range(20)])
    seen.extend(task.get_name() for task in done)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(work("w" * number))
            group.create_task(fail())
    except ExceptionGroup:
        pass

run_virtual(main(), seed=3)
print(seen)
"""


@pytest.mark.slow
def test_seed_repeats_in_another_process() -> None:
    """Sets of tasks (asyncio.wait, task groups) have one order in every process, whatever its hash seed."""
    runs = [run_in_new_interpreter(SETS_OF_TASKS, hash_seed=hash_seed) for hash_seed in ("0", "1", "random")]
    assert [run.stderr for run in runs] == ["", "", ""]
    assert runs[0].stdout.count("cancelled") == 20
    assert len({run.stdout for run in runs}) == 1


def test_tasks_are_named_alike_in_every_run() -> None:
    """Names count from the loop's first task, so that a trace with names repeats; a given name stays."""

    async def name_tasks() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(0), name="given")]
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks]

    assert run_virtual(name_tasks()) == run_virtual(name_tasks()) == ["Task-2", "given"]


# Deadlock


async def wait_for_nobody() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("hang", [wait_for_nobody, lambda: asyncio.sleep(float("inf"))])
def test_deadlock_is_reported_with_its_tasks(hang: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Waiting for ever raises, and the message names each task with the place where it waits."""

    async def start_and_wait() -> None:
        await asyncio.sleep(3)
        await asyncio.create_task(hang(), name="the-waiting-one")

    with pytest.raises(Deadlock, match=r"at 3 s, 2 tasks wait.*start_and_wait line \d+; the-waiting-one in"):
        run_virtual(start_and_wait())


def test_deadlocked_program_is_wound_up() -> None:
    """A deadlock is an error like others: the cleanup of the waiting tasks does run."""
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            await wait_for_nobody()
        finally:
            cleaned.append("waiter")

    with pytest.raises(Deadlock):
        run_virtual(wait())
    assert cleaned == ["waiter"]


def test_leftover_tasks_are_cancelled_at_the_end() -> None:
    """What outlives the main coroutine is cancelled and awaited, as asyncio.run does."""
    cleaned: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            cleaned.append("lingerer")

    async def leave() -> None:
        asyncio.get_running_loop().create_task(linger())
        await asyncio.sleep(0)

    run_virtual(leave())
    assert cleaned == ["lingerer"]


# Crash


class Program:
    """A program with every kind of cleanup there is; `effects` holds what it did to the world."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.lock = asyncio.Lock()

    async def catch(self) -> None:
        try:
            await asyncio.sleep(100)
        except BaseException as exc:
            self.effects.append(f"except {type(exc).__name__}")
            raise

    async def finish(self) -> None:
        try:
            await wait_for_nobody()
        finally:
            self.effects.append("finally")
            await asyncio.sleep(1)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.effects.append("context left")

    async def generate(self) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(100)
        finally:
            self.effects.append("generator closed")

    async def enter(self) -> None:
        async with self.hold(), self.lock, asyncio.timeout(50), asyncio.TaskGroup() as group:
            group.create_task(self.catch())
            async for _ in self.generate():
                pass

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.effects.append("tick")

    async def main(self) -> None:
        try:
            await asyncio.gather(self.catch(), self.finish(), self.enter(), self.tick())
        finally:
            self.effects.append("main")


def test_crash_runs_no_cleanup() -> None:
    """After a crash no finally, except, context manager, generator or timer runs, not even on collection."""
    programs = {seed: Program() for seed in (None, *range(20))}
    for seed, program in programs.items():
        with virtual_time(seed) as loop:
            loop.call_at(2.5, loop.crash)
            with pytest.raises(SimulatedCrash, match=r"after 2\.5 virtual seconds"):
                loop.run_until_complete(program.main())
    for _ in range(3):
        gc.collect()
    assert {seed for seed, program in programs.items() if program.effects != ["tick", "tick"]} == set()


def test_cancellation_does_run_cleanup() -> None:
    """The twin of the crash test: the same program, cancelled instead of crashed, does clean up."""
    program = Program()

    async def cancel() -> None:
        task = asyncio.create_task(program.main())
        await asyncio.sleep(2.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(cancel())
    assert {"except CancelledError", "finally", "context left", "generator closed", "main"} < set(program.effects)


def test_crash_here_never_returns() -> None:
    """A task that crashes the loop itself stops at that await; neither its rest nor its cleanup runs."""
    effects: list[str] = []

    async def die(loop: VirtualLoop) -> None:
        try:
            effects.append("before")
            await loop.crash_here()
            effects.append("after")  # type: ignore[unreachable]
        finally:
            effects.append("finally")

    with virtual_time() as loop, pytest.raises(SimulatedCrash):
        loop.run_until_complete(die(loop))
    gc.collect()
    assert effects == ["before"]


@pytest.mark.parametrize("seed", [None, *range(10)])
def test_crash_drops_what_was_ready(seed: int | None) -> None:
    """Callbacks and tasks that were ready, or made ready by the last words of the crashing task, never run."""
    ran: list[str] = []

    async def die(loop: VirtualLoop) -> None:
        await asyncio.sleep(1)
        loop.call_soon(ran.append, "ready before")
        loop.crash()
        loop.call_soon(ran.append, "ready after")
        loop.create_task(wait_for_nobody()).add_done_callback(lambda _: ran.append("new task"))

    with virtual_time(seed) as loop, pytest.raises(SimulatedCrash):
        loop.run_until_complete(die(loop))
    gc.collect()
    assert ran == []


def test_crash_wins_over_a_result_of_the_same_turn() -> None:
    """A program that ends in the very turn of the crash has crashed."""

    async def end(loop: VirtualLoop) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: loop.crash())
        return "done"

    with virtual_time() as loop, pytest.raises(SimulatedCrash):
        loop.run_until_complete(end(loop))


def test_crashed_loop_runs_nothing_more() -> None:
    """A crashed loop refuses the next program before its first line."""
    ran: list[str] = []

    async def run() -> None:
        ran.append("ran")

    with virtual_time() as loop:
        loop.crash()
        with pytest.raises(SimulatedCrash):
            loop.run_until_complete(run())
    assert ran == []


def test_crash_leaves_the_next_life_alone() -> None:
    """A new loop after a crash starts clean and sees none of the dead tasks."""
    program = Program()
    with virtual_time() as loop:
        loop.call_at(1.5, loop.crash)
        with pytest.raises(SimulatedCrash):
            loop.run_until_complete(program.main())

    async def count_tasks() -> int:
        await asyncio.sleep(1000)
        return len(asyncio.all_tasks())

    assert run_virtual(count_tasks()) == 1
    assert asyncio.all_tasks(loop) == set()
    gc.collect()
    assert program.effects == ["tick"]


CRASH_AND_EXIT = """
import asyncio
from prunella.testing import SimulatedCrash, virtual_time

async def work():
    try:
        await asyncio.sleep(100)
    finally:
        print("cleanup")
        await asyncio.sleep(1)

async def main():
    await asyncio.gather(work(), work())

with virtual_time() as loop:
    loop.call_later(1, {ending})
    try:
        loop.run_until_complete(main())
    except (SimulatedCrash, RuntimeError):
        pass
"""


@pytest.mark.slow
def test_crash_stays_silent_when_the_interpreter_exits() -> None:
    """The exit of the interpreter neither runs the cleanup nor complains about pending tasks."""
    run = run_in_new_interpreter(CRASH_AND_EXIT.format(ending="loop.crash"), "-X", "dev")
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)


@pytest.mark.slow
def test_stop_is_no_crash() -> None:
    """The twin of the exit test: a loop that is merely stopped cleans up."""
    run = run_in_new_interpreter(CRASH_AND_EXIT.format(ending="loop.stop"))
    assert run.stdout == "cleanup\ncleanup\n"


# Clock


def test_loop_clock_follows_the_loop() -> None:
    """Wall time, monotonic time and sleep move together with the loop, from the given start."""
    start = datetime(2030, 5, 1, tzinfo=UTC)

    async def tell_time() -> None:
        clock: Clock = LoopClock(start)
        await clock.sleep(90)
        assert clock.monotonic() == 90
        assert clock.now() == start + timedelta(seconds=90)

    run_virtual(tell_time())


@pytest.mark.parametrize("seconds", [0, -1])
def test_loop_clock_keeps_the_turn_without_a_wait(seconds: float) -> None:
    """Sleeping zero seconds or less does not give up the turn."""

    async def sleep() -> None:
        seen: list[str] = []
        asyncio.get_running_loop().call_soon(seen.append, "neighbour")
        await LoopClock().sleep(seconds)
        assert seen == []

    run_virtual(sleep())
