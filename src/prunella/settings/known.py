"""The section `known_issues`: what is known beforehand, and how quickly something becomes known.

The packs that it names are read where prunella starts, not here: this room only says where they stand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from prunella.core.issues import BUILTIN, Learning
from prunella.settings import values as of
from prunella.settings.section import Section

_SUFFIXES: Final = (".yaml", ".yml")


def _pack(text: str) -> str:
    if text != BUILTIN and not text.endswith(_SUFFIXES):
        raise of.wrong(f"is no pack{of.nearest(text, [BUILTIN])}; write {BUILTIN}, or a YAML file as ./own.yaml")
    return text


Pack = Annotated[of.Text, AfterValidator(_pack)]


class KnownIssuesSection(Section):
    """What is known beforehand, and how quickly something becomes known."""

    packs: list[Pack] | None = Field(
        default=None,
        description="builtin, and YAML files relative to this one; the later of two with one id counts.",
    )
    promote_after: of.Count | None = Field(
        default=None, description="Independent occurrences that make a pattern a known issue."
    )
    escalate_at: of.Count | None = Field(
        default=None, description="Occurrences without a verified repair after which a person hears of an issue."
    )
    window: Annotated[float, of.Between("100ms", "1d")] | None = Field(
        default=None, description="Failures within one such stretch of time are one occurrence."
    )


def learning(section: KnownIssuesSection | None, beside: Path) -> Learning:
    """Return how something becomes known; files of packs stand relative to the folder `beside`."""
    given = section.given() if section is not None else {}
    if "packs" in given:
        given["packs"] = tuple(name if name == BUILTIN else str(beside / name) for name in given["packs"])
    if "window" in given:
        given["window_s"] = given.pop("window")
    return Learning(**given)
