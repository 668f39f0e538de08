"""One expression in one message: the places that `re` finds, on a beginning that cannot take long."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import pytest
from hypothesis import given, settings

from diagnosis.expressions import expressions, texts
from prunella.diagnosis import safety
from prunella.diagnosis.verifier import SHORT, Unsafe, Verifier, linear


def has_re2() -> bool:
    """Tell whether google-re2 is here to be compared with."""
    try:
        return hasattr(importlib.import_module("re2"), "Set")
    except ImportError:
        return False


def test_places_are_found_at_most_ten() -> None:
    """Where they begin and end."""
    assert Verifier("time[a-z]+", ignore_case=True).spans("Timeout, timeout") == ((0, 7), (9, 16))
    assert Verifier("refused", ignore_case=False).spans("Refused") == ()
    assert len(Verifier("a", ignore_case=True).spans("a" * 50)) == 10


@pytest.mark.parametrize(("expression", "window"), [("refused", 4096), (r"\d+ms", 2048)])
def test_long_texts_are_looked_at_in_their_beginning(
    expression: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind the window is not found by `re`."""
    monkeypatch.setitem(sys.modules, "re2", None)
    word = "refused" if expression == "refused" else " 12ms"
    for place, found in ((window - len(word), True), (window - len(word) + 2, False)):
        text = (" " * place + word).ljust(5000)
        assert bool(Verifier(expression, ignore_case=True).spans(text)) is found, place


def test_expression_that_is_not_safe_is_never_searched() -> None:
    """It is checked before its first search, whoever built the verifier."""
    with pytest.raises(Unsafe, match="end each turn"):
        Verifier("x(a+)+$", ignore_case=True).spans("x" + "a" * 5000)


@pytest.mark.parametrize("present", [None, ModuleType("re2")])
def test_other_engine_is_not_needed(present: ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without google-re2, or with another package of its name, nothing is asked of it."""
    monkeypatch.setitem(sys.modules, "re2", present)
    assert linear("refused", ignore_case=True) is None
    assert Verifier("refused", ignore_case=True).spans("x" * SHORT + "refused") == ((SHORT, SHORT + 7),)


@pytest.mark.skipif(not has_re2(), reason="google-re2 is not installed")
@settings(max_examples=300)
@given(expressions, texts)
def test_both_engines_find_the_same_places(expression: str, text: str) -> None:
    """Wherever google-re2 is asked, it says what `re` says."""
    text = (text + " ") * (SHORT // (len(text) + 1) + 1)
    asked = text.isascii() and linear(expression, ignore_case=True) is not None
    if asked and safety.refusal(expression) is None and len(text) < 1024:
        plain = tuple(one.span() for one in re.finditer(expression, text, re.IGNORECASE))[:10]
        assert Verifier(expression, ignore_case=True).spans(text) == plain


@pytest.mark.skipif(not has_re2(), reason="google-re2 is not installed")
def test_linear_engine_reads_all_of_a_long_text() -> None:
    """What `re` would leave out is found."""
    assert Verifier(r"\d+ms", ignore_case=True).spans("x" * 9000 + " 12ms") == ((9001, 9005),)
