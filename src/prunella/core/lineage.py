"""Name where an exception comes from: its class and the classes it is made of, what it was raised from, and where.

Names only, for people and for tables: no object of the exception is kept alive, and no line number is read.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Final

from prunella.core import shapes

BASES_MAX: Final = 8
CAUSES_MAX: Final = 8
FRAMES_MAX: Final = 3
_NO_PACKAGE: Final = frozenset({"builtins", "__main__"})
_SAYS_NOTHING: Final = frozenset({object, BaseException, Exception})
_NOT_OURS: Final = (os.path.dirname(os.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep)
"""The standard library, and this package: neither is the application."""
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def name_of(kind: type) -> str:
    """Return a class by its name and the package that it belongs to: `psycopg.UniqueViolation`, `TimeoutError`.

    The modules between are left out: libraries move their classes about, and people do not ask for them.
    """
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package in _NO_PACKAGE else f"{package.lstrip('_')}.{kind.__name__}"


def bases_of(error: BaseException) -> tuple[str, ...]:
    """Return the classes that the class of `error` is made of, nearest first: they speak where nobody knows it."""
    telling = (kind for kind in type(error).__mro__[1:] if kind not in _SAYS_NOTHING)
    return tuple(name_of(kind) for kind in islice(telling, BASES_MAX))


def causes_of(error: BaseException) -> tuple[str, ...]:
    """Return the classes of the errors that stand behind `error`, nearest first; of a group, those of its members.

    A class of the application is followed by the one of a library that it is made of: that is the one people know.
    """
    found = (name for one in islice(shapes.causes(error), 1, None) for name in _names_of(type(one)))
    return tuple(islice(found, CAUSES_MAX))


def _names_of(kind: type) -> Iterator[str]:
    yield name_of(kind)
    if _is_ours(kind):
        known = (base for base in kind.__mro__[1:] if base not in _SAYS_NOTHING and not _is_ours(base))
        yield from map(name_of, islice(known, 1))


def _is_ours(kind: type) -> bool:
    filename = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return isinstance(filename, str) and _is_of_application(filename)


def frames_of(error: BaseException) -> tuple[str, ...]:
    """Return the functions of the application in which `error` was raised, innermost first; at most three."""
    found: deque[str] = deque(maxlen=FRAMES_MAX)
    step: TracebackType | None = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if _is_of_application(code.co_filename):
            found.appendleft(code.co_qualname.replace(".<locals>", ""))
        step = step.tb_next
    return tuple(found)


def _is_of_application(filename: str) -> bool:
    return not filename.startswith(("<", *_NOT_OURS)) and not any(part in filename for part in _INSTALLED)
