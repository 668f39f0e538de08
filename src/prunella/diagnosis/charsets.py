"""Sets of characters as bits, to ask whether two parts of an expression can meet on one character.

ASCII characters have a bit each, all others share four (word, digit, space, rest). A set is never drawn too small:
in doubt two sets meet.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from prunella.diagnosis import grammar
from prunella.diagnosis.grammar import Nodes

_ASCII: Final = (1 << 128) - 1
_WORD, _DIGIT, _SPACE, _REST = (1 << place for place in range(128, 132))
_BEYOND: Final = _WORD | _DIGIT | _SPACE | _REST
ALL: Final = _ASCII | _BEYOND
NEWLINE: Final = 1 << ord("\n")
_RANGE_MAX: Final = 512
_FAR_PARTNERS: Final = frozenset("iIkKsS")
"""ASCII letters that have a partner outside ASCII when case does not count: dotless i, Kelvin sign, long s."""
_NEAR_PARTNERS: Final = sum(1 << ord(letter) for letter in sorted(_FAR_PARTNERS))


def _within(test: str) -> int:
    return sum(1 << code for code in range(128) if re.match(test, chr(code)))


_CATEGORY: Final = {
    "DIGIT": (_within(r"\d"), _DIGIT),
    "SPACE": (_within(r"\s"), _SPACE),
    "WORD": (_within(r"\w"), _WORD | _DIGIT),
}


@lru_cache(maxsize=4096)
def of_char(code: int, flags: int) -> int:
    """Return every character that the literal `code` stands for."""
    char = chr(code)
    if code > 127:
        own = _DIGIT if char.isdecimal() else _WORD if char.isalnum() else _SPACE if char.isspace() else _REST
        return own | _WORD | _REST | _NEAR_PARTNERS if flags & re.IGNORECASE else own
    if not flags & re.IGNORECASE or not char.isalpha():
        return 1 << code
    return (1 << ord(char.lower())) | (1 << ord(char.upper())) | (_WORD if char in _FAR_PARTNERS else 0)


def of_any(flags: int) -> int:
    """Return what a dot stands for."""
    return ALL if flags & re.DOTALL else ALL & ~NEWLINE


def of_not(code: int, flags: int) -> int:
    """Return every character but one."""
    return ALL & ~_surely(code, code, flags)


def of_set(items: Nodes, flags: int) -> int:
    """Return what stands between brackets."""
    touched = full = 0
    negated = False
    for operator, argument in items:
        if operator is grammar.NEGATE:
            negated = True
        elif operator is grammar.CATEGORY:
            mask = _of_category(str(argument), flags)
            touched, full = touched | mask, full | mask
        else:
            low, high = argument if operator is grammar.RANGE else (argument, argument)
            touched, full = touched | _of_range(low, high, flags), full | _surely(low, high, flags)
    return ALL & ~full if negated else touched


def _of_range(low: int, high: int, flags: int) -> int:
    mask = 0
    for code in range(low, min(high, low + _RANGE_MAX) + 1):
        mask |= of_char(code, flags)
    return mask if high - low <= _RANGE_MAX else mask | _BEYOND | (_NEAR_PARTNERS if flags & re.IGNORECASE else 0)


def _surely(low: int, high: int, flags: int) -> int:
    """Return what is in a range without any doubt: of the shared bits none."""
    return _of_range(low, min(high, 127), flags) & _ASCII if low <= 127 else 0


def _of_category(category: str, flags: int) -> int:
    name, negated = grammar.CATEGORIES[category]
    near, beyond = _CATEGORY[name]
    mask = near | (0 if flags & re.ASCII else beyond)
    return ALL & ~mask if negated else mask
