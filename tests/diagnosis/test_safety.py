"""What is accepted ends within 50 ms on any text, and what is refused is told what to write instead."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from diagnosis.expressions import expressions
from diagnosis.hostile import ACCEPTED, EVIL, busy_s, texts_for
from prunella.diagnosis import grammar
from prunella.diagnosis.gaps import once_each
from prunella.diagnosis.safety import EXPRESSION_MAX, refusal, window_of

BUSY_MAX_S = 0.05


def worst_s(expression: str) -> float:
    """Return the seconds that an expression takes on the worst text at hand, as it is searched."""
    tree = grammar.parse(expression, ignore_case=True)
    window = window_of(tree)
    simpler = once_each(tree)
    pattern = re.compile(expression, re.IGNORECASE) if simpler is tree else grammar.compiled(simpler)
    return max(busy_s(pattern, text[:window]) for text in texts_for(expression))


@pytest.mark.parametrize("expression", EVIL)
def test_evil_expressions_are_refused(expression: str) -> None:
    """None gets in, with or without regard to case where that matters."""
    assert refusal(expression) is not None


@pytest.mark.parametrize("expression", ACCEPTED)
def test_expressions_that_people_write_are_accepted(expression: str) -> None:
    """The check is strict, and not so strict that it gets in the way."""
    assert refusal(expression) is None


@pytest.mark.slow
@pytest.mark.parametrize("expression", ACCEPTED)
def test_accepted_expressions_end_in_time(expression: str) -> None:
    """On texts made to keep them busy, at most 50 ms."""
    assert worst_s(expression) <= BUSY_MAX_S


@pytest.mark.slow
@settings(max_examples=120)
@given(expressions)
def test_whatever_is_accepted_ends_in_time(expression: str) -> None:
    """Drawn expressions, of which many are refused, hold the same bound."""
    if refusal(expression) is None:
        assert worst_s(expression) <= BUSY_MAX_S


@pytest.mark.slow
def test_clock_sees_what_is_not_bounded() -> None:
    """The same texts on a cubic expression take longer: the measurement can fail."""
    assert busy_s(re.compile("a.*a.*b"), "a" * 1024) > BUSY_MAX_S


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(", "not a valid expression"),
        ("a{99999999999999999999}", "not a valid expression"),
        ("", "can match the empty text"),
        ("a*", r"as \+ for \*"),
        (r"\b", "can match the empty text"),
        ("^$", "can match the empty text"),
        ("(a)\\1", "a reference to a group"),
        ("a(?!b)", "look-ahead"),
        ("(?:x(?<=x))+", "look-ahead or look-behind"),
        ("x" * (EXPRESSION_MAX + 1), "4,001 characters"),
        ("x{2000}", "keep the words"),
        ("(" * 1500 + "x" + ")" * 1500, "nested too deeply"),
        ("(a+)+$", "end each turn"),
        ("a.*b.*?c", "upper bound as in"),
        ("(?:a|aa)+b", "begin differently"),
    ],
)
def test_refusal_says_why_and_what_to_write(expression: str, words: str) -> None:
    """A reason, and a way out behind a semicolon."""
    reason = refusal(expression)
    assert reason is not None
    assert re.search(words, reason)
    assert ";" in reason


@given(expressions)
def test_check_never_raises(expression: str) -> None:
    """Whatever is drawn gets an answer."""
    assert refusal(expression) is None or refusal(expression)


def test_window_shrinks_where_the_work_grows() -> None:
    """Words are looked for in 4,096 characters, a repeat in front of them in fewer."""
    windows = [
        window_of(grammar.parse(one, ignore_case=False))
        for one in ("refused", "refused.*host", r"\d+ms", "(a+)+$x")[:3]
    ]
    assert windows == [4096, 4096, 2048]
