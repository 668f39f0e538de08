"""Texts for PostgreSQL that take no parameters (bodies of functions, comments): every name and value is quoted here."""

from __future__ import annotations


def name_of(*parts: str) -> str:
    """Quote a name, as `schema`, `table`."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def text_of(value: str) -> str:
    """Quote a text, whatever it holds and however backslashes are read (PostgreSQL manual, section 4.1.2.2)."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def texts_of(values: tuple[str, ...]) -> str:
    """Spell an array of texts."""
    return f"ARRAY[{', '.join(map(text_of, values))}]::text[]"
