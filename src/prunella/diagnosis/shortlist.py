"""Shortlist the expressions that may fit a message, by the literals that each of them needs.

Of the literals of each way to match one piece of six characters (three where none is longer) is the key: the one that
the fewest others have. A message is cut into all its pieces, and only what stands under those is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from prunella.diagnosis.literals import CHARS_MIN, Way

_LONG: Final = 6
_SCAN_COST: Final = 0.5
"""Cutting a message at one place costs about half of looking for one key in it."""

Entry = TypeVar("Entry")


class Shortlist(Generic[Entry]):
    """Entries by what a text must contain. Not for several threads while it is changed."""

    def __init__(self, entries: Iterable[tuple[Entry, tuple[Way, ...]]] = ()) -> None:
        self._frequency: Counter[str] = Counter()
        self._tables: dict[int, dict[str, list[tuple[tuple[str, ...], Entry]]]] = {_LONG: {}, CHARS_MIN: {}}
        known = list(entries)
        for _, ways in known:
            self._count(ways)
        for entry, ways in known:
            self._place(entry, ways)

    def add(self, entry: Entry, ways: tuple[Way, ...]) -> None:
        """Take an entry in; it needs at least one way, and each way a literal."""
        self._count(ways)
        self._place(entry, ways)

    def remove(self, entry: Entry, ways: tuple[Way, ...]) -> None:
        """Forget an entry that was added with these ways."""
        for way in ways:
            size, pieces = _pieces(way)
            self._frequency.subtract(pieces)
            table = self._tables[size]
            for piece in pieces & table.keys():
                left = [row for row in table[piece] if row[1] is not entry]
                if left:
                    table[piece] = left
                else:
                    del table[piece]

    def candidates(self, folded: str) -> Iterator[Entry]:
        """Return every entry of which one way has all its literals in a folded text; one of them twice, at times."""
        for size, table in self._tables.items():
            for piece in _pieces_in(folded, size, table):
                for literals, entry in table[piece]:
                    for literal in literals:
                        if literal not in folded:
                            break
                    else:
                        yield entry

    def _count(self, ways: tuple[Way, ...]) -> None:
        for way in ways:
            self._frequency.update(_pieces(way)[1])

    def _place(self, entry: Entry, ways: tuple[Way, ...]) -> None:
        frequency = self._frequency
        for way in ways:
            size, pieces = _pieces(way)
            table = self._tables[size]
            key = min(pieces, key=lambda piece: (frequency[piece], len(table.get(piece, ())), piece))
            table.setdefault(key, []).append((tuple(sorted(way, key=len, reverse=True)), entry))


def _pieces(way: Way) -> tuple[int, set[str]]:
    size = _LONG if any(len(literal) >= _LONG for literal in way) else CHARS_MIN
    return size, {literal[at : at + size] for literal in way for at in range(len(literal) - size + 1)}


def _pieces_in(text: str, size: int, table: dict[str, list[tuple[tuple[str, ...], Entry]]]) -> Iterable[str]:
    if len(table) < len(text) * _SCAN_COST:
        return [piece for piece in table if piece in text]
    return table.keys() & {text[at : at + size] for at in range(len(text) - size + 1)}
