"""What each kind and each status means: complete, and nothing leads to a kind that a diagnosis would refuse."""

from __future__ import annotations

from prunella.core.records import KINDS
from prunella.diagnosis import tables


def test_facts_cover_every_kind() -> None:
    """Retryable, actor and advice are told for each kind, and for no other."""
    assert set(tables.FACTS) == set(KINDS)


def test_tables_name_known_kinds_only() -> None:
    """A status leads to a kind; words make a kind finer, never of itself."""
    assert {kind for kind, _ in tables.STATUSES.values()} <= set(KINDS)
    for kind, finer in tables.FINER.items():
        assert {kind, *finer} <= set(KINDS)
        assert kind not in finer


def test_confidence_is_a_share() -> None:
    """Every figure lies between a coin's throw and certainty."""
    figures = [confidence for _, confidence in tables.STATUSES.values()] + list(tables.WORD_CONFIDENCE.values())
    assert all(0.5 <= figure < 1.0 for figure in figures)
