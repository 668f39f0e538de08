"""A policy at work for one resource: its parts with their state, what it remembers, and whom it tells."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prunella.core.clock import HOST
from prunella.core.errors import AttemptTimeout, BadResponse, DeadlineExceeded, GuardError
from prunella.core.events import Listeners
from prunella.guard.breaker import Admission, Breaker, LiveBreaker, NoBreaker, State
from prunella.guard.budget import RetryBudget
from prunella.guard.bulkhead import Bulkhead, LiveBulkhead
from prunella.guard.deadline import LIMITS
from prunella.guard.demands import demand, is_number, is_positive
from prunella.guard.fallback import Fallback
from prunella.guard.forks import renew_after_fork
from prunella.guard.known import KnownIssues
from prunella.guard.limiter import AdaptiveLimiter, LiveLimiter
from prunella.guard.link import LINK
from prunella.guard.retry import Retry

_log = logging.getLogger(__name__)
_REMEMBERED = 50
_OPENED = "circuit_breaker_open"
Function = Callable[..., Any]
NO_RETRY = Retry(attempts=1)


UNSET: Any = object()
"""The result of a block that has none."""


class Unwanted(GuardError):
    """Carry a result that `on_result` refused, so that it goes the way of a failure.

    `again`: the same call may bring another result.
    """

    again = True

    def __init__(self, result: object) -> None:
        self.result = result
        super().__init__("on_result refused the result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a policy was made of; `policy()` describes the arguments."""

    retry: Retry | None = None
    budget: RetryBudget | None = None
    breaker: Breaker | None = None
    limiter: AdaptiveLimiter | None = None
    bulkhead: Bulkhead | None = None
    fallback: Fallback | None = None
    deadline_s: float | None = None
    attempt_timeout_s: float | None = None
    sync_timeout: Literal["cooperative", "thread"] = "cooperative"
    validate: Callable[[Any], object] | None = None
    max_inline_wait_s: float = 10.0
    known: KnownIssues | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_s", "attempt_timeout_s"):
            value = getattr(self, name)
            demand(self, name, value is None or is_positive(value), "seconds > 0, or None for no limit")
        demand(self, "max_inline_wait_s", is_number(self.max_inline_wait_s), "seconds >= 0")
        demand(self, "sync_timeout", self.sync_timeout in ("cooperative", "thread"), "cooperative or thread")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                how = "known_issues" if kind is KnownIssues else kind.__name__
                raise TypeError(f"policy: {name} must be a {kind.__name__}, got {value!r}; write {name}=pr.{how}(…)")
        if self.validate is not None and not callable(self.validate):
            raise TypeError(f"policy: validate must be a function of the result, got {self.validate!r}")

    def ways(self) -> tuple[bool, bool]:
        """Tell whether a call that succeeds needs nothing but an admission, or also a limit in time or a place."""
        needs_more = (
            self.limiter is not None
            or self.validate is not None
            or (self.fallback is not None and self.fallback.last_good)
            or (self.retry is not None and self.retry.on_result is not None)
            or (self.breaker is not None and self.breaker.slow_s is not None)
        )
        limited = self.deadline_s is not None or self.attempt_timeout_s is not None or self.bulkhead is not None
        cooperative = self.sync_timeout == "cooperative"
        return cooperative and not needs_more and not limited, cooperative and not needs_more and limited


_KINDS: dict[str, type] = {
    "retry": Retry, "budget": RetryBudget, "breaker": Breaker, "limiter": AdaptiveLimiter, "bulkhead": Bulkhead,
    "fallback": Fallback, "known": KnownIssues,
}  # fmt: skip


class Core:
    """The live parts of a policy, for one key."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        listeners: Listeners,
        stand_in: Callable[[Function], Function] | None = None,
        *,
        service: str = "",
    ) -> None:
        self.name = name
        self.service = service or name
        self.listeners = listeners
        self.recent: deque[Mapping[str, object]] = deque(maxlen=_REMEMBERED)
        self.breaker: LiveBreaker | NoBreaker = NoBreaker()
        self.limiter: LiveLimiter | None = None
        self.bulkhead: LiveBulkhead | None = None
        self.stand_in = stand_in
        self._successes_reported = 0
        self.renew()
        renew_after_fork(self)
        self.adopt(settings)

    def renew(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.Lock()

    def adopt(self, settings: Settings) -> None:
        """Work by new settings from now on; what was learned and counted stays."""
        self.settings = settings
        self.quick, self.limited = settings.ways() if self.stand_in is None else (False, False)
        self.threads = settings.sync_timeout == "thread"
        self.retry = settings.retry or NO_RETRY
        self.deadline_s = settings.deadline_s if settings.deadline_s is not None else math.inf
        self.attempt_timeout_s = settings.attempt_timeout_s if settings.attempt_timeout_s is not None else math.inf
        self.limit_s = min(self.deadline_s, self.attempt_timeout_s)
        LIMITS.in_use = LIMITS.in_use or self.limit_s < math.inf
        self.ignored = settings.breaker.ignore if settings.breaker is not None else ()
        self.breaker = self._breaker(settings)
        self.limiter = _kept(
            self.limiter, settings.limiter, lambda one: LiveLimiter(self.name, one, self._rate_changed)
        )
        self.bulkhead = _kept(self.bulkhead, settings.bulkhead, lambda one: LiveBulkhead(self.name, one))

    def looked_at(self, result: Any, took_s: float, admission: Admission | None) -> Any:
        """Return a result that is what was promised; raise where it is not."""
        slow_s = self.settings.breaker.slow_s if self.settings.breaker is not None else None
        if slow_s is not None and took_s >= slow_s:
            self.breaker.slow(admission)
        if result is UNSET:
            return result
        if self.settings.validate is not None and self.settings.validate(result) is False:
            raise BadResponse(f"{self.name}: validate refused the result")
        if self.retry.on_result is not None and self.retry.on_result(result):
            raise Unwanted(result)
        return result

    def not_a_first(self) -> None:
        """Take back a success that no first attempt brought: the budget is a share of first attempts."""
        if self.settings.budget is not None:
            with self._lock:
                self._successes_reported += 1

    def wants(self, error: Exception) -> bool:
        """Tell whether an error is worth another attempt; a predicate that fails says no."""
        try:
            return self.retry.wants(error)
        except Exception:
            _log.exception("%s: on or not_on failed; the error is raised without another attempt", self.name)
            return False

    def step_s(self, failed: int, last_s: float) -> float | None:
        """Return the wait after a failed attempt; None where the user's own function for it fails."""
        try:
            return self.retry.wait_s(failed, last_s, HOST)
        except Exception:
            _log.exception("%s: steps failed; the error is raised without another attempt", self.name)
            return None

    def whose_time(self, error: DeadlineExceeded, ends_at: float, deadline_at: float) -> GuardError:
        """Return what a deadline below means here: it may have been this attempt's limit, which it saw as its own."""
        if ends_at < deadline_at and HOST.monotonic() >= ends_at:
            return self.out_of_time(ends_at, deadline_at)
        return error

    def out_of_time(self, ends_at: float, deadline_at: float) -> AttemptTimeout | DeadlineExceeded:
        """Return the error of an attempt that was ended at `ends_at`."""
        if ends_at < deadline_at:
            return AttemptTimeout(f"{self.name}: one attempt took longer than {self.attempt_timeout_s:g} s")
        return DeadlineExceeded(f"{self.name}: the whole call took longer than it may")

    def may_retry(self, wait_s: float) -> bool:
        """Take a place in the retry budget, where there is one, for a retry that comes after `wait_s`."""
        budget = self.settings.budget
        if budget is None:
            return True
        with self._lock:
            seen = self.breaker.successes_seen()
            fresh, self._successes_reported = seen - self._successes_reported, seen
        return budget.take(max(fresh, 0), wait_s)

    def failed_first(self) -> None:
        """Count a first attempt that failed towards the budget; those that succeeded count themselves."""
        if self.settings.budget is not None:
            with self._lock:
                self._successes_reported -= 1

    def retrying(self, attempt: int, wait_s: float, error: Exception) -> None:
        """Tell that another attempt follows."""
        self.tell("call.retrying", attempt=attempt, wait_s=wait_s, error=error)
        if self.retry.on_retry is not None:
            try:
                self.retry.on_retry(attempt, error)
            except Exception:
                _log.exception("%s: on_retry failed", self.name)

    def tell(self, name: str, **fields: object) -> None:
        """Tell listeners, with the policy's name."""
        self.listeners.emit(name, policy=self.name, **fields)

    def forget(self) -> None:
        """Forget what breaker and limiter have learned."""
        if isinstance(self.breaker, LiveBreaker):
            self.breaker.force_closed()
        self.limiter = None
        self.adopt(self.settings)

    def standing(self) -> dict[str, object]:
        """Return where the parts stand, for people to read."""
        return {
            "breaker": None if isinstance(self.breaker, NoBreaker) else self.breaker.standing(),
            "rate_per_s": self.limiter.rate_per_s if self.limiter is not None else None,
            "under_way": self.bulkhead.under_way if self.bulkhead is not None else None,
            "known": self.settings.known.standing() if self.settings.known is not None else None,
        }

    def remember(self, **story: object) -> None:
        """Keep how a call went, for `explain`."""
        self.recent.append({"at": HOST.now(), **story})

    def _breaker(self, settings: Settings) -> LiveBreaker | NoBreaker:
        if settings.breaker is None:
            return NoBreaker()
        lease_s = settings.breaker.probe_lease_s or max(settings.breaker.open_s, settings.attempt_timeout_s or 0.0)
        if isinstance(self.breaker, LiveBreaker):
            self.breaker.adopt(settings.breaker, lease_s)
            return self.breaker
        return LiveBreaker(self.name, settings.breaker, self._state_changed, lease_s)

    def _state_changed(self, before: State, after: State, reason: str) -> None:
        self.tell("breaker.changed", before=before.value, after=after.value, reason=reason)
        opened = after is State.OPEN and before is not State.OPEN
        if opened:
            self.tell("issue.noticed", issue=_OPENED, severity="HIGH", reason=reason)
        proven = after is State.CLOSED and before is State.HALF_OPEN
        held = isinstance(self.breaker, LiveBreaker) and self.breaker.held is not None
        if (opened or proven) and not held and LINK.state is not None:
            LINK.state.noticed(self.service, _OPENED, f"{self.name}: {reason}", recovered=proven)

    def _rate_changed(self, before: float, after: float, why: str) -> None:
        self.tell("limiter.changed", before=before, after=after, reason=why)


def _kept(live: Any, wanted: Any, make: Callable[[Any], Any]) -> Any:
    """Keep what is at work and give it new limits; make it where it is new, drop it where it is no longer wanted."""
    if wanted is None:
        return None
    if live is None:
        return make(wanted)
    live.limits = wanted
    return live
