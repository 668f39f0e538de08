"""Make the first `b` final in `a.*b.*c`: the same is found in the same place, in less time.

A gap is any number of any characters. If `c` follows some `b`, it follows the first `b` too, because the next gap takes
up what lies between. So no other `b` needs a try, and a second gap no longer multiplies the work. This holds where
what stands between two gaps cannot end earlier by beginning later; where that is in doubt, nothing is changed.
"""

from __future__ import annotations

from itertools import chain, islice, pairwise, product
from typing import Any, Final

from prunella.diagnosis import charsets, grammar
from prunella.diagnosis.grammar import Node, Nodes
from prunella.diagnosis.steps import Path, Step, TooFree, is_free, mask_of, one_by_one, paths_of, reach_of

_ROWS_MAX: Final = 64


def once_each(tree: Any) -> Any:
    """Return the tree with all gaps but the last of each row made final; the tree itself where there are none."""
    return _if_changed(tree, tree, grammar.flags_of(tree))


def _if_changed(tree: Any, row: Any, flags: int) -> Any:
    """Return a row rewritten; the same object where nothing in it is."""
    nodes = list(row)
    rewritten = _in_row(tree, nodes, flags)
    is_same = len(nodes) == len(rewritten) and all(old is new for old, new in zip(nodes, rewritten, strict=True))
    return row if is_same else grammar.part(tree, rewritten)


def _in_row(tree: Any, nodes: list[Node], flags: int) -> list[Node]:
    nodes = [_in_group(tree, node, flags) for node in nodes]
    gaps = [(place, reach) for place, node in enumerate(nodes) if (reach := _gap(node, flags))]
    if len(gaps) < 2:
        return nodes
    greedy = nodes[gaps[-1][0]][0] is grammar.MAX_REPEAT
    if not greedy and any(nodes[place][0] is grammar.MAX_REPEAT for place, _ in gaps):
        return nodes  # a greedy gap wants the last place and a lazy end the nearest one: which is first then matters
    for (here, reach), (after, next_reach) in reversed(list(pairwise(gaps))):
        between = _final(nodes[here + 1 : after], flags, next_reach, shorten=greedy)
        if between is not None and not reach & ~next_reach:
            lazy = (grammar.MIN_REPEAT, nodes[here][1])
            nodes[here:after] = [(grammar.ATOMIC_GROUP, grammar.part(tree, [lazy, *between]))]
    return nodes


def _in_group(tree: Any, node: Node, flags: int) -> Node:
    operator, argument = node
    if operator is grammar.SUBPATTERN:
        group, added, removed, inner = argument
        rewritten = _if_changed(tree, inner, (flags | added) & ~removed)
        return node if rewritten is inner else (operator, (group, added, removed, rewritten))
    if operator is grammar.BRANCH:
        rows = [_if_changed(tree, one, flags) for one in argument[1]]
        is_same = all(old is new for old, new in zip(argument[1], rows, strict=True))
        return node if is_same else (operator, (None, rows))
    return node


def _gap(node: Node, flags: int) -> int:
    """Return what a gap passes over, with or without ends of lines; nothing for any other node."""
    operator, argument = node
    if operator not in (grammar.MAX_REPEAT, grammar.MIN_REPEAT):
        return 0
    _, most, body = argument
    if most != grammar.UNBOUNDED or len(body) != 1:
        return 0
    inner, items = body[0]
    is_any = inner is grammar.ANY or (
        inner is grammar.IN
        and all(one is grammar.CATEGORY for one, _ in items)
        and charsets.of_set(items, flags) == charsets.ALL
    )
    return mask_of(body[0], flags) or 0 if is_any else 0


def _final(between: Nodes, flags: int, next_reach: int, *, shorten: bool) -> Nodes | None:
    """Return `between` as it may stand in front of the next gap without a second try; None where it may not."""
    try:
        if reach_of(paths_of(between, flags)) & ~next_reach:
            return None
        kept = _without_tail(between) if shorten else between
        paths = paths_of(kept, flags)
    except TooFree:
        return None
    if not any(is_free(path) for path in paths):
        return kept if _stand_apart(paths) else None
    return kept if len(paths) == 1 and _is_pinned(paths[0]) else None


def _without_tail(nodes: Nodes) -> Nodes:
    """Leave a last repeat at its fewest: a greedy gap behind it takes the rest."""
    if not nodes:
        return nodes
    operator, argument = nodes[-1]
    if operator is grammar.SUBPATTERN and not argument[1] and not argument[2]:
        return [*nodes[:-1], *_without_tail(list(argument[3]))]
    if operator in (grammar.MAX_REPEAT, grammar.MIN_REPEAT) and len(argument[2]) == 1:
        least, most, body = argument
        return [*nodes[:-1], (operator, (least, least, body))] if least else nodes[:-1] if most else nodes
    return nodes


def _stand_apart(paths: list[Path]) -> bool:
    """Tell whether no row of fixed characters can occur inside another one and end before it."""
    ways = chain.from_iterable(product(*(step.ways for step in path)) for path in paths)
    rows = [tuple(chain.from_iterable(row)) for row in islice(ways, _ROWS_MAX + 1)]
    return len(rows) <= _ROWS_MAX and not any(_holds(one, other) for one in rows for other in rows)


def _holds(outer: tuple[int, ...], inner: tuple[int, ...]) -> bool:
    return any(
        all(a & b for a, b in zip(outer[place:], inner, strict=False)) for place in range(len(outer) - len(inner))
    )


def _is_pinned(path: Path) -> bool:
    """Tell whether a character that occurs once decides where a match ends, wherever it begins."""
    path = one_by_one(path)
    return any(
        step.spread == 1
        and len(step.ways) == 1
        and not any(step.reach & other.reach for at, other in enumerate(path) if at != place)
        and _ends_in_one_place(path[place + 1 :])
        for place, step in enumerate(path)
    )


def _ends_in_one_place(path: Path) -> bool:
    for step, follower in pairwise((*path, Step((), 0, 2))):
        if step.spread == 1:
            if len({len(way) for way in step.ways}) > 1:
                return False
        elif follower.spread > 1 or not all(way and not way[0] & step.reach for way in follower.ways):
            return False
    return True
