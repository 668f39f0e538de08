"""Retries as a share of the calls that go well: in an outage the load stays near what it was.

A retry takes a place when it is decided, before its wait, so that waiting retries count too.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from prunella.core.clock import HOST
from prunella.guard.demands import demand, is_number

_WINDOW_S = 10.0


class _Ledger:
    """First attempts and retries of the last ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[list[float]] = deque()  # [instant, first attempts, retries], one per tenth of a second

    def take(self, first_attempts: int, ratio: float, floor: float) -> bool:
        now = HOST.monotonic()
        with self._lock:
            while self._entries and self._entries[0][0] <= now - _WINDOW_S:
                self._entries.popleft()
            if not self._entries or now - self._entries[-1][0] >= _WINDOW_S / 100:
                self._entries.append([now, 0, 0])
            entry = self._entries[-1]
            entry[1] += first_attempts
            firsts, retries = (sum(one[place] for one in self._entries) for place in (1, 2))
            if retries + 1 > floor + ratio * firsts:
                return False
            entry[2] += 1
            return True


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """At most `floor_per_s` + `ratio` x first attempts retries over any ten seconds; one may serve many policies.

    Args:
        ratio: retries per first attempt, >= 0; 0.2 as in Finagle.
        floor_per_s: retries per second that are always allowed, >= 0, so that quiet services are retried too.
    """

    ratio: float = 0.2
    floor_per_s: float = 10.0
    _ledger: _Ledger = field(default_factory=_Ledger, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("ratio", "floor_per_s"):
            demand(self, name, is_number(getattr(self, name)), "a number >= 0")

    def take(self, first_attempts: int) -> bool:
        """Take a place for one retry; False when the budget is used up.

        Args:
            first_attempts: first attempts since this caller last asked. They may lie anywhere between then and now:
                they count from now on, which is right where failures come often, and that is when budgets matter.
        """
        return self._ledger.take(first_attempts, self.ratio, self.floor_per_s * _WINDOW_S)
