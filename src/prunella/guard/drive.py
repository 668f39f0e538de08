"""Carry out the steps of a story: one driver for threads, one for event loops. Neither knows a rule."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any

from prunella.core.clock import HOST
from prunella.core.errors import AttemptTimeout
from prunella.guard.flow import GAVE_UP, Call, Invoke, Queue, Step, Story

_THREADS_MAX = 64
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def drive(steps: Story, call: Call, *, threads: bool = False) -> Any:
    """Carry a story out in this thread; return its result or raise its error.

    Args:
        threads: make each attempt in a worker thread, so that it can be left behind when its time is up.
    """
    try:
        step = steps.send(None)
        while True:
            try:
                outcome = perform(step, threads=threads)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result = end.value
    return _ending(result, call)


async def adrive(steps: Story, call: Call) -> Any:
    """Carry a story out in this task; return its result or raise its error."""
    try:
        step = steps.send(None)
        while True:
            try:
                outcome = await aperform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result = end.value
    return _ending(result, call)


def _ending(result: Any, call: Call) -> Any:
    if result is not GAVE_UP:
        return result
    assert call.error is not None
    error, call.error = call.error, None  # no cycle: the error's traceback holds this frame
    raise error


def perform(step: Step, *, threads: bool = False) -> Any:
    """Carry one step out in this thread."""
    if isinstance(step, Invoke):
        if threads and step.ends_at < math.inf:
            return _in_thread(step)
        return step.function(*step.args, **step.kwargs)
    if isinstance(step, Queue):
        woken = threading.Event()
        step.waiter.wake = woken.set
        if not step.waiter.granted:
            woken.wait(max(step.wait_s, 0.0))
        return None
    HOST.sleep(step)
    return None


async def aperform(step: Step) -> Any:
    """Carry one step out in this task."""
    if isinstance(step, Invoke):
        outcome = step.function(*step.args, **step.kwargs)
        if not isinstance(outcome, Awaitable):
            return outcome
        return await (outcome if step.ends_at == math.inf else within(step.ends_at, outcome))
    if isinstance(step, Queue):
        await _queue(step)
        return None
    await HOST.asleep(step)
    return None


async def within(ends_at: float, work: Awaitable[Any]) -> Any:
    """Await `work` until the monotonic instant `ends_at`; then cancel it and raise `AttemptTimeout`.

    A cancellation from outside stays one, also in the same moment, as with `asyncio.timeout`, which costs twice.
    """
    alarm = Alarm(ends_at - HOST.monotonic())
    try:
        return await work
    except asyncio.CancelledError:
        if alarm.rang():
            raise AttemptTimeout("the attempt's time is over") from None
        raise
    finally:
        alarm.timer.cancel()


class Alarm:
    """Cancel the task at work after so many seconds."""

    __slots__ = ("_cancelling", "_ringing", "_task", "timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._ringing = False
        self.timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def rang(self) -> bool:
        """Tell whether a cancellation is the alarm's alone, and take it back if so."""
        return self._ringing and self._task.uncancel() <= self._cancelling

    def _ring(self) -> None:
        self._ringing = True
        self._task.cancel()


async def _queue(step: Queue) -> None:
    loop = asyncio.get_running_loop()
    place: asyncio.Future[None] = loop.create_future()
    step.waiter.wake = partial(loop.call_soon_threadsafe, _settle, place)
    if step.waiter.granted:
        return
    timer = loop.call_later(max(step.wait_s, 0.0), _settle, place)
    try:
        await place
    finally:
        timer.cancel()


def _settle(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)


def _in_thread(step: Invoke) -> Any:
    """Call in a worker thread that keeps this one's context, and leave it behind when its time is up."""
    context = contextvars.copy_context()
    work = _threads().submit(context.run, partial(step.function, *step.args, **step.kwargs))
    try:
        return work.result(max(step.ends_at - HOST.monotonic(), 0.0))
    except FutureTimeout:
        if work.done():
            raise  # the function's own TimeoutError
        work.cancel()
        raise AttemptTimeout("the attempt's time is over") from None


def _threads() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 - one pool per process, made when the first policy asks for threads
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="prunella")
        return _pool
