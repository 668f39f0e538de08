"""Spans become marks once, whatever lies across them."""

from __future__ import annotations

from prunella.core.redact.marks import Span, replaced

MARK = "[REDACTED:url:0a1b]"


def marked(text: str, *spans: Span) -> str:
    return replaced(text, spans, lambda kind, value: f"<{kind}:{len(value)}>")


def test_overlapping_spans_become_one() -> None:
    """Two that overlap are one mark from the first to the last letter; two that touch are two."""
    assert marked("0123456789", (2, 5, "a"), (4, 8, "b")) == "01<a:6>89"
    assert marked("0123456789", (2, 5, "a"), (5, 8, "b")) == "01<a:3><b:3>89"
    assert marked("0123456789", (3, 3, "a")) == "0123456789"


def test_earlier_marks_are_left_alone() -> None:
    """A span within a mark, or cutting through it, goes; one around it, or of a known value, is taken."""
    text = f"x {MARK} y"
    assert marked(text, (3, 8, "a"), (0, 6, "b")) == text
    assert marked(text, (0, len(text), "a")) == f"<a:{len(text)}>"
    assert marked(text, (3, 8, "known")) != text
