"""Marks on what guards gave up on, so that guards further out do not try again what was tried below.

An error is marked itself; so is an answer that is a failure, as its `raise_for_status` makes a new error each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

_MARK = "_prunella_gave_up"
_CHAIN_MAX = 32
_SHARED = ("response", "request_info")
"""What an error has in common with the answer it was made of: httpx and requests keep that, aiohttp what was asked."""


class GiveUps:
    """Number the moments at which guards give up: an error marked after an attempt began was tried by a guard below.

    A number and not a flag, because programs raise one error object again and again.
    """

    __slots__ = ("_numbers", "latest")

    def __init__(self) -> None:
        self._numbers = count(1)
        self.latest = 0

    def next(self) -> int:
        """Return the number of the moment that is now."""
        self.latest = next(self._numbers)
        return self.latest


GIVE_UPS = GiveUps()


def gave_up_below(error: BaseException, seen: int) -> bool:
    """Tell whether a guard nearer to the failure has tried already: then trying again would multiply."""
    return any(_number_on(bearer) > seen for one in _chain(error) for bearer in _bearers(one))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error with all that it was raised from and all that it groups."""
    queue, seen = deque([error]), 0
    while queue and seen < _CHAIN_MAX:
        one, seen = queue.popleft(), seen + 1
        yield one
        queue += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        if isinstance(one, BaseExceptionGroup):
            queue += one.exceptions


def _bearers(thing: object) -> Iterator[object]:
    """Yield what may bear the mark of an error or an answer: itself, and what the two have in common."""
    yield thing
    for name in _SHARED:
        shared = _read(thing, name)
        if shared is not None:
            yield shared


def _number_on(bearer: object) -> int:
    number = _read(bearer, _MARK)
    return number if type(number) is int else 0


def _read(thing: object, name: str) -> object:
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def mark(thing: object) -> None:
    """Note on an error, or on an answer that is one, that a guard has tried all it may."""
    number = GIVE_UPS.next()
    for bearer in _bearers(thing):
        with suppress(Exception):  # what can't be written on is told without a mark
            object.__setattr__(bearer, _MARK, number)


def leave_note(error: BaseException, beginning: str, words: str) -> None:
    """Add a note to an error; one that is raised again and again keeps one note of each beginning."""
    with suppress(Exception):
        notes = [note for note in getattr(error, "__notes__", ()) if not str(note).startswith(beginning)]
        object.__setattr__(error, "__notes__", [*notes, beginning + words])
