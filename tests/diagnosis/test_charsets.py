"""A set is never drawn too small: whatever an atom matches is in it."""

from __future__ import annotations

import re
import sys

import pytest

from prunella.diagnosis import charsets, grammar
from prunella.diagnosis.steps import mask_of

ATOMS = [
    *("a", "k", "K", "s", "i", "ſ", "K", "İ", "ı", "é", "ß", "Σ", "7", "\\n", "."),
    *("\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "[a-z]", "[^a-z]", "[^k]", "[^ſ]", "[^K]", "[\\w.-]", "[^\\s,]"),
    *("[\\s\\S]", "[à-ü]", "[^à-ü]", "[\\x00-\\U0010ffff]", "[^\\x00-\\u2000]", "(?a:\\w)", "(?a:\\W)", "(?s:.)"),
]
CHARS = [chr(code) for code in range(0x3000)] + ["一", "٣", "😀", "\u3000", chr(sys.maxunicode)]


@pytest.mark.parametrize("ignore_case", [True, False])
@pytest.mark.parametrize("atom", ATOMS)
def test_set_holds_whatever_the_atom_matches(atom: str, ignore_case: bool) -> None:
    """Every character that `re` matches with the atom is in its set, with and without regard to case."""
    tree = grammar.parse(atom, ignore_case=ignore_case)
    (node,), flags = list(tree), grammar.flags_of(tree)
    if node[0] is grammar.SUBPATTERN:
        flags = (flags | node[1][1]) & ~node[1][2]
        (node,) = node[1][3]
    mask = mask_of(node, flags)
    assert mask is not None
    matches = re.compile(atom, re.IGNORECASE if ignore_case else 0).fullmatch
    assert [char for char in CHARS if matches(char) and not charsets.of_char(ord(char), 0) & mask] == []


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("\\w", "\\s", False),
        ("\\w", "\\d", True),
        ("[a-z]", "[0-9]", False),
        ("[^,]", ",", False),
        ("[^,]", "x", True),
        ("\\S", " ", False),
        ("[a-z]", "[A-Z]", False),
        ("é", "\\s", False),
        (".", "\\n", False),
    ],
)
def test_sets_that_share_nothing_do_not_meet(one: str, other: str, meet: bool) -> None:
    """Sets are drawn small enough to be told apart where people rely on it."""
    first, second = (mask_of(next(iter(grammar.parse(atom, ignore_case=False))), 0) for atom in (one, other))
    assert first is not None and second is not None
    assert bool(first & second) is meet


def test_case_makes_sets_meet() -> None:
    """Without regard to case a Kelvin sign is a k, and both may be met by \\w alone."""
    kelvin, letter = charsets.of_char(ord("\u212a"), re.IGNORECASE), charsets.of_char(ord("k"), re.IGNORECASE)
    assert kelvin & letter
    assert not charsets.of_char(ord("k"), 0) & charsets.of_char(ord("K"), 0)
