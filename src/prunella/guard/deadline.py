"""The time that is left: set by the outermost policy, seen by everything below it, never longer than it was above."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prunella.core.clock import HOST

AMBIENT: ContextVar[float] = ContextVar("prunella_deadline", default=math.inf)
"""The monotonic instant by which the call at work has to end."""


class Limits:
    """Whether any policy of this process has a limit in time: until then nobody has to look for one."""

    in_use = False


LIMITS = Limits()


def remaining_s() -> float:
    """Return the seconds that the call at work has left; infinite outside of any deadline, never below 0.

    Hand it to a client as its timeout: a synchronous call can't be interrupted from outside.
    """
    ends_at = AMBIENT.get()
    return math.inf if ends_at == math.inf else max(ends_at - HOST.monotonic(), 0.0)


@contextmanager
def no_deadline() -> Iterator[None]:
    """Leave the deadline of the call at work behind: for what is started there and lives on, such as a worker task."""
    before = AMBIENT.get()
    AMBIENT.set(math.inf)
    try:
        yield
    finally:
        AMBIENT.set(before)
