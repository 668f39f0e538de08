"""Counting and naming rows without reading them all: only counts and the named keys leave the database."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Select, Table, func, literal, select


def counted(connection: Connection, found: Select[Any], cap: int) -> tuple[int, tuple[Any, ...]]:
    """Count every row of a selection of `key`, and return the first keys in order: one pass, `cap` in memory."""
    matches = found.cte("matches")
    count = select(func.count()).select_from(matches).scalar_subquery()
    rows = connection.execute(select(matches.c.key, count).order_by(matches.c.key).limit(cap)).all()
    return (rows[0][1], tuple(row[0] for row in rows)) if rows else (0, ())


def size(connection: Connection, table: Table, most: int) -> int:
    """Count the rows of a table, no further than `most`."""
    return up_to(connection, select(literal(1)).select_from(table), most)


def enough(count: int, share: float) -> int:
    """Return the number of rows of which `count` are no larger share than `share` (more than 0, at most 1)."""
    return math.ceil(count / share)


def up_to(connection: Connection, found: Select[Any], most: int) -> int:
    """Count the rows of a selection, no further than `most`."""
    return connection.execute(select(func.count()).select_from(found.limit(most).subquery())).scalar_one()
