"""A final gap finds what any gap finds, in the same place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from diagnosis.expressions import gap_rows, texts
from prunella.diagnosis import grammar
from prunella.diagnosis.gaps import once_each


def is_rewritten(expression: str) -> bool:
    """Tell whether anything became final."""
    tree = grammar.parse(expression, ignore_case=True)
    return once_each(tree) is not tree


@pytest.mark.parametrize(
    "expression",
    [
        "timeout.*connect.*host",
        "a.*?b.*?c",
        "error.*(timed out|refused).*host",
        r"foo.*\d+.*bar",
        r"order.* customer \d+ .*failed",
        r"a[\s\S]*b[\s\S]*c",
        "(?:x|a.*b.*c)y",
        "(?s)a.*\n.*b",
        r"a.*b[\s\S]*c",
    ],
)
def test_gaps_of_known_issues_become_final(expression: str) -> None:
    """What people write is what is made quick."""
    assert is_rewritten(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "a.*b",
        "a.*b.*?c",
        "a.*?b{2,3}.*?c",
        "a.*(?:b|xbx).*c",
        r"a.*\n.*c",
        r"a[\s\S]*b.*c",
        "a.{0,9}b.*c",
        r"a.*\w+b.*c",
    ],
)
def test_gaps_stay_where_the_first_place_may_not_be_as_good(expression: str) -> None:
    """In doubt nothing is changed."""
    assert not is_rewritten(expression)


@settings(max_examples=1500)
@given(gap_rows, texts)
def test_final_gaps_find_the_same_places(expression: str, text: str) -> None:
    """Whatever is rewritten, every place begins and ends where it did."""
    try:
        tree = grammar.parse(expression, ignore_case=True)
    except re.error:
        return
    simpler = once_each(tree)
    if simpler is not tree:
        plain = [one.span() for one in re.finditer(expression, text[:40], re.IGNORECASE)]
        assert [one.span() for one in grammar.compiled(simpler).finditer(text[:40])] == plain
