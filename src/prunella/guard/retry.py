"""Whether to try again, and after how long: settings that check themselves, and pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prunella.core import shapes
from prunella.core.clock import Chance
from prunella.core.errors import AttemptTimeout, BadResponse, GuardError
from prunella.guard import backoff
from prunella.guard.demands import demand, is_count, is_function, is_number

Condition = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
Jitter = Literal["equal", "full", "decorrelated", "none"]
Steps = Literal["exponential", "linear", "constant"] | Sequence[float] | Callable[[int], float]

_JITTERS = ("equal", "full", "decorrelated", "none")
_STEPS = ("exponential", "linear", "constant")
_WORTH_IT = frozenset({408, 425, 429})
OWN_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and how patiently to try again.

    Args:
        attempts: calls in all, >= 1; 3 as in documents B and C.
        base_s: seconds before the second call, >= 0.
        cap_s: longest wait in seconds, >= 0; a wait that the service asks for is never cut.
        factor: what each wait is multiplied with, >= 1; for exponential steps.
        jitter: `equal` waits half to all of the step (document B), `full` nothing to all of it, `decorrelated` up to
            three times the last wait (and no less than `base_s`), `none` exactly the step.
        steps: how waits grow, or the waits themselves, or a function from the number of the failed call (from 1).
        on: exception types, or a predicate, worth another call; None means all but client errors (4xx other than
            408, 425, 429) and bugs of the calling program (TypeError, KeyError ...).
        not_on: exception types or a predicate that end it at once, whatever `on` says.
        on_result: a predicate on the result; True makes it a failure that is worth another call.
        on_retry: told (number of the failed attempt, its error) before each wait; what it raises is logged.
    """

    attempts: int = 3
    base_s: float = 1.0
    cap_s: float = 10.0
    factor: float = 2.0
    jitter: Jitter = "equal"
    steps: Steps = "exponential"
    on: Condition | None = None
    not_on: Condition | None = None
    on_result: Callable[[Any], bool] | None = None
    on_retry: Callable[[int, BaseException], object] | None = None

    def __post_init__(self) -> None:
        demand(self, "attempts", is_count(self.attempts), "an int >= 1 (1 makes no second call)")
        demand(self, "base_s", is_number(self.base_s), "seconds >= 0")
        demand(self, "cap_s", is_number(self.cap_s), "seconds >= 0")
        demand(self, "factor", is_number(self.factor, 1.0), "a number >= 1")
        demand(self, "jitter", self.jitter in _JITTERS, f"one of {', '.join(_JITTERS)}")
        demand(
            self, "steps", _are_steps(self.steps), f"one of {', '.join(_STEPS)}, a sequence of seconds, or a function"
        )
        for name in ("on", "not_on"):
            allowed = "an exception type, a tuple of them, a predicate (not an async one), or None"
            demand(self, name, _is_condition(getattr(self, name)), allowed)
        for name in ("on_retry", "on_result"):
            value = getattr(self, name)
            demand(self, name, value is None or is_function(value), "a function (not an async one), or None")

    def wants(self, error: BaseException) -> bool:
        """Tell whether `error` is worth another call."""
        if not isinstance(error, Exception) or _ends_at_once(error):
            return False
        if self.not_on is not None and _meets(self.not_on, error):
            return False
        return worth_another(error) if self.on is None else _meets(self.on, error)

    def wait_s(self, failed: int, last_s: float, rng: Chance) -> float:
        """Return the seconds to wait after call number `failed` (from 1), the wait before having been `last_s`."""
        if self.jitter == "decorrelated":
            least_s = min(self.base_s, self.cap_s)
            most_s = min(max(last_s, self.base_s) * 3, self.cap_s)
            return least_s + rng.random() * (most_s - least_s)
        step = min(self._step_s(failed), self.cap_s)
        return step if self.jitter == "none" else backoff.spread_s(step, 0.0 if self.jitter == "full" else 0.5, rng)

    def _step_s(self, failed: int) -> float:
        if callable(self.steps):
            return max(0.0, self.steps(failed))  # in this order NaN becomes 0
        if not isinstance(self.steps, str):
            return self.steps[min(failed, len(self.steps)) - 1]
        if self.steps == "exponential":
            return backoff.exponential_s(self.base_s, self.factor, failed, self.cap_s)
        return self.base_s * failed if self.steps == "linear" else self.base_s


def worth_another(error: BaseException) -> bool:
    """Tell whether a failure may pass by itself: not a client error, and no bug of the calling program."""
    status = shapes.status_of(error)
    if status is not None and 400 <= status < 500:
        return status in _WORTH_IT
    return not isinstance(error, OWN_BUGS)


def blames_the_service(error: BaseException) -> bool:
    """Tell whether a failure speaks against the service: it did not answer, or not as it should."""
    status = shapes.status_of(error)
    if status is None or status >= 500 or status == 408:
        return True
    return isinstance(error, BadResponse) and status < 400  # it said that all is well, and it is not


def _ends_at_once(error: Exception) -> bool:
    """Refusals of our own are no failures of the service: repeating them brings nothing."""
    return isinstance(error, GuardError) and not isinstance(error, AttemptTimeout | BadResponse)


def _meets(condition: Condition, error: BaseException) -> bool:
    if isinstance(condition, type | tuple):
        return isinstance(error, condition)
    return bool(condition(error))


def _is_condition(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(one, type) and issubclass(one, BaseException) for one in value)
    if isinstance(value, type):
        return issubclass(value, BaseException)
    return value is None or is_function(value)


def _are_steps(value: object) -> bool:
    if isinstance(value, str):
        return value in _STEPS
    return is_function(value) or (isinstance(value, Sequence) and len(value) > 0 and all(map(is_number, value)))


RECOVERY = Retry(attempts=3, base_s=0.5, cap_s=10.0)
"""Document B: 0.5 and 1 s, half of it left to chance."""

INTERACTIVE = Retry(attempts=3, base_s=1.0, cap_s=8.0, jitter="none")
"""Document E: 1, 2, 4 s, at most 8."""

DISPATCH = Retry(attempts=3, base_s=1.0, cap_s=10.0, jitter="none")
"""Document C: 1, 2, 4 s, at most 10."""

DNS = Retry(attempts=5, steps=(2.0, 4.0, 8.0, 16.0), cap_s=16.0, jitter="none", on=shapes.is_name_resolution)
"""Document A: a name that can't be resolved for the moment (`EAI_AGAIN`) is asked for again after 2, 4, 8 and 16 s."""
