"""How lists are cut into pages, and how times, cursors and unknown things are spelled."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query

from prunella.web.api.events import in_utc
from prunella.web.problems import Problem

PAGE = 50
_PAGE_MAX = 500

Limit = Annotated[int, Query(ge=1, le=_PAGE_MAX)]


def unknown(what: str, name: str) -> Problem:
    """Say that there is no such thing."""
    return Problem(404, f"Unknown {what}", f"there is no {what} {name[:100]!r}")


def spell_time(moment: datetime | None) -> str | None:
    """Write a moment as JSON does."""
    return moment.isoformat() if moment is not None else None


def cursor_of(moment: datetime, last_id: str) -> str:
    """Name the last row of a page, so that the next one goes on behind it."""
    return base64.urlsafe_b64encode(f"{moment.isoformat()} {last_id}".encode()).decode()


def before(cursor: str | None) -> tuple[datetime, str] | None:
    """Read a cursor; None begins at the newest row."""
    if cursor is None:
        return None
    try:
        spelled, last_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        moment = datetime.fromisoformat(spelled)
        return in_utc(moment.replace(tzinfo=moment.tzinfo or UTC)), last_id
    except ValueError:  # binascii.Error is one
        raise Problem(422, "The cursor is not ours", "take next_cursor of the page before, unchanged") from None


def given(equal: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters that were asked for."""
    return {name: value for name, value in equal.items() if value is not None}
