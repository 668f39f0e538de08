"""What the two databases spell differently in the views: names, JSON, spans of time."""

from __future__ import annotations

from dataclasses import dataclass

from prunella.store.tables import SCHEMA


@dataclass(frozen=True, slots=True)
class Spelling:
    """SQL of one database; every argument is SQL of ours, never a value."""

    postgres: bool

    @property
    def prefix(self) -> str:
        """Return what stands in front of our tables."""
        return f"{SCHEMA}." if self.postgres else ""

    def json_text(self, column: str, *path: str) -> str:
        """Read the text at a path of a JSON column."""
        if self.postgres:
            keys = "".join(f"->'{name}'" for name in path[:-1])
            return f"({column}{keys}->>'{path[-1]}')"
        return f"json_extract({column}, '$.{'.'.join(path)}')"

    def json_number(self, column: str, *path: str) -> str:
        """Read the whole number at a path of a JSON column; NULL where something else stands there."""
        found = self.json_text(column, *path)
        if self.postgres:
            return f"CAST(substring({found} from '^[0-9]{{1,9}}$') AS integer)"
        return f"CASE WHEN typeof({found}) = 'integer' THEN {found} END"

    def json_object(self, **members: str) -> str:
        """Make a JSON object."""
        inside = ", ".join(f"'{name}', {value}" for name, value in members.items())
        return f"{'jsonb_build_object' if self.postgres else 'json_object'}({inside})"

    def pairs(self, column: str) -> str:
        """Spell a JSON list of (name, value) as lines of text."""
        if self.postgres:
            lines = "string_agg((pair->>0) || ': ' || (pair->>1), E'\\n' ORDER BY at)"
            return f"(SELECT {lines} FROM jsonb_array_elements({column}) WITH ORDINALITY AS pairs(pair, at))"  # noqa: S608, names of ours
        line = "json_extract(pairs.value, '$[0]') || ': ' || json_extract(pairs.value, '$[1]')"
        return f"(SELECT group_concat({line}, char(10)) FROM json_each({column}) AS pairs)"  # noqa: S608, names of ours

    def minutes(self, start: str, end: str) -> str:
        """Return the minutes from one moment to another."""
        if self.postgres:
            return f"(extract(epoch FROM ({end} - {start})) / 60)"
        return f"((julianday({end}) - julianday({start})) * 1440)"

    def day(self, moment: str) -> str:
        """Return the day of a moment, in UTC."""
        return f"CAST({moment} AT TIME ZONE 'UTC' AS date)" if self.postgres else f"substr({moment}, 1, 10)"

    def date(self, text: str) -> str:
        """Read an ISO date."""
        return f"CAST({text} AS date)" if self.postgres else text

    def rounded(self, number: str) -> str:
        """Round to two places."""
        return f"CAST(round(CAST({number} AS numeric), 2) AS double precision)"
