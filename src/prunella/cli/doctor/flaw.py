"""One thing that a person should put right or know, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prunella.cli.printing import coloured, say


class Grade(StrEnum):
    """How grave it is: an error makes the status 1, a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_COLOURS = {Grade.ERROR: "red", Grade.WARNING: "yellow", Grade.NOTE: "dim"}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One finding of the doctor.

    Args:
        about: what was looked at, in a word or two.
        text: the fact, with its value; it begins with file:line:column where the file has a place for it.
        fix: a command to run or a line to write; empty where there is nothing to do.
    """

    grade: Grade
    about: str
    text: str
    fix: str = ""

    @property
    def is_error(self) -> bool:
        """Tell whether it must be put right."""
        return self.grade is Grade.ERROR


def error(about: str, text: str, fix: str = "") -> Flaw:
    """Return what must be put right."""
    return Flaw(Grade.ERROR, about, text, fix)


def warning(about: str, text: str, fix: str = "") -> Flaw:
    """Return what should be put right."""
    return Flaw(Grade.WARNING, about, text, fix)


def note(about: str, text: str) -> Flaw:
    """Return what is only good to know."""
    return Flaw(Grade.NOTE, about, text)


def as_rows(found: Sequence[Flaw]) -> list[dict[str, Any]]:
    """Return findings as JSON values."""
    return [{"grade": one.grade.value, "about": one.about, "text": one.text, "fix": one.fix or None} for one in found]


def tell(found: Sequence[Flaw], config: str) -> None:
    """Print findings, the gravest first, each with its fix on lines of its own to be copied."""
    for grade in Grade:
        for one in (one for one in found if one.grade is grade):
            say(f"{coloured(grade.value, _COLOURS[grade])}: {one.about}: {one.text}", hang=2)
            for line in one.fix.splitlines():
                print(f"    {line}")  # never wrapped: it is there to be copied
    errors, warnings = (sum(one.grade is grade for one in found) for grade in (Grade.ERROR, Grade.WARNING))
    told = [f"{errors} to put right"] * bool(errors) + [f"{warnings} to think about"] * bool(warnings)
    print(f"{config}: {', '.join(told) or 'all is well'}")
