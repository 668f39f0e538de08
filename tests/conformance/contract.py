"""What a library has to offer to be put through the cases: one function that guards as a `Wish` says.

An adapter configures its library as the library's own documentation would, and says by `features` what there is; a
case that needs more is not asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

Face = Literal["sync", "asyncio", "threads"]
FACES: tuple[Face, ...] = ("sync", "asyncio", "threads")
Function = Callable[..., Any]


class Down(ConnectionError):
    """The service does not answer."""


class Refused(Exception):
    """The service answers with a status; `response` looks as HTTP clients have it.

    Args:
        retry_after: seconds that the service asks to wait, as an SDK's exception would carry them.
    """

    def __init__(self, status: int, headers: dict[str, str] | None = None, retry_after: float | None = None) -> None:
        self.status_code = status
        self.response = Response(status, headers or {})
        self.retry_after = retry_after
        super().__init__(f"the service answered {status}")


@dataclass(frozen=True)
class Response:
    """An answer, as HTTP clients have it."""

    status_code: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a case wants of a guard; what it does not name is left to the library.

    Args:
        attempts: calls in all.
        wait_s: seconds between attempts, without jitter.
        doubling_up_to_s: let each wait be twice the one before, up to this.
        on, unless: exceptions worth another attempt, or all but these.
        refuse_result: a predicate; True makes a result a failure.
        retry_after: wait as long as the service asks.
        budget_ratio: retries per first attempt over all callers, and one per second besides.
        failures, open_s: failures in a row that open the breaker, and for how long.
        failure_rate, min_calls, window_s: the same by rate.
        attempt_s, total_s: limits for one attempt, and for everything.
        places, place_wait_s: calls at once, and the wait for a place.
        adaptive_per_s: calls per second at the start, then as the service's 429 say.
        limit_per_s: calls per second.
        listener: told of every decision.
    """

    attempts: int = 1
    wait_s: float = 0.0
    doubling_up_to_s: float | None = None
    on: type[Exception] = Down
    unless: type[Exception] | None = None
    refuse_result: Callable[[Any], bool] | None = None
    retry_after: bool = False
    budget_ratio: float | None = None
    failures: int | None = None
    open_s: float = 0.3
    failure_rate: float | None = None
    min_calls: int = 1
    window_s: float = 60.0
    attempt_s: float | None = None
    total_s: float | None = None
    places: int | None = None
    place_wait_s: float = 0.0
    adaptive_per_s: float | None = None
    limit_per_s: float | None = None
    listener: Callable[[Any], object] | None = None


class Clock(Protocol):
    """The time that a library lives in while it is put through a case: real for peers, virtual for ours.

    `open_s` is how long breakers stay open in it: as short as real time asks for, or so long that no slow machine
    sees one end by itself.
    """

    open_s: float

    def now(self) -> float:
        """Return seconds that only grow."""
        ...

    def wall(self) -> datetime:
        """Return the wall time as the library knows it."""
        ...

    def pass_s(self, seconds: float) -> None:
        """Let time pass for synchronous callers."""
        ...

    def run(self, work: Any) -> None:
        """Run a coroutine to its end on an event loop."""
        ...

    def napping(self, naps: list[float]) -> AbstractContextManager[None]:
        """Write down every wait of the library in this context, instead of waiting."""
        ...


class Desk(Protocol):
    """Where calls are handed over to; the first argument of what it guards is the idempotency key."""

    def guard(self, function: Function) -> Function:
        """Guard a function and hand over what can't be settled."""
        ...

    def waiting(self) -> int:
        """Return how many calls are written down and not yet made."""
        ...

    def comes_due(self) -> None:
        """Make everything that waits."""
        ...

    def breaks(self) -> None:
        """Take away what calls are written to."""
        ...


class Adapter(Protocol):
    """One library."""

    @property
    def name(self) -> str:
        """Its name, of which its top module is named too."""
        ...

    @property
    def features(self) -> frozenset[str]:
        """What there is, of `FEATURES`."""
        ...

    @property
    def faces(self) -> Sequence[Face]:
        """Which kinds of callers it is made for."""
        ...

    @property
    def refusals(self) -> tuple[type[BaseException], ...]:
        """What it raises where it refuses a call."""
        ...

    def guard(self, wish: Wish, face: Face) -> Callable[[Function], Function]:
        """Return a decorator; everything it decorates shares its state."""
        ...

    def blocks(self, wish: Wish, face: Face) -> Callable[[], Any]:
        """Return what makes a loop of attempts: `for attempt in made(): with attempt: …`, or `async for`."""
        ...

    def guard_once(self, wish: Wish, face: Face, *, keyed: bool) -> Callable[[Function], Function]:
        """Return a decorator for what may do harm when repeated; the first argument may be an idempotency key."""
        ...

    def durable(self, wish: Wish, face: Face) -> AbstractContextManager[Desk]:
        """Lend a desk for what is handed over."""
        ...

    def clock(self, face: Face) -> AbstractContextManager[Clock]:
        """Lend the time that the library shall live in."""
        ...


FEATURES = {
    "retry": "tries again",
    "breaker": "refuses calls to what is down",
    "rate": "opens by failure rate within a window of time",
    "growing": "stays open longer after each failed probe",
    "timeout": "limits one attempt",
    "thread_timeout": "limits a synchronous attempt",
    "total": "limits everything together: no attempt begins later",
    "deadline": "ends also what is under way then",
    "budget": "limits retries over all callers",
    "bulkhead": "limits calls at once",
    "limiter": "limits calls per second",
    "adaptive": "learns the rate from 429",
    "retry_after": "waits as long as an exception says",
    "headers": "reads Retry-After from a response",
    "results": "lets a bad result count for the breaker",
    "listener": "tells of its decisions",
    "blocks": "repeats a block: `for attempt in …`",
    "layers": "knows of retries in other layers",
    "effects": "knows that a repetition may do harm",
    "statuses": "knows which statuses are worth another attempt",
    "due": "says when to come again, where that is too far to wait",
    "notes": "leaves a note of what was tried",
    "durable": "hands over what it can't settle",
}
"""What cases may need."""
