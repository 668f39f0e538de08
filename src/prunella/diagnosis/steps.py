"""An expression as the paths that a backtracking engine can take: what it must step on, and where it may go on trying.

A path is a row of steps. A fixed step is taken once; a free one may end in several places, and each of them is tried
when what follows does not fit. How much that costs is for `safety` to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from prunella.diagnosis import charsets, grammar
from prunella.diagnosis.grammar import Node, Nodes

TEXT_MAX: Final = 4096
"""Characters of a message that `re` looks at."""
PATHS_MAX: Final = 64
_STEPS_MAX: Final = 1200
_UNROLLED_MAX: Final = 64
_LOOP_COST: Final = 16
"""A turn of a repeated group costs as much as this many characters of a repeated set."""
_LAZY_COST: Final = 4
"""A lazy repeat looks at what follows after each character; the one of any character is quick at it."""
_LETTERS_COST: Final = 4


class TooFree(Exception):
    """The expression has more ways to be tried than anything can bound; the text says which and what to write."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path.

    Args:
        ways: what is consumed without fail, a row of character sets per alternative; empty where that is nothing.
        reach: every character that may be consumed.
        spread: in how many places the step may end; 1 for a fixed step.
        cost: what one of them costs, in characters.
        again: how often alternatives of it may match the same text.
    """

    ways: tuple[tuple[int, ...], ...]
    reach: int
    spread: int = 1
    cost: int = 1
    again: int = 1

    def parts(self, reach: int) -> bool:
        """Tell whether nothing that stays within `reach` can get across this step."""
        return all(any(not one & reach for one in way) for way in self.ways)


Path: TypeAlias = tuple[Step, ...]


def paths_of(nodes: Nodes, flags: int) -> list[Path]:
    """Return every path through an expression, and one more for each part that is never entered a second time."""
    paths: list[Path] = [()]
    ended: list[Path] = []
    run: list[int] = []
    for node in nodes:
        mask = mask_of(node, flags)
        if mask is not None:
            run.append(mask)
            continue
        paths = [path + fixed(run) for path in paths]
        run.clear()
        if node[0] is grammar.ATOMIC_GROUP:
            inner = paths_of(node[1], flags)
            ended += [path + way for path in paths for way in inner]
            paths = [(*path, _union(inner, again=1)) for path in paths]
        else:
            parts = _parts(node, flags)
            paths = [path + part for path in paths for part in parts]
        _demand_few(paths, ended)
    return ended + [path + fixed(run) for path in paths]


def fixed(run: Sequence[int]) -> Path:
    """Return a row of characters as one step, or as none where it is empty."""
    if not run:
        return ()
    reach = 0
    for mask in run:
        reach |= mask
    return (Step((tuple(run),), reach),)


def _demand_few(paths: Sequence[Path], ended: Sequence[Path]) -> None:
    if len(paths) + len(ended) > PATHS_MAX:
        raise TooFree("it has too many alternatives and optional parts; write several expressions")
    if any(sum(max(map(len, step.ways), default=1) for step in path) > _STEPS_MAX for path in paths):
        raise TooFree(
            f"it has a row of more than {_STEPS_MAX} characters beside its repeats; keep the words that matter"
        )


def _parts(node: Node, flags: int) -> list[Path]:
    operator, argument = node
    if operator is grammar.AT:
        return [()]
    if operator is grammar.SUBPATTERN:
        return paths_of(argument[3], (flags | argument[1]) & ~argument[2])
    if operator is grammar.BRANCH:
        return _alternatives([path for one in argument[1] for path in paths_of(one, flags)])
    if operator in grammar.REPEATS:
        return _repeated(argument, flags, lazy=operator is grammar.MIN_REPEAT)
    raise TooFree(f"{str(operator).lower()} is not supported; write it with plain sets, groups and repeats")


def mask_of(node: Node, flags: int) -> int | None:
    """Return the characters that a node of width 1 stands for; None for any other node."""
    operator, argument = node
    if operator is grammar.LITERAL:
        return charsets.of_char(argument, flags)
    if operator is grammar.IN:
        return charsets.of_set(argument, flags)
    if operator is grammar.ANY:
        return charsets.of_any(flags)
    return charsets.of_not(argument, flags) if operator is grammar.NOT_LITERAL else None


def _alternatives(paths: list[Path]) -> list[Path]:
    """Keep paths apart where one of them is free; what is fixed may be seen as one step."""
    return paths if any(is_free(path) for path in paths) else [(_union(paths, again=_alike(paths)),)]


def is_free(path: Path) -> bool:
    """Tell whether a path has a step that may end in several places."""
    return any(step.spread > 1 for step in path)


def _union(paths: Sequence[Path], *, again: int) -> Step:
    ways = tuple(sure(path) for path in paths)
    return Step(ways, reach_of(paths), again=again * max(_again(path) for path in paths))


def sure(path: Path) -> tuple[int, ...]:
    """Return the character sets that a path consumes one after the other, at the least."""
    return tuple(one for step in path for one in _consumed(step))


def _consumed(step: Step) -> tuple[int, ...]:
    if len(step.ways) == 1:
        return step.ways[0]
    least = min((len(way) for way in step.ways), default=0)
    return (step.reach,) * least


def reach_of(paths: Sequence[Path]) -> int:
    """Return every character that may be consumed on any of the paths."""
    reach = 0
    for path in paths:
        for step in path:
            reach |= step.reach
    return reach


def _again(path: Path) -> int:
    product = 1
    for step in path:
        product *= step.again
    return product


def _alike(paths: Sequence[Path]) -> int:
    """Return how many alternatives may begin to match at one place and all come through."""
    rows = [sure(path) for path in paths]
    return max(sum(all(a & b for a, b in zip(one, other, strict=False)) for other in rows) for one in rows)


def _repeated(argument: tuple[int, int, Nodes], flags: int, *, lazy: bool) -> list[Path]:
    least, most, body = argument
    mask = mask_of(body[0], flags) if len(body) == 1 else None
    if mask is not None:
        row = fixed((mask,) * min(least, TEXT_MAX))
        if least == most:
            return [row]
        places = min(most, TEXT_MAX) - min(least, TEXT_MAX) + 1
        return [(*row, Step((), mask, places, _cost_of(body[0], flags, lazy=lazy)))]
    inner = paths_of(body, flags)
    if most == 1:
        return inner if least else _alternatives([*inner, ()])
    if least == most and len(inner) == 1 and len(inner[0]) * least <= _UNROLLED_MAX:
        return [inner[0] * least]
    _demand_one_way(inner)
    places = TEXT_MAX if any(is_free(path) for path in inner) else min(most, TEXT_MAX)
    loop = Step((), reach_of(inner), places, _LOOP_COST)
    return [(_union(inner, again=1), loop)] if least else [(loop,)]


def _cost_of(node: Node, flags: int, *, lazy: bool) -> int:
    """Return what one character of a repeat costs: a set with letters is slow where case does not count."""
    operator, argument = node
    if operator is grammar.ANY:
        return 1
    if lazy or operator is not grammar.IN or not flags & re.IGNORECASE:
        return _LAZY_COST if lazy else 1
    ends = [code for kind, one in argument if kind is not grammar.CATEGORY for code in _codes(one)]
    return _LETTERS_COST if any(chr(code).isalpha() for code in ends) else 1


def _codes(argument: object) -> tuple[int, ...]:
    if isinstance(argument, tuple):
        return argument
    return (argument,) if isinstance(argument, int) else ()


def _demand_one_way(inner: Sequence[Path]) -> None:
    """Refuse a repeated group that can cut one text into turns in more than one way: it may take for ever."""
    if any(not sure(path) for path in inner):
        raise TooFree("a repeated group can match nothing; take the inner ? or * away")
    if len(inner) > 1 and _alike(inner) > 1:
        raise TooFree("a repeated group has alternatives that match the same text; let each begin differently")
    if any(_again(path) > 1 for path in inner):
        raise TooFree("a repeated group has alternatives that match the same text; let each begin differently")
    if not any(is_free(path) for path in inner):
        return  # each turn is what its beginning says
    singly = [one_by_one(path) for path in inner]
    if not (_parts_turns(singly, 0) or _parts_turns(singly, -1)) or any(
        meets(path, i, j) for path in inner for i in range(len(path)) for j in range(i + 1, len(path))
    ):
        raise TooFree(
            "a repeat stands inside a repeated group, and nothing parts one turn from the next (as in (a+)+); "
            "end each turn with a character that is nowhere else in it, or repeat once"
        )


def _parts_turns(paths: Sequence[Path], end: int) -> bool:
    """Tell whether the first (0) or last (-1) character of a turn is nowhere else in any turn."""
    if any(path[end].spread > 1 or len(path[end].ways) != 1 for path in paths):
        return False
    mark = reach_of([(path[end],) for path in paths])
    return not mark & reach_of([path[1:] if end == 0 else path[:-1] for path in paths])


def one_by_one(path: Path) -> Path:
    """Return a path with a step for each fixed character."""
    singly: list[Step] = []
    for step in path:
        row = step.ways[0] if step.spread == 1 and len(step.ways) == 1 else ()
        singly += [Step(((mask,),), mask) for mask in row] or [step]
    return tuple(singly)


def meets(path: Path, i: int, j: int) -> bool:
    """Tell whether two free steps can pass characters from one to the other: their places multiply."""
    first, second = path[i], path[j]
    if first.spread == 1 or second.spread == 1 or not first.reach & second.reach:
        return False
    return not any(step.ways and (step.parts(first.reach) or step.parts(second.reach)) for step in path[i + 1 : j])
