"""So many at once and no more: a slow service must not take every thread and connection there is."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from prunella.core.errors import LoadShed
from prunella.guard.demands import demand, is_count, is_number
from prunella.guard.forks import renew_after_fork


@dataclass(frozen=True, slots=True)
class Bulkhead:
    """How many calls may be under way at once.

    Args:
        limit: calls at once, >= 1.
        wait_s: seconds a call may wait for a place, >= 0; 0 refuses at once. Places go out first come, first served.
    """

    limit: int
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        demand(self, "limit", is_count(self.limit), "an int >= 1")
        demand(self, "wait_s", is_number(self.wait_s), "seconds >= 0")


class Waiter:
    """One call in the queue; `wake` is set by whoever waits, and called when its place is there."""

    __slots__ = ("granted", "wake")

    def __init__(self) -> None:
        self.granted = False
        self.wake: Callable[[], object] = bool


class LiveBulkhead:
    """A bulkhead at work, for threads and event loops alike: no primitive here belongs to a loop."""

    def __init__(self, name: str, limits: Bulkhead) -> None:
        self.name = name
        self._limits = limits
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with no place taken, as in a child process, where the threads that held them are gone."""
        self._lock = threading.Lock()
        self._under_way = 0
        self._queue: deque[Waiter] = deque()

    @property
    def limits(self) -> Bulkhead:
        """How many at once; a new limit holds at once for those who wait, and for the others as they leave."""
        return self._limits

    @limits.setter
    def limits(self, limits: Bulkhead) -> None:
        with self._lock:
            self._limits = limits
            granted = self._grant()
        _wake(granted)

    @property
    def under_way(self) -> int:
        """Return how many places are taken."""
        return self._under_way

    def enter_at_once(self) -> bool:
        """Take a place; False where none is free."""
        with self._lock:
            return self._take()

    def enter(self) -> Waiter | None:
        """Take a place, or a number in the queue; `LoadShed` where nobody may wait."""
        with self._lock:
            if self._take():
                return None
            if self._limits.wait_s <= 0:
                raise self._full()
            waiter = Waiter()
            self._queue.append(waiter)
            return waiter

    def seat(self, waiter: Waiter) -> None:
        """Confirm the place of a waiter whose wait has ended; `LoadShed` where it got none."""
        with self._lock:
            if waiter.granted:
                return
            self._queue.remove(waiter)
            raise self._full()

    def abandon(self, waiter: Waiter) -> None:
        """Give up waiting; a place that came in the same moment goes to the next."""
        with self._lock:
            if not waiter.granted:
                self._queue.remove(waiter)
                return
        self.leave()

    def leave(self) -> None:
        """Give a place back; the next in the queue takes it."""
        with self._lock:
            self._under_way = max(self._under_way - 1, 0)  # a child process began with none, even in mid-call
            if not self._queue:
                return
            granted = self._grant()
        _wake(granted)

    def _take(self) -> bool:
        free = self._under_way < self._limits.limit  # then nobody waits: each free place is granted at once
        self._under_way += free
        return free

    def _grant(self) -> list[Waiter]:
        granted = []
        while self._queue and self._under_way < self._limits.limit:
            waiter = self._queue.popleft()
            waiter.granted = True
            self._under_way += 1
            granted.append(waiter)
        return granted

    def _full(self) -> LoadShed:
        waited = f", none came free within {self._limits.wait_s:g} s" if self._limits.wait_s else ""
        return LoadShed(f"{self.name}: all {self._limits.limit} places are taken{waited}")


def _wake(granted: list[Waiter]) -> None:
    for waiter in granted:
        with contextlib.suppress(RuntimeError):  # its event loop is closed: it gives its place back when it is freed
            waiter.wake()
