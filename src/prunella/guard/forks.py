"""What happens at a fork: what must not be copied half-way comes to rest before, and parts begin anew in the child.

Locks that another thread held at the fork are replaced there, and places of threads that are gone given back.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol, TypeVar

T = TypeVar("T")


class Renewable(Protocol):
    """A part that holds a lock."""

    def renew(self) -> None:
        """Begin anew in a child process: a lock that another thread held at the fork would be held for ever."""
        ...


class Stillable(Renewable, Protocol):
    """A part of which no half-done work may be copied into a child process."""

    def hold(self) -> bool:
        """Let nothing new begin once what is under way has ended; False where that takes too long."""
        ...

    def let_go(self) -> None:
        """Go on, in the parent process."""
        ...


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()
_still: weakref.WeakSet[Stillable] = weakref.WeakSet()
_held: list[Stillable] = []


def living(parts: Iterable[T]) -> list[T]:
    """Return the parts of this process, however many are made meanwhile."""
    while True:
        with suppress(RuntimeError):  # the set changed while it was read
            return list(parts)


def renew_after_fork(part: Renewable) -> None:
    """Have `part.renew()` called in every child process, as long as the part lives."""
    _living.add(part)


def still_at_fork(part: Stillable) -> None:
    """Have `part` held while the process forks, and renewed in the child before all that may use it there."""
    _still.add(part)


def _hold() -> None:
    _held[:] = [part for part in living(_still) if part.hold()]


def _let_go() -> None:
    while _held:
        _held.pop().let_go()


def _renew() -> None:
    _held.clear()
    for part in (*_still, *_living):
        part.renew()


os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_renew)
