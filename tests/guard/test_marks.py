"""What was tried below is known by its mark, however often one error object is raised and however it is wrapped."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from prunella.guard.marks import GIVE_UPS, gave_up_below, leave_note, mark


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that can't be written on in the usual way."""

    number: int = 1


@pytest.mark.parametrize("error", [ValueError(), Frozen(), KeyboardInterrupt()])
def test_mark_counts_for_attempts_that_had_begun(error: BaseException) -> None:
    """For an attempt that was under way it was tried below; for one that begins afterwards it was not."""
    seen = GIVE_UPS.latest
    assert not gave_up_below(error, seen)
    mark(error)
    assert gave_up_below(error, seen)
    assert not gave_up_below(error, GIVE_UPS.latest)


def test_mark_is_seen_through_causes_contexts_and_groups() -> None:
    """Wrapped, translated or gathered: the mark still counts; a chain that bites its tail ends."""
    seen, inner = GIVE_UPS.latest, ValueError()
    mark(inner)
    caused, met = TypeError(), TypeError()
    caused.__cause__, met.__context__ = inner, caused
    for error in (caused, met, ExceptionGroup("many", [OSError(), met])):
        assert gave_up_below(error, seen)
    circle = TypeError()
    circle.__context__ = other = TypeError()
    other.__context__ = circle
    assert not gave_up_below(circle, seen)


def test_note_stays_one_per_beginning() -> None:
    """Raised again and again, an error keeps the latest note of each policy, and the notes of others."""
    error = Frozen()
    for times in range(3):
        leave_note(error, "prunella crm: ", f"{times} attempts")
        leave_note(error, "prunella erp: ", f"{times} attempts")
    assert error.__notes__ == ["prunella crm: 2 attempts", "prunella erp: 2 attempts"]


def test_error_that_can_not_be_written_on_is_left_alone() -> None:
    """No mark and no note is worth hiding the error itself."""
    error = ValueError()
    error.__notes__ = 7  # type: ignore[assignment]
    leave_note(error, "prunella crm: ", "1 attempt")
    assert error.__notes__ == 7  # type: ignore[comparison-overlap]
