"""Whatever matches contains all literals of one way: nothing that fits is ever passed over."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
from hypothesis import given, settings

from diagnosis.expressions import expressions, texts
from prunella.diagnosis import grammar
from prunella.diagnosis.literals import CHARS_MIN, fold, required


def ways(expression: str) -> set[frozenset[str]]:
    """Return the ways of an expression."""
    return set(required(grammar.parse(expression, ignore_case=True)))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Connection refused", {"connection refused"}),
        (r"timeout after \d+ ms", {"timeout after ", " ms"}),
        (r"\btoken\b (?:has )?expired$", {"token ", "expired"}),
        ("[Tt]ime[Oo]ut", {"timeout"}),
        ("(?:abc)+def", {"abc", "def"}),
        ("x{4}y", {"xxxxy"}),
        ("x{4,}yz9", {"xxxx", "yz9"}),
        ("(?>invalid)_grant", {"invalid_grant"}),
        ("invalid.*invalid_grant", {"invalid_grant"}),
    ],
)
def test_literals_are_the_longest_rows_that_must_be_there(expression: str, expected: set[str]) -> None:
    """Boundaries and groups do not end a row, repeats and sets do; what another literal holds is not said twice."""
    assert ways(expression) == {frozenset(expected)}


def test_alternatives_are_ways_of_their_own() -> None:
    """What stands in front of alternatives belongs to each of them."""
    assert ways("ECONNRESET|socket hang up") == {frozenset({"econnreset"}), frozenset({"socket hang up"})}
    assert ways("time(?:out|d out)") == {frozenset({"timeout"}), frozenset({"timed out"})}
    assert ways(r"(?:reset|closed) \d by peer") == {frozenset({" by peer"})}


@pytest.mark.parametrize("expression", ["ab", r"\d+", "a.b.c", "(?:refused|no)", "(?:refused)?x", "[abc]{9}"])
def test_expression_without_literals_says_so(expression: str) -> None:
    """Nothing of three or more characters that must be there: no way at all."""
    assert ways(expression) == set()


@settings(max_examples=500)
@given(expressions, texts)
def test_whatever_matches_has_all_literals_of_a_way(expression: str, text: str) -> None:
    """With and without regard to case, in folded text."""
    for ignore_case in (True, False):
        try:
            tree = grammar.parse(expression, ignore_case=ignore_case)
        except re.error:
            return
        known = required(tree)
        assert all(len(literal) >= CHARS_MIN for way in known for literal in way)
        if known and grammar.compiled(tree).search(text[:60]):
            assert any(all(literal in fold(text) for literal in way) for way in known)


def test_folding_makes_equal_what_re_takes_for_equal() -> None:
    """Every cased character of Unicode and each of its partners fold to the same."""
    extra = importlib.import_module("re._casefix")._EXTRA_CASES
    wrong, pairs = [], 0
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        partners = {char.lower(), char.upper(), char.title(), *map(chr, extra.get(code, ()))} - {char}
        for partner in partners:
            if len(partner) == 1 and re.fullmatch(re.escape(char), partner, re.IGNORECASE):
                pairs += 1
                wrong += [(char, partner)] if fold(char) != fold(partner) else []
    assert wrong == []
    assert pairs > 2000
    assert fold("İı") == fold("iI")
    assert fold("Σίσυφος") == fold("ΣΊΣΥΦΟΣ")
