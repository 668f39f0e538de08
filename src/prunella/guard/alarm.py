"""End what takes too long in an event loop: every alarm of a loop waits on one timer.

A timer for each call would be most of what the call costs, and nearly every alarm is put away before it rings. So it
is only noted, the timer is set for the earliest, and what was put away is swept out now and then. When nothing is
left to wait for, the timer runs out and is not set again. Must never read a clock but the loop's own.
"""

from __future__ import annotations

import asyncio
import math
import threading
import weakref
from asyncio import current_task, get_running_loop
from collections.abc import Callable
from contextvars import Context
from heapq import heapify, heappop, heappush
from itertools import count

_ROOM = 64
_numbers = count()


class Alarm:
    """Cancel the task at work when its time is up."""

    __slots__ = ("_cancelling", "_ringing", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._ringing = False

    def set(self, seconds: float) -> None:
        """Ring after so many seconds; infinitely many are never over."""
        if seconds == math.inf:
            return
        loop = get_running_loop()
        self._task = task = current_task(loop)
        assert task is not None
        self._cancelling = task.cancelling()
        watch = _here.watch()
        if watch is None or watch.loop is not loop:
            watch = Watch(loop)
            _here.watch = weakref.ref(watch)
        watch.wait_for(self, loop.time() + seconds)

    @property
    def is_set(self) -> bool:
        """Tell whether it is still to ring, and not put away."""
        return self._task is not None

    def ring(self) -> None:
        """Cancel the task, unless the alarm was put away."""
        if self._task is not None:
            self._ringing = True
            self._task.cancel()

    def rang(self) -> bool:
        """Tell whether a cancellation is the alarm's alone, and take it back if so."""
        if not self._ringing or self._task is None:
            return False
        self._ringing = False
        return self._task.uncancel() <= self._cancelling

    def off(self) -> None:
        """Put the alarm away; one that rang when the work had ended already leaves no trace."""
        task, self._task = self._task, None
        if self._ringing and task is not None:
            task.uncancel()


class Watch:
    """The alarms of one loop; it lives as long as its timer is set, so that a loop that is gone keeps nothing."""

    __slots__ = ("__weakref__", "_alarms", "_room", "_timer", "_wakes_at", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._room = _ROOM
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf

    def wait_for(self, alarm: Alarm, rings_at: float) -> None:
        """Let an alarm ring at this instant of the loop's time."""
        if rings_at < self._wakes_at:
            self._wake_at(rings_at)
        if len(self._alarms) >= self._room:
            self._sweep()
        heappush(self._alarms, (rings_at, next(_numbers), alarm))

    def _wake_at(self, instant: float) -> None:
        before = self._timer
        # In a context of its own: it outlives the call that sets it, and must not keep what hangs on that one's.
        self._timer = self.loop.call_at(instant, self._wake, instant, context=Context())
        self._wakes_at = instant
        if before is not None:
            before.cancel()

    def _wake(self, due: float) -> None:
        self._timer, self._wakes_at = None, math.inf
        try:
            while self._alarms and self._alarms[0][0] <= due:
                heappop(self._alarms)[2].ring()
        finally:
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        while self._alarms and not self._alarms[0][2].is_set:
            heappop(self._alarms)
        if self._alarms and self._alarms[0][0] < self._wakes_at:
            self._wake_at(self._alarms[0][0])

    def _sweep(self) -> None:
        self._alarms = [noted for noted in self._alarms if noted[2].is_set]
        heapify(self._alarms)
        self._room = _ROOM + 2 * len(self._alarms)  # so many more before the next sweep that it costs next to nothing


class _Here(threading.local):
    """The watch of the loop that runs in this thread."""

    def __init__(self) -> None:
        self.watch: Callable[[], Watch | None] = lambda: None


_here = _Here()
