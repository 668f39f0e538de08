"""Values on their way into a database: what one would refuse or sort wrongly is put right here, and only here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""NUL as JSON spells it, told apart from a written-out backslash in front of `u0000`."""


def in_utc(moment: datetime) -> datetime:
    """Return the same moment in UTC; a time without a zone is refused, since it could be any moment."""
    if moment.tzinfo is None:
        raise ValueError(f"time {moment.isoformat()} has no zone; prunella stores aware times only")
    return moment.astimezone(UTC)


def iso(moment: datetime) -> str:
    """Spell a time so that text sorts as the moments do: one zone, one width."""
    return in_utc(moment).isoformat(sep=" ", timespec="microseconds")


def storable(text: str) -> str:
    """Replace what no UTF-8 column takes: PostgreSQL refuses NUL, and half a surrogate pair has no encoding."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def storable_all(texts: Sequence[str]) -> list[str]:
    """Do so for each of several texts."""
    return [storable(text) for text in texts]


def json_text(value: Any) -> str:
    """Spell a JSON value, with the same replacements in every text of it."""
    text = storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return _ESCAPED_NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def hexadecimal(value: bytes) -> str:
    """Spell bytes as PostgreSQL reads them from text (its manual, section 8.4.1)."""
    return "\\x" + value.hex()


def jsonb(value: Any) -> Any:
    """Wrap a JSON value for PostgreSQL."""
    from psycopg.types.json import Jsonb

    return Jsonb(value, dumps=json_text)
