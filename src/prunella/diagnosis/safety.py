"""Refuse, when it is saved, an expression that some text could make slow, and say what to write instead.

`re` backtracks: a few characters may keep it busy for years. What passes here ends within milliseconds on the first
4,096 characters of any text, by an upper bound of its work and not by trying. The bound is generous to nobody: an
expression may be harmless in practice and be refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import factorial
from typing import Any, Final

from prunella.diagnosis import charsets, grammar
from prunella.diagnosis.gaps import once_each
from prunella.diagnosis.grammar import Nodes
from prunella.diagnosis.steps import TEXT_MAX, Path, Step, TooFree, meets, paths_of, sure

EXPRESSION_MAX: Final = 4000
"""Characters of an expression: a masked message of 1,000 characters, each of them escaped, and to spare."""
_WINDOWS: Final = (4096, 2048, 1024, 512)
_WORK_MAX: Final = 2_500_000
"""Characters looked at in the worst text, at some 10 ns each."""
_STEP_OUT_COST: Final = 2
"""What one place costs, in characters, where more than a letter has to be looked at to see that it is wrong."""
_FEW: Final = 3
_END: Final = Step(((0,),), 0)
_OVERLAP: Final = (
    "its repeats can match the same text in too many ways (as in .*a.*b.*), which takes too long on some text; "
    "give them an upper bound as in .{0,80}, or part them by a character that they cannot match as in [^,]*,"
)


def refusal(expression: str, *, ignore_case: bool = True) -> str | None:
    """Return why an expression cannot be kept and what to write instead; None when it can.

    Args:
        expression: in the syntax of `re`.
        ignore_case: whether it is to be matched without regard to case.
    """
    tree = parsed(expression, ignore_case=ignore_case)
    return tree if isinstance(tree, str) else refusal_of(tree)


def parsed(expression: str, *, ignore_case: bool) -> Any:
    """Return the tree of an expression, or in words why there is none."""
    if len(expression) > EXPRESSION_MAX:
        return f"it has {len(expression):,} characters, at most {EXPRESSION_MAX:,} are read; keep the words that matter"
    try:
        return grammar.parse(expression, ignore_case=ignore_case)
    except RecursionError:
        return "its groups are nested too deeply; write it flatter"
    except (re.error, OverflowError, ValueError) as error:
        return f"it is not a valid expression: {error}; put a backslash before signs that mean themselves"


def refusal_of(tree: Any) -> str | None:
    """Return the same for an expression that is parsed already."""
    if feature := _unfit(tree):
        return f"it uses {feature}, which no linear engine knows; write the words themselves, or a set as in [^/]"
    least, _ = grammar.widths(tree)
    if least == 0:
        return "it can match the empty text and would fit everything; let at least one character be there, as + for *"
    if least > TEXT_MAX:
        return f"it matches no text shorter than {least:,} characters; keep the words that tell it from others"
    try:
        return None if window_of(tree) else _OVERLAP
    except TooFree as error:
        return str(error)


def window_of(tree: Any) -> int:
    """Return how many characters of a message `re` may look at without taking long; 0 where none are few enough."""
    if not _has_choices(tree):
        return TEXT_MAX
    tree = once_each(tree)
    flags = grammar.flags_of(tree)
    paths = paths_of(tree, flags)
    anchored = _is_anchored(tree, flags)
    least, _ = grammar.widths(tree)
    fitting = (
        size
        for size in _WINDOWS
        if size >= least and sum(_work(path, size, anchored=anchored) for path in paths) <= _WORK_MAX
    )
    return next(fitting, 0)


def _unfit(nodes: Nodes) -> str | None:
    for operator, argument in nodes:
        if operator in grammar.REFERENCES:
            return "a reference to a group"
        if operator in grammar.LOOKS:
            return "look-ahead or look-behind"
        for inner in _inside(operator, argument):
            if feature := _unfit(inner):
                return feature
    return None


def _inside(operator: Any, argument: Any) -> list[Nodes]:
    if operator is grammar.BRANCH:
        return list(argument[1])
    if operator is grammar.SUBPATTERN:
        return [argument[3]]
    if operator is grammar.ATOMIC_GROUP:
        return [argument]
    return [argument[2]] if operator in grammar.REPEATS else []


def _has_choices(nodes: Nodes) -> bool:
    """Tell whether anything but a row of characters is there: most expressions are done here."""
    return any(
        operator in grammar.REPEATS
        or operator is grammar.BRANCH
        or any(_has_choices(inner) for inner in _inside(operator, argument))
        for operator, argument in nodes
    )


def _is_anchored(nodes: Nodes, flags: int) -> bool:
    if not nodes:
        return False
    operator, argument = nodes[0]
    if operator is grammar.SUBPATTERN:
        return _is_anchored(argument[3], flags)
    return operator is grammar.AT and argument in grammar.FIRST_PLACES and not flags & re.MULTILINE


def _work(path: Path, size: int, *, anchored: bool) -> float:
    """Return how many characters are looked at in the worst text of a size, roughly and rather too many."""
    if not any(step.spread * step.again > 1 for step in path):
        return 0  # nothing is tried twice
    again, effort = 1, _depth(path)
    for step, follower in pairwise((*path, _END)):
        again *= step.again
        is_checked_at_once = step.spread == 1 or any(len(way) and way[0].bit_count() <= _FEW for way in follower.ways)
        effort = max(effort, step.cost, 1 if is_checked_at_once else _STEP_OUT_COST)
    starts = 1 if anchored else max(size // _period(_front(path)), 2)
    search = Step((), charsets.ALL, starts)
    return _most_places((search, *path), size, 0, 1, 0) * again * effort


def _most_places(path: Path, size: int, place: int, product: int, wide: int, chosen: tuple[int, ...] = ()) -> int:
    """Return the largest product of the places of free steps that all meet each other."""
    most = product // factorial(wide)  # n steps over one text end in order: n! times fewer places
    for j in range(place, len(path)):
        spread = min(path[j].spread, size)
        if spread == 1 or not all(meets(path, i, j) for i in chosen):
            continue
        most = max(most, _most_places(path, size, j + 1, product * spread, wide + (spread > size // 2), (*chosen, j)))
        if most > _WORK_MAX:
            break
    return most


def _front(path: Path) -> tuple[int, ...]:
    """Return the fixed characters that a path begins with: it can begin only where they are."""
    end = next((place for place, step in enumerate(path) if step.spread > 1 or len(step.ways) != 1), len(path))
    return sure(path[:end])


def _depth(path: Path) -> float:
    """Return how many characters of a fixed row are compared per place, on a text made to look like it."""
    deepest = 1.0
    row: list[int] = []
    for step in (*path, _END):
        if step.spread == 1 and step is not _END:
            row += sure((step,))
        else:
            deepest = max(deepest, _row_depth(row))
            row = []
    return deepest


def _row_depth(row: Sequence[int]) -> float:
    deepest, period = 1.0, 1
    for length in range(2, len(row) + 1):
        while period < length and not _repeats(row[:length], period):
            period += 1
        deepest = max(deepest, length / period)
    return deepest


def _repeats(row: Sequence[int], period: int) -> bool:
    return all(a & b for a, b in zip(row, row[period:], strict=False))


def _period(row: Sequence[int]) -> int:
    """Return the least distance at which a row of characters can begin again; 1 for a row of nothing."""
    return next((by for by in range(1, len(row)) if _repeats(row, by)), max(len(row), 1))
