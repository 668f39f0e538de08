"""What all sections of prunella.yaml have in common: known names only, empty means not given, every mistake at once."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from prunella.settings.source import Loc

Found = list[tuple[Loc, PydanticCustomError]]
"""Mistakes between values of one section, each with its way from there."""


class Section(BaseModel):
    """A mapping with known names; an empty value counts as not given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        known = names_of(cls)
        return {name: value for name, value in data.items() if value is not None or name not in known}

    @model_validator(mode="after")
    def _fitting(self) -> Section:
        found = self.misfits()
        if found:
            raise PydanticCustomError("several", "several mistakes", {"found": found})
        return self

    def misfits(self) -> Found:
        """List what does not fit together, though each value is fine."""
        return []

    def given(self) -> dict[str, Any]:
        """Return what the file sets, by field name."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def names_of(section: type[Section]) -> list[str]:
    """List the names that a section knows, as they are written in the file."""
    return [info.alias or name for name, info in section.model_fields.items()]
