"""An opinion is a record like any other, and can't be more than one."""

from __future__ import annotations

import pytest

from prunella.core.advice import Advice, Prompt
from prunella.core.records import Category, Level


def opinion(kind: str = "network.timeout", category: str = "network") -> Advice:
    return Advice(
        category=Category(category),
        kind=kind,
        summary="slow",
        steps=("wait",),
        prevention="",
        proposed_action="replay",
        confidence=1.0,
    )


def test_proposal_is_always_for_a_person() -> None:
    """However sure it is, its level is L2, and nobody can write another one there."""
    advice = opinion()
    assert advice.level is Level.L2
    with pytest.raises((AttributeError, TypeError)):
        advice.level = Level.L0  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "category"), [("auth.expired", "network"), ("made.up", "unknown")])
def test_advice_keeps_kind_and_category_together(kind: str, category: str) -> None:
    """A kind that is unknown or of another category makes no advice."""
    with pytest.raises(ValueError, match="is no kind of"):
        opinion(kind, category)


def test_prompt_does_not_print_its_words() -> None:
    """Whoever logs a prompt logs its digest."""
    prompt = Prompt(body={"messages": "the words"}, digest="d1", tokens_max=9)
    assert "the words" not in repr(prompt)
    assert "d1" in repr(prompt)
