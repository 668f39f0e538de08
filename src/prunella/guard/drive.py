"""Carry out the steps of a story: one driver for threads, one for event loops. Neither knows a rule."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from asyncio import get_running_loop
from collections.abc import Awaitable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from prunella.core.clock import HOST
from prunella.guard.alarm import Alarm
from prunella.guard.call import GAVE_UP, Aside, Call, Carried, Invoke, Queue, Step, Story, TimeIsOver
from prunella.guard.forks import renew_after_fork

_THREADS_MAX = 64


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
                step = steps.throw(Carried(error) if isinstance(error, StopIteration) else error)
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
    error, call.error, call.before = call.error, None, None  # no cycle: an error's traceback holds this call
    if result is not GAVE_UP:
        return result
    assert error is not None
    try:
        raise error
    finally:
        del error


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
    if isinstance(step, Aside):
        return step.function()
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
    if isinstance(step, Aside):
        return await asyncio.to_thread(step.function)
    await HOST.asleep(step)
    return None


async def within(ends_at: float, work: Awaitable[Any]) -> Any:
    """Await `work` until the monotonic instant `ends_at`; then cancel it and raise `TimeIsOver`.

    A cancellation from outside stays one, also in the same moment, as with `asyncio.timeout`, which costs twice.
    """
    alarm = Alarm()
    try:
        alarm.set(ends_at - HOST.monotonic())
        return await work
    except asyncio.CancelledError:
        if alarm.rang():
            raise TimeIsOver from None
        raise
    finally:
        alarm.off()


async def _queue(step: Queue) -> None:
    loop = get_running_loop()
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
    places, until = _places.free, step.ends_at
    if not places.acquire(timeout=max(until - HOST.monotonic(), 0.0)):
        raise TimeIsOver
    work: Future[Any] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            work.set_result(context.run(step.function, *step.args, **step.kwargs))
        except BaseException as error:
            work.set_exception(error)
        finally:
            places.release()

    try:
        worker = threading.Thread(target=run, name="prunella-attempt", daemon=True)  # a hung one holds up no exit
        worker.start()
    except BaseException:
        places.release()
        raise
    if not wait({work}, max(until - HOST.monotonic(), 0.0)).done:
        raise TimeIsOver(work)
    return work.result()


class Places:
    """Places for worker threads, so that calls that hang can't take all there is; in a child process all are free."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Free every place."""
        self.free = threading.BoundedSemaphore(_THREADS_MAX)


_places = Places()
