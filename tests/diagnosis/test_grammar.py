"""Trees come from the standard library's own parser, and what is compiled from them is what it compiles."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from diagnosis.expressions import expressions, texts
from prunella.diagnosis import grammar


@given(expressions, texts)
def test_tree_compiles_to_what_its_text_compiles_to(expression: str, text: str) -> None:
    """Parsed and compiled, an expression finds what `re.compile` finds with it."""
    try:
        plain = re.compile(expression, re.IGNORECASE)
    except re.error:
        with pytest.raises(re.error):
            grammar.parse(expression, ignore_case=True)
        return
    tree = grammar.parse(expression, ignore_case=True)
    again = grammar.compiled(grammar.part(tree, list(tree)))
    assert [one.span() for one in again.finditer(text)] == [one.span() for one in plain.finditer(text)]


@pytest.mark.parametrize("ignore_case", [True, False])
def test_flags_are_the_callers_and_the_expressions_own(ignore_case: bool) -> None:
    """What is asked for and what is written inside both hold."""
    flags = grammar.flags_of(grammar.parse("(?s)a", ignore_case=ignore_case))
    assert flags & re.DOTALL
    assert bool(flags & re.IGNORECASE) is ignore_case


def test_parser_does_not_warn() -> None:
    """A bracket inside a set may mean more in a later Python; that is nobody's business here."""
    assert grammar.widths(grammar.parse("[[a]b", ignore_case=False)) == (2, 2)
