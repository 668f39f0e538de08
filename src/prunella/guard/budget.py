"""Retries as a share of the calls that go well: in an outage the load stays near what it was.

A retry takes a place when it is decided and holds it while it waits, so that waiting retries count too.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from dataclasses import dataclass, field

from prunella.core.clock import HOST
from prunella.guard.demands import demand, is_number
from prunella.guard.forks import renew_after_fork

_WINDOW_S = 10.0
_PAGE_S = _WINDOW_S / 100


class _Ledger:
    """First attempts and retries of the last ten seconds."""

    def __init__(self) -> None:
        self._firsts: deque[list[float]] = deque()  # [instant, how many]: one page per tenth of a second
        self._firsts_sum = 0
        self._places: list[float] = []  # a heap of the instants at which retries give their places back
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a fresh lock, in a child process."""
        self._lock = threading.Lock()

    def take(self, firsts: int, wait_s: float, ratio: float, floor: float) -> bool:
        with self._lock:
            now = HOST.monotonic()
            self._forget(now)
            self._count(firsts, now)
            if len(self._places) + 1 > floor + ratio * self._firsts_sum:
                return False
            heapq.heappush(self._places, now + wait_s + _WINDOW_S)
            return True

    def _forget(self, now: float) -> None:
        while self._firsts and self._firsts[0][0] <= now - _WINDOW_S:
            self._firsts_sum -= int(self._firsts.popleft()[1])
        while self._places and self._places[0] <= now:
            heapq.heappop(self._places)

    def _count(self, firsts: int, now: float) -> None:
        if not self._firsts or now - self._firsts[-1][0] >= _PAGE_S:
            self._firsts.append([now, 0])
        self._firsts[-1][1] += firsts
        self._firsts_sum += firsts


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """At most `floor_per_s` + `ratio` x first attempts retries over any ten seconds; one may serve many policies.

    Args:
        ratio: retries per first attempt, >= 0; 0.2 as in Finagle.
        floor_per_s: retries per second that are always allowed, >= 0, so that quiet services are retried too.
    """

    ratio: float = 0.2
    floor_per_s: float = 10.0
    _ledger: _Ledger = field(default_factory=_Ledger, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("ratio", "floor_per_s"):
            demand(self, name, is_number(getattr(self, name)), "a number >= 0")

    def take(self, first_attempts: int, wait_s: float = 0.0) -> bool:
        """Take a place for one retry; False when the budget is used up.

        Args:
            first_attempts: first attempts since this caller last asked. They may lie anywhere between then and now:
                they count from now on, which is right where failures come often, and that is when budgets matter.
            wait_s: seconds until the retry is made; it holds its place until ten seconds after that.
        """
        return self._ledger.take(first_attempts, wait_s, self.ratio, self.floor_per_s * _WINDOW_S)
