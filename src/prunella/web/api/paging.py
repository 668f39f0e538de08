"""What every answer shares: how lists are cut into pages, how times and cursors are spelled, what is not there.

Answers are models beside the words that fill them (`IncidentOut.of`), so that each shape is known once: by the route
that answers it, by the document that promises it, and by the tests that compare both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from prunella.web.api.events import in_utc
from prunella.web.problems import Problem

PAGE = 50
_PAGE_MAX = 500
_TEXT_MAX = 500

R = TypeVar("R")
T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=_PAGE_MAX, description="How many items a page holds at most.")]
Cursor = Annotated[
    str | None, Query(max_length=2 * _TEXT_MAX, description="next_cursor of the page before; none: from the newest.")
]
Text = Annotated[str, Field(min_length=1, max_length=_TEXT_MAX, pattern=r"^[^\x00]*$")]
"""A filter by name."""
Account = Annotated[str, Field(max_length=_TEXT_MAX, pattern=r"^[^\x00]*$")]
"""A filter by account; empty: prunella's own one of a service."""
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A moment as it is spelled in JSON (RFC 3339)."""


Status = Annotated[str, Field(json_schema_extra={"enum": ["resolved", "pending", "disabled"]})]
"""Where an incident stands, as document B says it."""


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


class Page(Out, Generic[T]):
    """One page of a list, newest first where things have a time."""

    items: list[T]
    next_cursor: Annotated[str | None, Field(description="Where the next page begins; null: this was the last.")] = None


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
        spelled, last_id = base64.urlsafe_b64decode(cursor).decode().replace("\0", "").split(" ", 1)
        moment = datetime.fromisoformat(spelled)
        return in_utc(moment.replace(tzinfo=moment.tzinfo or UTC)), last_id
    except ValueError:  # binascii.Error is one
        raise Problem(422, "The cursor is not ours", "take next_cursor of the page before, unchanged") from None


def cut(found: Sequence[R], limit: int, mark: Callable[[R], tuple[datetime, str]]) -> tuple[list[R], str | None]:
    """Cut a page out of rows of which one more was asked for; return it with the cursor of the next.

    Args:
        mark: the moment and the id by which the rows are ordered.
    """
    page = list(found[:limit])
    return page, cursor_of(*mark(page[-1])) if len(found) > limit else None


def from_list(
    found: Sequence[R], limit: int, cursor: str | None, mark: Callable[[R], str]
) -> tuple[list[R], str | None]:
    """Cut a page out of everything there is, ordered by `mark`; for lists that a person wrote or could read."""
    key = before(cursor)
    rest = sorted((one for one in found if key is None or mark(one) > key[1]), key=mark)
    return cut(rest, limit, lambda one: (_ANY_TIME, mark(one)))


def given(equal: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters that were asked for."""
    return {name: value for name, value in equal.items() if value is not None}


_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands in cursors of lists that are ordered by name."""
