"""Paths hold what a backtracking engine can do with an expression."""

from __future__ import annotations

import pytest

from prunella.diagnosis import grammar
from prunella.diagnosis.steps import Path, TooFree, meets, paths_of, sure


def paths(expression: str) -> list[Path]:
    """Return the paths of an expression, with regard to case."""
    tree = grammar.parse(expression, ignore_case=False)
    return paths_of(tree, grammar.flags_of(tree))


@pytest.mark.parametrize(
    ("expression", "characters", "spreads"),
    [
        ("abc", 3, []),
        ("a+", 1, [4096]),
        ("a{2,5}b", 3, [4]),
        ("(ab){3}", 6, []),
        ("(ab)?c", 1, []),
        (r"\ba$", 1, []),
        ("(?:a[0-9]){2,}", 2, [4096]),
    ],
)
def test_path_knows_what_is_consumed_and_where_it_may_end(expression: str, characters: int, spreads: list[int]) -> None:
    """Characters that are consumed without fail, and the places of each free step."""
    (path,) = paths(expression)
    assert len(sure(path)) == characters
    assert [step.spread for step in path if step.spread > 1] == spreads


def test_alternatives_with_repeats_are_paths_of_their_own() -> None:
    """Where a repeat stands in one of them; words alone are one step."""
    assert len(paths("a+x|b+y|c")) == 3
    assert len(paths("one|two|three")) == 1


@pytest.mark.parametrize(
    ("expression", "meet"),
    [
        (r"\w+\d+", True),
        (r"\w+ \d+", False),
        (".*a.*", True),
        ("[^,]*,[^,]*", False),
        ("[a-z]*[0-9]*", False),
        (".* ?.*", True),
    ],
)
def test_repeats_meet_unless_something_parts_them(expression: str, meet: bool) -> None:
    """Two repeats can pass characters to each other, or a character between them is in neither's reach."""
    (path,) = paths(expression)
    first, *_, last = (place for place, step in enumerate(path) if step.spread > 1)
    assert meets(path, first, last) is meet


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(a+)+", "end each turn with a character"),
        ("(?:a+b?)+", "end each turn"),
        ("(a|ab?)+", "let each begin differently"),
        ("(a|aa)+", "let each begin differently"),
        ("(?:ab|a.)+", "let each begin differently"),
        ("(?:a|b?)+c", "take the inner"),
        ("(?:a|b+)?" * 8, "write several expressions"),
        ("(?:a{700}b){2}", "keep the words that matter"),
    ],
)
def test_what_no_bound_can_be_given_for_is_refused(expression: str, words: str) -> None:
    """With words that say what to write instead."""
    with pytest.raises(TooFree, match=words):
        paths(expression)
