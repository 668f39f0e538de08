"""Call no faster than the service likes, and find out how fast that is.

Calls are spaced: each takes the next free slot and waits for it. A slot whose waiter gives up is handed back where
nobody has come after it. The learned rate is kept by whoever connects a store.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prunella.core.clock import HOST
from prunella.core.errors import RateLimited
from prunella.guard.demands import demand, is_number, is_positive

_WINDOW, _JUDGED_FROM = 100, 20  # a rate that is far too high must not need a hundred failures to be seen
_TOO_LOW, _GOOD = 95, 99  # successes of 100 (document A)
_SLOWER, _FASTER = 0.8, 1.1
_FLOOR, _CEILING = 0.1, 2.0  # of the initial rate
_AIMD_CUT, _AIMD_STEP, _CUT_EVERY_S = 0.7, 0.02, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimiter:
    """How fast to call at first, and how the rate follows the answers.

    Args:
        rate_per_s: calls per second at the start, > 0.
        profile: `window` is document A's: below 95 % successes of the last 100 the rate falls to 0.8 of itself (not
            below a tenth of the start), above 99 % it grows by a tenth (not above twice the start). `aimd` answers
            each 429 at once: the rate falls to 0.7 of itself, and grows by 2 % of the start with each success.
        wait_s: seconds a call may wait for its turn, >= 0; beyond it `RateLimited` is raised.
    """

    rate_per_s: float
    profile: Literal["window", "aimd"] = "window"
    wait_s: float = 30.0

    def __post_init__(self) -> None:
        demand(self, "rate_per_s", is_positive(self.rate_per_s), "a number > 0")
        demand(self, "profile", self.profile in ("window", "aimd"), "window or aimd")
        demand(self, "wait_s", is_number(self.wait_s), "seconds >= 0")


class LiveLimiter:
    """A limiter at work, for one resource.

    Args:
        changed: told of each new rate: (before, after, why).
    """

    def __init__(self, name: str, limits: AdaptiveLimiter, changed: Callable[[float, float, str], None]) -> None:
        self.name = name
        self.limits = limits
        self.rate_per_s = float(limits.rate_per_s)
        self._changed = changed
        self._lock = threading.Lock()
        self._next_slot = -math.inf
        self._silent_until = -math.inf
        self._last_cut = -math.inf
        self._results: deque[bool] = deque(maxlen=_WINDOW)

    def reserve(self, patience_s: float) -> tuple[float, float]:
        """Take the next free slot; return its instant and the seconds until then; `RateLimited` beyond the patience."""
        with self._lock:
            now = HOST.monotonic()
            slot = max(now, self._next_slot, self._silent_until)
            wait_s = slot - now
            if wait_s > min(patience_s, self.limits.wait_s):
                raise RateLimited(
                    f"{self.name}: {self.rate_per_s:.3g} calls per second are allowed and the next turn is in "
                    f"{wait_s:.1f} s",
                    retry_after_s=wait_s,
                )
            self._next_slot = slot + 1.0 / self.rate_per_s
            return slot, wait_s

    def hand_back(self, slot: float) -> None:
        """Give an unused slot back where it was the last one taken."""
        with self._lock:
            if self._next_slot == slot + 1.0 / self.rate_per_s:
                self._next_slot = slot

    def succeeded(self) -> None:
        """Learn from an answer."""
        self._learn(throttled=False, ok=True)

    def failed(self, *, throttled: bool, asked_s: float | None) -> None:
        """Learn from a failure; one that asks for silence keeps every call of this resource waiting."""
        if asked_s is not None:
            with self._lock:
                self._silent_until = max(self._silent_until, HOST.monotonic() + asked_s)
        self._learn(throttled=throttled, ok=False)

    def _learn(self, *, throttled: bool, ok: bool) -> None:
        with self._lock:
            before = self.rate_per_s
            why = self._by_window(ok) if self.limits.profile == "window" else self._by_answer(throttled, ok)
            after = self.rate_per_s
        if why and after != before:
            self._changed(before, after, why)

    def _by_window(self, ok: bool) -> str:
        self._results.append(ok)
        good, calls = sum(self._results), len(self._results)
        if calls < _JUDGED_FROM or _TOO_LOW * calls <= good * 100 <= _GOOD * calls:
            return ""
        self._results.clear()  # what follows is judged at the new rate
        factor = _SLOWER if good * 100 < _TOO_LOW * calls else _FASTER
        return self._move(self.rate_per_s * factor, f"{good} of the last {calls} calls succeeded")

    def _by_answer(self, throttled: bool, ok: bool) -> str:
        now = HOST.monotonic()
        if throttled and now - self._last_cut >= _CUT_EVERY_S:  # one cut answers all that were under way together
            self._last_cut = now
            return self._move(self.rate_per_s * _AIMD_CUT, "the service throttled")
        if ok and now - self._last_cut >= _CUT_EVERY_S:
            grown = self.rate_per_s + self.limits.rate_per_s * _AIMD_STEP / max(self.rate_per_s, 1.0)
            return self._move(grown, "")
        return ""

    def _move(self, rate: float, why: str) -> str:
        start = self.limits.rate_per_s
        self.rate_per_s = min(max(rate, start * _FLOOR), start * _CEILING)
        return why
