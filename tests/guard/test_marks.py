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


class Answer:
    """A response, as clients keep it in the errors that they make of it."""

    request_info: object = None


class StatusError(Exception):
    """What `raise_for_status` raises: a new one each time."""

    def __init__(self, response: object = None, request_info: object = None) -> None:
        self.response, self.request_info = response, request_info


def test_mark_on_an_answer_counts_for_the_errors_made_of_it() -> None:
    """They keep the answer (httpx, requests), or what it answers (aiohttp); another answer's are not meant."""
    seen, answer = GIVE_UPS.latest, Answer()
    answer.request_info = Answer()
    mark(answer)
    wrapped = ValueError()
    wrapped.__cause__ = StatusError(answer)
    for error in (StatusError(answer), StatusError(request_info=answer.request_info), wrapped):
        assert gave_up_below(error, seen)
        assert not gave_up_below(error, GIVE_UPS.latest)
    for other in (StatusError(Answer()), StatusError(request_info=Answer()), StatusError()):
        assert not gave_up_below(other, seen)


def test_mark_on_an_error_counts_for_its_answer() -> None:
    """One error was marked; what is made of the same answer afterwards is no news."""
    seen, answer = GIVE_UPS.latest, Answer()
    mark(StatusError(answer))
    assert gave_up_below(StatusError(answer), seen)


class Stranger:
    """An object that answers every question with itself, as stand-ins of tests do, or with an error."""

    def __init__(self, *, raises: bool) -> None:
        object.__setattr__(self, "raises", raises)

    def __getattr__(self, name: str) -> object:
        if self.raises:
            raise RuntimeError(name)
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(name)


def test_strange_answer_does_no_harm() -> None:
    """What can't be read bears no mark."""
    strangers: list[object] = [Stranger(raises=True), Stranger(raises=False), {}, 7]
    for strange in strangers:
        assert not gave_up_below(StatusError(strange, strange), GIVE_UPS.latest)
        mark(strange)


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
