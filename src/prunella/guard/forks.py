"""What begins anew in a child process: locks that another thread held at the fork, places of threads that are gone."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """A part that holds a lock."""

    def renew(self) -> None:
        """Begin anew in a child process: a lock that another thread held at the fork would be held for ever."""
        ...


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(part: Renewable) -> None:
    """Have `part.renew()` called in every child process, as long as the part lives."""
    _living.add(part)


def _renew() -> None:
    for part in _living:
        part.renew()


os.register_at_fork(after_in_child=_renew)
