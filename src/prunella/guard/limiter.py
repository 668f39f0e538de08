"""Call no faster than the service likes, and find out how fast that is.

Calls are spaced: each takes the next free turn and waits for it. A turn whose waiter gives up goes to who comes next;
when the service throttles, everybody who waits takes a new turn. Where a store is connected, the
learned rate outlives the process.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from prunella.core.clock import HOST
from prunella.core.errors import RateLimited
from prunella.guard.demands import demand, is_number, is_positive
from prunella.guard.forks import renew_after_fork
from prunella.guard.link import LINK

_WINDOW, _JUDGED_FROM = 100, 20  # a rate that is far too high must not need a hundred failures to be seen
_TOO_LOW, _GOOD = 95, 99  # successes of 100 (document A)
_SLOWER, _FASTER = 0.8, 1.1
_FLOOR, _CEILING = 0.1, 2.0  # of the initial rate
_WIDE_ENOUGH = 0.999  # of the gap between turns: sums of floats are not exact
_AIMD_CUT, _AIMD_STEP, _CUT_EVERY_S = 0.7, 0.02, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimiter:
    """How fast to call at first, and how the rate follows the answers.

    Args:
        rate_per_s: calls per second at the start, > 0.
        profile: `window` is document A's: below 95 % successes of the last 100 the rate falls to 0.8 of itself (not
            below a tenth of the start), above 99 % it grows by a tenth (not above twice the start). `aimd` answers
            a 429 at once: the rate falls to 0.7 of itself, at most once a second, and grows by 2 % of the start
            per second of successes. Both stay between a tenth of the start and twice the start.
        wait_s: seconds a call may wait for its turn, >= 0; beyond it `RateLimited` is raised.
    """

    rate_per_s: float
    profile: Literal["window", "aimd"] = "window"
    wait_s: float = 30.0

    def __post_init__(self) -> None:
        demand(self, "rate_per_s", is_positive(self.rate_per_s), "a number > 0")
        demand(self, "profile", self.profile in ("window", "aimd"), "window or aimd")
        demand(self, "wait_s", is_number(self.wait_s), "seconds >= 0")


class Turn:
    """When a call may be made; once `void` it has to be taken anew."""

    __slots__ = ("at", "void")

    def __init__(self, at: float) -> None:
        self.at = at
        self.void = False


class LiveLimiter:
    """A limiter at work, for one resource.

    Args:
        changed: told of each new rate: (before, after, why).
    """

    def __init__(self, name: str, limits: AdaptiveLimiter, changed: Callable[[float, float, str], None]) -> None:
        self.name = name
        self.rate_per_s = float(limits.rate_per_s)
        self._limits = limits
        self._changed = changed
        self._turns: list[Turn] = []  # in order: the last that has come, and all that are waited for
        self._hole_at = math.inf  # before this instant no turn was handed back
        self._silent_until = -math.inf
        self._last_cut = -math.inf
        self._results: deque[bool] = deque()
        self._good = 0
        self.renew()
        renew_after_fork(self)
        LINK.limiters.add(self)
        learned = LINK.state.rate_of(name) if LINK.state is not None else None
        if learned is not None:
            self.resume(learned)

    def renew(self) -> None:
        """Take a fresh lock, in a child process."""
        self._lock = threading.Lock()

    def resume(self, rate_per_s: float) -> None:
        """Go on at a rate that was learned before, as far as the limits allow it."""
        with self._lock:
            self._move(rate_per_s, "")

    @property
    def limits(self) -> AdaptiveLimiter:
        """Where the rate began and what bounds it; new limits move a learned rate into their bounds."""
        return self._limits

    @limits.setter
    def limits(self, limits: AdaptiveLimiter) -> None:
        with self._lock:
            self._limits = limits
            self._move(self.rate_per_s, "")

    def reserve(self, patience_s: float) -> tuple[Turn, float]:
        """Take the next free turn; return it and the seconds until then; `RateLimited` beyond the patience."""
        with self._lock:
            now = HOST.monotonic()
            turns = self._turns
            while len(turns) > 1 and turns[1].at <= now:
                del turns[0]
            at, place = self._next_free(max(self._silent_until, now))
            wait_s = at - now
            if wait_s > patience_s or wait_s > self._limits.wait_s:
                raise RateLimited(
                    f"{self.name}: {self.rate_per_s:.3g} calls per second are allowed and the next turn is in "
                    f"{wait_s:.1f} s",
                    retry_after_s=wait_s,
                )
            turn = Turn(at)
            turns.insert(place, turn)
            return turn, wait_s

    def _next_free(self, earliest: float) -> tuple[float, int]:
        """Return the next instant that is far enough from every turn, and its place among them."""
        gap_s = 1.0 / self.rate_per_s
        turns, place = self._turns, len(self._turns)
        if self._hole_at < math.inf:
            place = bisect_left(turns, self._hole_at, key=attrgetter("at"))
        at = earliest
        if place and turns[place - 1].at + gap_s > at:
            at = turns[place - 1].at + gap_s
        while place < len(turns) and turns[place].at < at + gap_s * _WIDE_ENOUGH:
            at = max(at, turns[place].at + gap_s)
            place += 1
        if place == len(turns):
            self._hole_at = math.inf
        return at, place

    def hand_back(self, turn: Turn) -> None:
        """Give an unused turn back: the next to come may have it."""
        with self._lock:
            if turn in self._turns:
                self._turns.remove(turn)
                self._hole_at = min(self._hole_at, turn.at)

    def _void_turns(self) -> None:
        """Have everybody who waits take a new turn."""
        now = HOST.monotonic()
        for turn in self._turns:
            turn.void = turn.at > now
        self._turns = [turn for turn in self._turns if not turn.void]
        self._hole_at = math.inf

    def succeeded(self) -> None:
        """Learn from an answer."""
        self._learn(throttled=False, ok=True)

    def failed(self, *, throttled: bool, asked_s: float | None) -> None:
        """Learn from a failure; one that asks for silence keeps every call of this resource waiting."""
        if asked_s is not None:
            with self._lock:
                self._silent_until = max(self._silent_until, HOST.monotonic() + asked_s)
                self._void_turns()
        self._learn(throttled=throttled, ok=False)

    def _learn(self, *, throttled: bool, ok: bool) -> None:
        with self._lock:
            before = self.rate_per_s
            why = self._by_window(ok) if self._limits.profile == "window" else self._by_answer(throttled, ok)
            after = self.rate_per_s
            if after < before:
                self._void_turns()
        if why and after != before:
            self._changed(before, after, why)

    def _by_window(self, ok: bool) -> str:
        self._results.append(ok)
        self._good += ok
        if len(self._results) > _WINDOW:
            self._good -= self._results.popleft()
        good, calls = self._good, len(self._results)
        if calls < _JUDGED_FROM or _TOO_LOW * calls <= good * 100 <= _GOOD * calls:
            return ""
        self._results.clear()  # what follows is judged at the new rate
        self._good = 0
        factor = _SLOWER if good * 100 < _TOO_LOW * calls else _FASTER
        return self._move(self.rate_per_s * factor, f"{good} of the last {calls} calls succeeded")

    def _by_answer(self, throttled: bool, ok: bool) -> str:
        now = HOST.monotonic()
        if throttled and now - self._last_cut >= _CUT_EVERY_S:  # one cut answers all that were under way together
            self._last_cut = now
            return self._move(self.rate_per_s * _AIMD_CUT, "the service throttled")
        if ok and now - self._last_cut >= _CUT_EVERY_S:
            grown = self.rate_per_s + self._limits.rate_per_s * _AIMD_STEP / max(self.rate_per_s, 1.0)
            return self._move(grown, "")
        return ""

    def _move(self, rate: float, why: str) -> str:
        start = self._limits.rate_per_s
        self.rate_per_s = min(max(rate, start * _FLOOR), start * _CEILING)
        return why
