"""Repair what is known of failures, in this process: what is bound to a known issue runs once, then one more try.

Who recognises failures is handed in. Must never let two calls repair the same thing at once, nor repair while it
repairs; what did not help twice in a row rests.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prunella.core.clock import HOST
from prunella.guard.bulkhead import Waiter
from prunella.guard.call import Call, Invoke, Queue, Story
from prunella.guard.deadline import AMBIENT
from prunella.guard.forks import renew_after_fork

if TYPE_CHECKING:
    from prunella.guard.core import Core

_WITHIN_S: Final = 30.0
"""How long a repair may take, and others wait for it; as long as a remedy of a plug-in may."""
_FAILURES_MAX: Final = 2
"""Repairs in a row that did not help, after which one rests."""
_mending: ContextVar[bool] = ContextVar("prunella_mending", default=False)

_log = logging.getLogger(__name__)

Remedy = Callable[[Exception], bool | Awaitable[bool]]


class Recognised(NamedTuple):
    """A known issue, by its id, and the name of the remedy that is bound to it."""

    issue: str
    remedy: str


@dataclass(slots=True)
class _Flight:
    """A repair under way, and who waits for it."""

    waiters: list[Waiter] = field(default_factory=list)
    worked: bool | None = None


@dataclass(slots=True)
class _Record:
    """What is known of one remedy at one issue."""

    tried: int = 0
    verified: int = 0
    ineffective: int = 0
    failures_in_a_row: int = 0
    rests_until: float = 0.0
    worked_at: float = -1.0
    flight: _Flight | None = None


class Repair(NamedTuple):
    """What was repaired, for a call that may now be tried again.

    Args:
        by_this: this call made the repair, so what its next attempt brings counts.
    """

    found: Recognised
    by_this: bool


class KnownIssues:
    """Known issues and what repairs them; `prunella.known_issues` makes one.

    Args:
        recognise: says of a failure of a service which issue it is, None where none that something is bound to.
        remedies: functions of the failure by name; True says that it is repaired.
        rest_s: how long a remedy rests that did not help twice in a row.
    """

    def __init__(
        self,
        recognise: Callable[[Exception, str], Recognised | None],
        remedies: Mapping[str, Remedy],
        *,
        rest_s: float,
    ) -> None:
        self._recognise = recognise
        self._remedies = remedies
        self._rest_s = rest_s
        self._records: dict[Recognised, _Record] = {}
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with a lock that nobody holds and no repair under way, as in a child process."""
        self._lock = threading.Lock()
        for record in self._records.values():
            record.flight = None

    def standing(self) -> list[dict[str, object]]:
        """Return what each remedy came to at each issue: tried, verified, ineffective, and how long it rests yet."""
        now = HOST.monotonic()
        with self._lock:
            return [
                {
                    **found._asdict(),
                    "tried": one.tried,
                    "verified": one.verified,
                    "ineffective": one.ineffective,
                    "rests_for_s": max(one.rests_until - now, 0.0),
                }
                for found, one in self._records.items()
            ]

    def recognise(self, error: Exception, service: str) -> Recognised | None:
        """Return which issue a failure is; trouble with that is no trouble of the call's."""
        if _mending.get():
            return None
        try:
            return self._recognise(error, service)
        except Exception:
            _log.exception("known issues: a failure of %s could not be looked at", service)
            return None

    def repaired(self, core: Core, call: Call, error: Exception) -> Story:
        """Have what is known of a failure repaired; return the `Repair`, None where nothing was."""
        found = self.recognise(error, core.service)
        if found is None:
            return None
        begun = self._begin(found, call)
        if begun is None:
            return None
        flight, waiter = begun
        if flight is None:
            return Repair(found, by_this=False)
        if waiter is not None:
            yield Queue(waiter, min(_WITHIN_S, call.deadline_at - HOST.monotonic()))
            return Repair(found, by_this=False) if waiter.granted and flight.worked else None
        try:
            flight.worked = yield from self._applied(core, call, found, error)
        finally:
            self._landed(found, flight)
        return Repair(found, by_this=True) if flight.worked else None

    def verdict(self, repair: Repair, *, good: bool) -> None:
        """Count what the attempt after a repair says about the remedy; only the one of the call that made it counts."""
        if not repair.by_this:
            return
        with self._lock:
            record = self._records[repair.found]
            if good:
                record.verified, record.failures_in_a_row = record.verified + 1, 0
            else:
                self._did_not_help(record)

    def _begin(self, found: Recognised, call: Call) -> tuple[_Flight | None, Waiter | None] | None:
        """Return a repair to make, or one to wait for, or neither where it was made since; None where it rests."""
        with self._lock:
            record = self._records.setdefault(found, _Record())
            now = HOST.monotonic()
            if record.rests_until > now:
                rests_s = record.rests_until - now
                call.why += f"; {found.remedy} rests for {rests_s:.3g} s, it did not help against {found.issue}"
                return None
            if record.flight is not None:
                waiter = Waiter()
                record.flight.waiters.append(waiter)
                return record.flight, waiter
            if record.worked_at > call.begun_at:
                return None, None
            record.tried += 1
            record.flight = _Flight()
            return record.flight, None

    def _applied(self, core: Core, call: Call, found: Recognised, error: Exception) -> Story:
        said = yield from ask(self._remedies[found.remedy], error, call.deadline_at)
        if isinstance(said, Exception):
            _log.error("%s: %s failed at %s", core.name, found.remedy, found.issue, exc_info=said)
            core.tell("remedy.failed", issue=found.issue, remedy=found.remedy, error=said)
            return False
        core.tell("remedy.tried", issue=found.issue, remedy=found.remedy, error=error, worked=said)
        return said

    def _landed(self, found: Recognised, flight: _Flight) -> None:
        """End a repair, however it ended, and let those go on who waited for it."""
        with self._lock:
            record = self._records[found]
            record.flight = None
            if flight.worked:
                record.worked_at = HOST.monotonic()
            elif flight.worked is False:  # a call that was cancelled in it says nothing
                self._did_not_help(record)
            for waiter in flight.waiters:
                waiter.granted = True
        for waiter in flight.waiters:
            with contextlib.suppress(RuntimeError):  # its event loop is closed
                waiter.wake()

    def _did_not_help(self, record: _Record) -> None:
        record.ineffective += 1
        record.failures_in_a_row += 1
        record.worked_at = -1.0
        if record.failures_in_a_row >= _FAILURES_MAX:
            record.rests_until = HOST.monotonic() + self._rest_s


def ask(remedy: Remedy, error: Exception, deadline_at: float) -> Story:
    """Let a remedy look at a failure; return whether it repaired it, or what it ran into."""
    ends_at = min(deadline_at, HOST.monotonic() + _WITHIN_S)
    before, mending = AMBIENT.get(), _mending.get()
    AMBIENT.set(min(ends_at, before))
    _mending.set(True)
    try:
        said: Any = yield Invoke(remedy, (error,), ends_at=ends_at, between=True)
    except Exception as broken:  # its time being over is one
        return broken
    finally:
        AMBIENT.set(before)
        _mending.set(mending)
    if inspect.isawaitable(said):
        if inspect.iscoroutine(said):
            said.close()
        return TypeError("an asynchronous remedy can't be awaited by a synchronous call; give a plain function")
    return said is True
