"""Counting and naming rows without reading them all: only counts and the named keys leave the database."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, func, literal, select


def named(connection: Connection, found: Select[Any], key: ColumnElement[Any], cap: int) -> tuple[int, tuple[Any, ...]]:
    """Count every row of a condition, and return the first keys in order; for conditions that an index answers.

    The count alone may not have to read the rows; and where all are named, no walk along the key is worth its while.
    """
    count = connection.execute(found.with_only_columns(func.count())).scalar_one()
    if not count:
        return 0, ()
    keys = found.with_only_columns(key).order_by(key)
    rows = connection.execute(keys.limit(cap) if count > cap else keys).scalars()
    return count, tuple(rows)


def counted(connection: Connection, found: Select[Any], cap: int) -> tuple[int, tuple[Any, ...]]:
    """Do the same in one pass, for conditions that are costly to answer twice; the selection is one of `key`."""
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
