"""Values on their way into a user's table: parameters of the column's type, and `now` as the column spells moments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, DateTime, Table, bindparam, func
from sqlalchemy.types import NullType

from prunella.databases.columns import column_of
from prunella.databases.handle import Database
from prunella.databases.moments import Moments

NOW = "now"
"""The word that stands for the database's own moment."""


def expressions(
    database: Database, connection: Connection, table: Table, values: Mapping[str, Any], *, unit: str | None = None
) -> dict[str, ColumnElement[Any]]:
    """Return what is to be written, by column.

    Raises:
        DatabaseRefused: there is no such column, or it can't hold a moment.
    """
    if database.kind == "postgresql":
        values = {name: _on_server(column_of(table, name), one) for name, one in values.items()}
    moments = Moments(database, connection, unit=unit) if _has_moment(values) else None
    return {name: _expression(database.kind, moments, column_of(table, name), one) for name, one in values.items()}


def _has_moment(values: Mapping[str, Any]) -> bool:
    return any(one == NOW or isinstance(one, datetime) for one in values.values() if isinstance(one, (str, datetime)))


def _on_server(column: Column[Any], value: Any) -> Any:
    """Let the server put in its own moment where the column's type leaves no question; that saves a way there."""
    is_now = isinstance(value, str) and value == NOW
    return func.now() if is_now and isinstance(column.type, DateTime) and column.type.timezone else value


def _expression(kind: str, moments: Moments | None, column: Column[Any], value: Any) -> ColumnElement[Any]:
    if isinstance(value, ColumnElement):
        return value
    if isinstance(value, str) and value == NOW and moments is not None:
        return bound(column, moments.value(column))
    if kind != "sqlite":
        return bound(column, value)
    if isinstance(value, datetime):
        aware = value.tzinfo is not None and moments is not None
        return bound(column, moments.value(column, value) if aware and moments else value.isoformat(" "))
    if isinstance(value, (date, time)):
        return bound(column, value.isoformat())
    if isinstance(value, Decimal):
        return bound(column, str(value))
    return bound(column, json.dumps(value) if isinstance(value, (dict, list)) else value)


def bound(column: Column[Any], value: Any) -> ColumnElement[Any]:
    """Return a value as a parameter of the column's type."""
    known = not isinstance(column.type, NullType)
    return bindparam(None, value, type_=column.type if known else NullType(), unique=True)
