"""Regular expressions as trees: the only room that knows the parser behind the standard library's `re`.

Its parser and compiler are not a public interface; whatever changes there with a version of Python is mended here.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

_parser: Any = importlib.import_module("re._parser")
_compiler: Any = importlib.import_module("re._compiler")
_words: Any = importlib.import_module("re._constants")

Node: TypeAlias = tuple[Any, Any]
"""An operator and its argument."""
Nodes: TypeAlias = Sequence[Node]

AT: Final = _words.AT
ANY: Final = _words.ANY
LITERAL: Final = _words.LITERAL
NOT_LITERAL: Final = _words.NOT_LITERAL
IN: Final = _words.IN
NEGATE: Final = _words.NEGATE
RANGE: Final = _words.RANGE
CATEGORY: Final = _words.CATEGORY
BRANCH: Final = _words.BRANCH
SUBPATTERN: Final = _words.SUBPATTERN
ATOMIC_GROUP: Final = _words.ATOMIC_GROUP
MIN_REPEAT: Final = _words.MIN_REPEAT
MAX_REPEAT: Final = _words.MAX_REPEAT
REPEATS: Final = frozenset({MAX_REPEAT, MIN_REPEAT, _words.POSSESSIVE_REPEAT})
LOOKS: Final = frozenset({_words.ASSERT, _words.ASSERT_NOT})
REFERENCES: Final = frozenset({_words.GROUPREF, _words.GROUPREF_EXISTS})
FIRST_PLACES: Final = frozenset({_words.AT_BEGINNING, _words.AT_BEGINNING_STRING})
CATEGORIES: Final = {
    str(getattr(_words, f"CATEGORY_{negated}{name}")): (name, bool(negated))
    for name in ("DIGIT", "SPACE", "WORD")
    for negated in ("", "NOT_")
}
"""The name of a category, and whether it is the opposite of it."""
UNBOUNDED: Final = int(_words.MAXREPEAT)


def parse(expression: str, *, ignore_case: bool) -> Any:
    """Return the tree of an expression; raise what the parser raises on one that is not valid."""
    flags = re.IGNORECASE if ignore_case else 0
    if "[" not in expression:
        return _parser.parse(expression, flags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bracket in a set may mean more one day; today it means itself
        return _parser.parse(expression, flags)


def flags_of(tree: Any) -> int:
    """Return the flags that hold for a whole tree, those written inside it included."""
    return int(tree.state.flags)


def widths(tree: Any) -> tuple[int, int]:
    """Return the fewest and the most characters that a tree can match."""
    least, most = tree.getwidth()
    return int(least), int(most)


def part(tree: Any, nodes: Nodes) -> Any:
    """Return `nodes` as a tree that belongs to `tree`."""
    return _parser.SubPattern(tree.state, list(nodes))


def compiled(tree: Any) -> re.Pattern[str]:
    """Compile a tree."""
    pattern: re.Pattern[str] = _compiler.compile(tree)
    return pattern
