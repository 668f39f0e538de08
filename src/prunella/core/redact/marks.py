"""What stands in place of a secret: spans become marks, once, and a second pass leaves the marks of the first alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

Span = tuple[int, int, str]
"""Where a secret begins and ends, and what kind it is of."""


class Detector(NamedTuple):
    """A pattern whose group `s` is the secret; it runs only where one of `hints` stands in the lower-cased text."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def detector(kind: str, hints: str, *patterns: str) -> Iterator[Detector]:
    """Yield a detector per pattern; hints are divided by spaces."""
    return (Detector(kind, tuple(hints.split()), re.compile(pattern)) for pattern in patterns)


_MARK: Final = re.compile(r"\[REDACTED:\w{1,16}:[0-9a-f]{4}\]")
FOREIGN: Final = re.compile(
    r"[\[<({](?:redacted|filtered|masked|hidden|removed|secret)|\*{3}|•{3}|__redacted__|\[cut:", re.IGNORECASE
)
"""How others, and we, say that something was taken out."""


def replaced(text: str, spans: Iterable[Span], mark: Callable[[str, str], str]) -> str:
    """Return `text` with `mark(kind, value)` in place of every span; overlapping spans become one."""
    pieces: list[str] = []
    done = 0
    for start, end, kind in _merged(text, spans):
        pieces += (text[done:start], mark(kind, text[start:end]))
        done = end
    return "".join((*pieces, text[done:]))


def _merged(text: str, spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end or (kind != "known" and _is_marked(text, start, end)):
            continue
        if merged and start < merged[-1][1]:
            first, last, first_kind = merged.pop()
            merged.append((first, max(last, end), first_kind))
        else:
            merged.append((start, end, kind))
    return merged


def _is_marked(text: str, start: int, end: int) -> bool:
    """Tell whether a span lies in or cuts through an earlier mark, which a second pass must leave alone."""
    for place in (start, end - 1):
        at = text.rfind("[REDACTED:", max(0, place - 32), place + 10)
        mark = _MARK.match(text, at) if at >= 0 else None
        if (
            mark is not None
            and at <= place < mark.end()
            and not (start <= at and mark.end() <= end and end - start > mark.end() - at)
        ):
            return True
    return False
