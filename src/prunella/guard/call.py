"""One logical call on its way, and the steps by which its story tells the drivers what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from prunella.core import shapes
from prunella.core.clock import HOST
from prunella.core.errors import HandedOver
from prunella.guard.breaker import Admission
from prunella.guard.bulkhead import Waiter
from prunella.guard.marks import GIVE_UPS

if TYPE_CHECKING:
    from concurrent.futures import Future

GAVE_UP = object()
"""What a story returns when `call.error` has to be raised: a generator can't raise every error itself."""


class TimeIsOver(Exception):
    """What a driver throws when the instant of an `Invoke` has come; the story turns it into an error for people.

    Args:
        work: what still goes on in a thread that was left behind.
    """

    def __init__(self, work: Future[Any] | None = None) -> None:
        self.work = work
        super().__init__()


class Carried(Exception):
    """Carry a StopIteration through a story: a generator can't raise one."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(str(error))


class Invoke(NamedTuple):
    """Call a function; an asynchronous driver ends it at the instant `ends_at`.

    Args:
        between: it is no attempt but something between two, so it is called where the attempt is a block, too.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    ends_at: float = math.inf
    between: bool = False


class Queue(NamedTuple):
    """Wait for `waiter`'s place, at most so long."""

    waiter: Waiter
    wait_s: float


class Aside(NamedTuple):
    """Do something of our own that waits for a disk or a network: an event loop must not wait with it."""

    function: Callable[[], Any]


Step = float | Invoke | Queue | Aside
Story = Generator[Step, Any, Any]
HandOver = Callable[["Call", Exception, float], HandedOver]


class Call:
    """One logical call on its way.

    Args:
        function: what is guarded, and who marks its errors.
        once: it may have an effect that must not happen twice.
        idempotency_key: with one, a repetition is harmless.
        hand_over: writes the call down to be made after so many seconds, and returns what the caller is told.
        block: it is a block of code: nothing can stand in for it, and it keeps its limit in time itself.
        opaque: its result is no result yet (a stream that was opened): nobody looks at it, keeps or replaces it.
    """

    __slots__ = (
        "admission",
        "args",
        "attempt",
        "before",
        "begun_at",
        "block",
        "deadline_at",
        "error",
        "function",
        "hand_over",
        "idempotency_key",
        "kwargs",
        "left_behind",
        "once",
        "opaque",
        "seen",
        "waited_s",
        "why",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        once: bool = False,
        idempotency_key: str | None = None,
        hand_over: HandOver | None = None,
        block: bool = False,
        opaque: bool = False,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs if kwargs is not None else {}
        self.once = once
        self.idempotency_key = idempotency_key
        self.hand_over = hand_over
        self.block = block
        self.opaque = opaque
        self.seen = GIVE_UPS.latest
        self.before: Exception | None = None
        self.attempt = 1
        self.admission: Admission | None = None
        self.begun_at = HOST.monotonic()
        self.deadline_at = math.inf
        self.waited_s = 0.0
        self.left_behind: Future[Any] | None = None
        self.error: BaseException | None = None
        self.why = ""

    def final(self, error: Exception) -> str:
        """Return why no other attempt may follow a failure; "" where one may."""
        if self.once and self.idempotency_key is None and not shapes.nothing_was_sent(error):
            return "it may have had its effect, and there is no idempotency key"
        return ""

    def passes(self, error: Exception) -> bool:
        """Tell whether an exception is no failure: it reaches the caller as it is, and counts for nobody."""
        return False

    @property
    def replaceable(self) -> bool:
        """Tell whether anything else can stand in for the result."""
        return not (self.block or self.opaque)
