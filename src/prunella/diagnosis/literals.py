"""The literals that whatever an expression matches must contain, so that most expressions need not be tried at all.

Everything is folded: if an expression matches a text, with or without regard to case, one of its ways is a set of
literals that all occur in the folded text. The other way round nothing is promised.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias

from prunella.diagnosis import grammar
from prunella.diagnosis.grammar import Nodes

CHARS_MIN: Final = 3
"""A shorter literal is in nearly every message."""
_STRONG: Final = 6
_WAYS_MAX, _REPEATED_MAX = 32, 64

Way: TypeAlias = frozenset[str]


def fold(text: str) -> str:
    """Return `text` so that whatever `re` takes for equal without regard to case becomes equal."""
    if text.isascii():
        return text.lower()
    return text.replace("\u0130", "i").replace("\u0131", "i").casefold()  # to `re` both dotted and dotless are an i


def required(nodes: Nodes, before: str = "") -> tuple[Way, ...]:
    """Return the ways to match: at least one has all its literals in any text that matches; none where unknown.

    Args:
        nodes: a parsed expression, or one alternative of it.
        before: folded text that stands directly in front of it.
    """
    reader = _Reader(before)
    reader.read(nodes)
    reader.cut()
    own = _longest(reader.found)
    if any(len(literal) >= _STRONG for literal in own):
        return (own,)
    for front, alternatives in reader.choices:
        ways = _of_each(front, alternatives)
        if ways:
            return tuple(_longest(way | own) for way in ways)
    return (own,) if own else ()


def _longest(literals: AbstractSet[str]) -> Way:
    """Leave out what another literal holds."""
    return frozenset(one for one in literals if not any(one != other and one in other for other in literals))


def _of_each(before: str, alternatives: list[Nodes]) -> list[Way]:
    found: list[Way] = []
    for alternative in alternatives:
        ways = required(alternative, before)
        if not ways or len(found) + len(ways) > _WAYS_MAX:
            return []
        found += ways
    return found


class _Reader:
    def __init__(self, before: str) -> None:
        self.run = [before]
        self.found: set[str] = set()
        self.choices: list[tuple[str, list[Nodes]]] = []

    def cut(self) -> None:
        text = "".join(self.run)
        if len(text) >= CHARS_MIN:
            self.found.add(text)
        self.run.clear()

    def read(self, nodes: Nodes) -> None:
        for operator, argument in nodes:
            if operator is grammar.LITERAL:
                self.run.append(fold(chr(argument)))
            elif operator is grammar.IN:
                self._read_set(argument)
            elif operator is grammar.SUBPATTERN:
                self.read(argument[3])
            elif operator is grammar.ATOMIC_GROUP:
                self.read(argument)
            elif operator in grammar.REPEATS:
                self._read_repeat(*argument)
            elif operator is grammar.BRANCH:
                self.choices.append(("".join(self.run), argument[1]))
                self.cut()
            elif operator is not grammar.AT:  # a boundary has no width: the run goes on
                self.cut()

    def _read_set(self, items: Nodes) -> None:
        folded = {fold(chr(code)) if operator is grammar.LITERAL else "" for operator, code in items}
        if len(folded) == 1 and "" not in folded:  # [Tt]
            self.run.append(folded.pop())
        else:
            self.cut()

    def _read_repeat(self, least: int, most: int, body: Nodes) -> None:
        if least == 0:
            self.cut()
        elif len(body) == 1 and body[0][0] is grammar.LITERAL:
            self.run.append(fold(chr(body[0][1])) * min(least, _REPEATED_MAX))
            if least != most or least > _REPEATED_MAX:
                self.cut()
        else:
            self.read(body)
            if most > 1:
                self.cut()
