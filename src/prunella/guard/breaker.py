"""Stop calling what is known to be down; let a few probes find out when it is back.

A call takes an admission and gives it back with its outcome. While closed the admission is a page of the book, and a
success on it costs one atomic increment; locks are for failures and for the time when the breaker is not closed.
Admissions of an earlier period move nothing.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Protocol

from prunella.core.clock import HOST
from prunella.core.errors import CircuitOpen
from prunella.guard.book import Book, Page
from prunella.guard.demands import demand, is_count, is_positive, is_share
from prunella.guard.forks import renew_after_fork
from prunella.guard.link import LINK

_log = logging.getLogger(__name__)
_OPEN_MAX_S = 600.0
_SPREAD = 0.1  # open times differ by up to a tenth, so that many processes do not probe in step
_DOUBLINGS_MAX = 20


class State(StrEnum):
    """What the breaker does with calls: pass, refuse, try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When to stop calling, and when to try again.

    Without `failure_rate` and `slow_rate` it counts failures in a row (documents C and E); with one of them it looks
    at shares within a window.

    Args:
        failures: failures in a row that open it, >= 1; ignored when a rate is given.
        successes: successful probes that close it, >= 1.
        failure_rate: share of failed calls within the window that opens it, > 0 to 1.
        min_calls: calls within the window below which no rate is judged, >= 1.
        window_s: seconds looked back on, > 0.
        slow_s: seconds from which a call counts as slow; with `slow_rate`.
        slow_rate: share of slow calls within the window that opens it, > 0 to 1.
        open_s: seconds until the first probe, > 0; doubles with each failed probe, up to ten minutes, and each time
            is longer by up to a tenth, by chance.
        probes: calls let through at once while half open, >= 1.
        probe_lease_s: seconds after which a probe that has not come back frees its place; None means `open_s`, or
            the attempt's timeout where that is longer.
        ignore: exception types that say nothing about the service.
        shared: share state with other processes through the database of `pr.connect`.
    """

    failures: int = 5
    successes: int = 1
    failure_rate: float | None = None
    min_calls: int = 10
    window_s: float = 60.0
    slow_s: float | None = None
    slow_rate: float | None = None
    open_s: float = 30.0
    probes: int = 1
    probe_lease_s: float | None = None
    ignore: tuple[type[BaseException], ...] = ()
    shared: bool = False

    def __post_init__(self) -> None:
        for name in ("failures", "successes", "min_calls", "probes"):
            demand(self, name, is_count(getattr(self, name)), "an int >= 1")
        for name in ("window_s", "open_s"):
            demand(self, name, is_positive(getattr(self, name)), "seconds > 0")
        for name in ("failure_rate", "slow_rate"):
            value = getattr(self, name)
            demand(self, name, value is None or is_share(value), "a share > 0 and <= 1 (0.5 for half), or None")
        for name in ("slow_s", "probe_lease_s"):
            value = getattr(self, name)
            demand(self, name, value is None or is_positive(value), "seconds > 0, or None")
        demand(self, "slow_rate", (self.slow_s is None) == (self.slow_rate is None), "given together with slow_s")

    @property
    def by_rate(self) -> bool:
        """Tell whether shares are judged, and not failures in a row."""
        return self.failure_rate is not None or self.slow_rate is not None


class Admission(Protocol):
    """What a call holds while it is under way."""

    ends_at: float

    def ok(self) -> object:
        """Count a success."""
        ...


class Probe:
    """A call that finds out whether the service is back."""

    __slots__ = ("_breaker", "ends_at")

    def __init__(self, breaker: LiveBreaker, ends_at: float) -> None:
        self._breaker = breaker
        self.ends_at = ends_at

    def ok(self) -> None:
        """Count a success; enough of them close the breaker."""
        self._breaker.probe_succeeded(self)


_SHUT = Page(-math.inf)
"""The admission of a breaker that is not closed: it has always ended, so every call has to ask."""


class LiveBreaker:
    """A breaker at work, for one resource.

    `admission` is what the next call may take without asking, as long as its `ends_at` has not come.

    Args:
        changed: told of every change of state, outside the lock: (from, to, reason).
    """

    def __init__(
        self, name: str, limits: Breaker, changed: Callable[[State, State, str], None], lease_s: float
    ) -> None:
        self.name = name
        self.limits = limits
        self.state = State.CLOSED
        self.reason = ""
        self.reopen_at = math.inf
        self.held: str | None = None
        self._changed = changed
        self._lease_s = lease_s
        self._openings = 0
        self._seen_before = 0
        self._book = Book(math.inf)
        self.admission = _SHUT
        self._news: list[tuple[State, State, str]] = []
        self.renew()
        self._begin_period()
        renew_after_fork(self)
        LINK.breakers.add(self)

    def renew(self) -> None:
        """Take a fresh lock, in a child process."""
        self._lock = threading.Lock()

    # The way of a call ------------------------------------------------------------------------------------------------

    def asks(self) -> bool:
        """Tell whether `enter` would ask other processes now, which waits for a database or an engine."""
        return (
            self.state is State.OPEN
            and self.limits.shared
            and LINK.state is not None
            and self.held is None
            and HOST.monotonic() >= self.reopen_at
        )

    def enter(self) -> Admission:
        """Return an admission, or raise `CircuitOpen`."""
        admission = self.admission
        now = HOST.monotonic()
        if now < admission.ends_at:
            return admission
        with self._locked():
            if self.state is State.CLOSED:
                return self._turn(now)
            if self.held is not None or now < self.reopen_at:
                raise self._refusal(now)
            if self.state is State.HALF_OPEN or not self.limits.shared or LINK.state is None:
                return self._probe(now)
            asking_until = self.reopen_at = now + min(1.0, self.limits.open_s)  # meanwhile nobody else asks
        return self._asked(self._may_probe(), asking_until)  # not under the lock: a database takes its time

    def _asked(self, granted: bool, asking_until: float) -> Admission:
        """Return a probe where the others grant it and nothing else happened meanwhile."""
        with self._locked():
            now = HOST.monotonic()
            if self.state is State.CLOSED:
                return self._turn(now)
            if not granted or self.reopen_at != asking_until:
                raise self._refusal(now)
            return self._probe(now)

    def failed(self, admission: Admission) -> None:
        """Count a failure; an admission of an earlier period counts nowhere."""
        with self._locked():
            now = HOST.monotonic()
            if isinstance(admission, Probe):
                if admission in self._probing:
                    self._open(f"the probe after {self._openings} openings failed", now)
                return
            if self._counts(admission):
                self._book.turn(now).failed += 1
                self._judge(now)

    def slow(self, admission: Admission | None = None) -> None:
        """Count a call that answered too slowly, before its outcome is counted.

        Args:
            admission: of an earlier period it counts nowhere; None belongs to the present one.
        """
        with self._locked():
            now = HOST.monotonic()
            if self.limits.slow_rate is not None and self._counts(admission or self.admission):
                self._book.turn(now).slow += 1
                self._judge(now, under_way=1)

    def dropped(self, admission: Admission) -> None:
        """Take an admission back that says nothing: cancelled, or refused before anything was sent."""
        if isinstance(admission, Probe):
            with self._locked():
                self._probing.discard(admission)

    def probe_succeeded(self, probe: Probe) -> None:
        """Count a successful probe; one whose place was given to another counts nowhere."""
        with self._locked():
            if probe not in self._probing:
                return
            self._probing.discard(probe)
            self._proven += 1
            if self._proven >= self.limits.successes:
                self._openings = 0
                self._move(State.CLOSED, f"{self._proven} probes succeeded")
                self._begin_period()

    # A person's hand --------------------------------------------------------------------------------------------------

    def hold_open(self, reason: str) -> None:
        """Refuse every call until `release`, whatever happens."""
        with self._locked():
            self.held = reason
            self._shut(reason)

    def release(self) -> None:
        """End a hold; the next call is a probe."""
        with self._locked():
            if self.held is not None:
                self.held = None
                self.reopen_at = HOST.monotonic()

    def force_open(self, reason: str) -> None:
        """Open now, for the configured time."""
        with self._locked():
            self._openings = 0
            self._open(reason, HOST.monotonic())

    def force_closed(self) -> None:
        """Close now and forget every count."""
        with self._locked():
            self.held = None
            self._openings = 0
            self._move(State.CLOSED, "closed by a person")
            self._begin_period()

    @property
    def open_for_s(self) -> float:
        """Return the seconds until a call may pass: 0 while closed, infinite while held."""
        if self.state is State.CLOSED:
            return 0.0
        return math.inf if self.held is not None else max(self.reopen_at - HOST.monotonic(), 0.0)

    def follow(self, state: State, open_s: float, reason: str) -> None:
        """Do what another process's breaker of this name has done; a hold of our own stays."""
        with self._locked():
            if self.held is not None:
                return
            if state is State.OPEN and self.state is not State.HALF_OPEN:
                self.reopen_at = HOST.monotonic() + open_s
                self._shut(reason)
            elif state is State.CLOSED and self.state is not State.CLOSED:
                self._openings = 0
                self._move(State.CLOSED, reason)
                self._begin_period()

    def standing(self) -> dict[str, object]:
        """Return state, reason and counts, for people to read."""
        with self._lock:
            ok, failed, slow = self._book.totals(HOST.monotonic())
        return {
            "state": self.state.value,
            "reason": self.held or self.reason,
            "open_for_s": self.open_for_s,
            "successes": ok,
            "failures": failed,
            "slow": slow,
        }

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Change under the lock, tell after it: a slow listener must not hold up calls."""
        with self._lock:
            yield
            news, self._news = self._news, []
        for before, after, reason in news:
            if self.limits.shared and LINK.state is not None:
                LINK.state.changed(self, after, reason)
            self._changed(before, after, reason)

    def adopt(self, limits: Breaker, lease_s: float) -> None:
        """Judge by new limits from now on; the state stays, a count of another kind starts anew."""
        with self._locked():
            recount = (limits.by_rate, limits.window_s) != (self.limits.by_rate, self.limits.window_s)
            self.limits, self._lease_s = limits, lease_s
            if recount and self.state is State.CLOSED:
                self._begin_period()

    def successes_seen(self) -> int:
        """Return how many successes were counted since the breaker was made."""
        with self._lock:
            return self._seen_before + self._book.successes_ever()

    # Inside the lock --------------------------------------------------------------------------------------------------

    def _turn(self, now: float) -> Admission:
        self.admission = self._book.turn(now)
        return self.admission

    def _begin_period(self) -> None:
        self._seen_before += self._book.successes_ever()
        self._book = Book(self.limits.window_s if self.limits.by_rate else math.inf)
        self._streak = self._streak_ok = 0
        self._proven = 0
        self._probing: set[Probe] = set()
        self.admission = self._book.turn(HOST.monotonic())

    def _counts(self, admission: Admission) -> bool:
        return isinstance(admission, Page) and admission.book is self._book and self.state is State.CLOSED

    def _judge(self, now: float, under_way: int = 0) -> None:
        ok, failed, slow = self._book.totals(now)
        limits = self.limits
        if not limits.by_rate:
            self._streak = self._streak + 1 if ok == self._streak_ok else 1
            self._streak_ok = ok
            if self._streak >= limits.failures:
                self._open(f"{self._streak} failures in a row", now)
            return
        calls = ok + failed + under_way
        if calls < limits.min_calls:
            return
        for share, rate, what in ((failed, limits.failure_rate, "failed"), (slow, limits.slow_rate, "were slow")):
            if rate is not None and share >= Fraction(str(rate)) * calls:
                self._open(f"{share} of {calls} calls within {limits.window_s:g} s {what}", now)
                return

    def _probe(self, now: float) -> Probe:
        if self.state is State.OPEN:
            self._move(State.HALF_OPEN, "the open time is over")
            self._proven = 0
        self._probing = {probe for probe in self._probing if now < probe.ends_at}
        if len(self._probing) >= self.limits.probes:
            raise self._refusal(now)
        probe = Probe(self, now + self._lease_s)
        self._probing.add(probe)
        return probe

    def _may_probe(self) -> bool:
        """Ask the other processes, where there are any; a store that does not answer keeps no probe back."""
        try:
            return LINK.state is None or LINK.state.may_probe(self.name, self._lease_s)
        except Exception:
            _log.exception("%s: the shared state could not be asked for a probe", self.name)
            return True

    def _open(self, reason: str, now: float) -> None:
        doubled = self.limits.open_s * 2 ** min(self._openings, _DOUBLINGS_MAX)
        open_s = min(doubled, max(self.limits.open_s, _OPEN_MAX_S)) * (1.0 + HOST.random() * _SPREAD)
        self._openings += 1
        self.reopen_at = now + open_s
        self._shut(reason)

    def _shut(self, reason: str) -> None:
        self._probing = set()
        self.admission = _SHUT
        self._move(State.OPEN, reason)

    def _move(self, state: State, reason: str) -> None:
        before, self.state, self.reason = self.state, state, reason
        if before is not state:
            self._news.append((before, state, reason))

    def _refusal(self, now: float) -> CircuitOpen:
        if self.held is not None:
            return CircuitOpen(f"{self.name} is held open: {self.held}", retry_after_s=None)
        wait_s = max(self.reopen_at - now, 0.0)
        if self.state is State.HALF_OPEN:
            wait_s = min((probe.ends_at - now for probe in self._probing), default=0.0)
            return CircuitOpen(
                f"{self.name} is half open and {len(self._probing)} probes are out", retry_after_s=wait_s
            )
        return CircuitOpen(f"{self.name} is open for another {wait_s:.1f} s: {self.reason}", retry_after_s=wait_s)


class NoBreaker:
    """Stand where a policy has no breaker: every call may pass, and only successes are counted."""

    open_for_s = 0.0

    def __init__(self) -> None:
        self.admission = Page(math.inf)
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a fresh lock, in a child process."""
        self._lock = threading.Lock()

    def asks(self) -> bool:
        """Ask nobody."""
        return False

    def enter(self) -> Page:
        """Return the admission that never ends."""
        return self.admission

    def failed(self, admission: Admission) -> None:
        """Count nothing."""

    def dropped(self, admission: Admission) -> None:
        """Count nothing."""

    def slow(self, admission: Admission | None = None) -> None:
        """Count nothing."""

    def successes_seen(self) -> int:
        """Return how many successes were counted."""
        with self._lock:
            return self.admission.successes()
