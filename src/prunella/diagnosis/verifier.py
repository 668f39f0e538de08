"""Search one expression in one message, in bounded time: `re` on its beginning, google-re2 on all of it where it can.

google-re2 is used when it is installed, the message is long, and both are known to agree on it; it is never needed.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Protocol

from prunella.diagnosis import grammar
from prunella.diagnosis.gaps import once_each
from prunella.diagnosis.patterns import Span
from prunella.diagnosis.safety import refusal_of, window_of

SPANS_MAX: Final = 10
SHORT: Final = 512
"""Characters up to which `re` is quick on anything that passes the check."""
_UNLIKE: Final = re.compile(r"\[:|\{,|[^\t\n\f\r -~]")
"""Read differently by the two engines: named classes, {,n}, and everything that is not plain ASCII."""
_ODD: Final = re.compile(r"[^\t\n\f\r -~]|\n\Z")
"""Texts on which they differ: characters beyond ASCII, rare blanks, and a last end of line."""


class Unsafe(Exception):
    """The expression does not pass the check, and is not searched."""


class Search(Protocol):
    """Find the places of an expression."""

    def finditer(self, text: str) -> Iterator[Any]:
        """Return a match for each place."""
        ...


class Verifier:
    """One expression, compiled when it is first needed."""

    __slots__ = ("_expression", "_flags", "_linear", "_linear_is_asked", "_search", "_window")

    def __init__(self, expression: str, *, ignore_case: bool) -> None:
        self._expression = expression
        self._flags = re.IGNORECASE if ignore_case else re.NOFLAG
        self._search: Search | None = None
        self._linear: Search | None = None
        self._linear_is_asked = False
        self._window = 0

    def spans(self, text: str) -> tuple[Span, ...]:
        """Return the first places where the expression fits, at most ten; none where it does not.

        Raises:
            Unsafe: it does not pass the check, which is made before the first search.
        """
        search = self._search or self._compile()
        if len(text) > SHORT:
            linear_search = self._for_long_texts() if _ODD.search(text) is None else None
            search, text = (linear_search, text) if linear_search else (search, text[: self._window])
        return tuple(match.span() for match in islice(search.finditer(text), SPANS_MAX))

    def _for_long_texts(self) -> Search | None:
        if not self._linear_is_asked:
            self._linear_is_asked = True
            self._linear = linear(self._expression, ignore_case=bool(self._flags))
        return self._linear

    def _compile(self) -> Search:
        ignore_case = bool(self._flags)
        tree = grammar.parse(self._expression, ignore_case=ignore_case)
        if reason := refusal_of(tree):
            raise Unsafe(reason)
        self._window = window_of(tree)
        simpler = once_each(tree)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once by the parser, and heard there
            plain = re.compile(self._expression, self._flags)
        search: Search = plain if simpler is tree else grammar.compiled(simpler)
        self._search = search
        return search


def linear(expression: str, *, ignore_case: bool) -> Search | None:
    """Return the expression compiled by google-re2; None without it, or where it would read it differently."""
    engine = _engine()
    if engine is None or _UNLIKE.search(expression):
        return None
    options = engine.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    try:
        search: Search = engine.compile(expression, options)
    except engine.error:
        return None
    return search


def _engine() -> Any:
    try:
        engine = importlib.import_module("re2")
    except ImportError:
        return None
    return engine if hasattr(engine, "Options") and hasattr(engine, "Set") else None  # another package has its name
