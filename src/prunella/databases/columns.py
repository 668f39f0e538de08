"""What a column of a user's table is: its sort, the primary key, and how a key is written as text.

Everything is read off reflected tables; a name that is not in the catalogue never becomes SQL.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, String, Table, bindparam, cast, false, or_, types
from sqlalchemy.dialects import mysql

from prunella.core.errors import DatabaseRefused


class Sort(StrEnum):
    """What a column holds, as far as time and comparisons need to know."""

    AWARE = "timestamp with time zone"
    NAIVE = "timestamp without time zone"
    DATE = "date"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    OTHER = "other"


def sort_of(column: Column[Any], kind: str) -> Sort:
    """Return the sort of a column of a database of that kind."""
    found: Any = declared(column)
    if kind == "sqlite":  # a declared type binds nothing there; texts are what dates and times are kept as
        return Sort.NUMBER if isinstance(found, types.Numeric | types.Float | types.Integer) else Sort.TEXT
    if isinstance(found, types.DateTime):
        aware = found.timezone or (kind == "mysql" and isinstance(found, mysql.TIMESTAMP))
        return Sort.AWARE if aware else Sort.NAIVE
    for of, sort in _SORTS:
        if isinstance(found, of):
            return sort
    return Sort.OTHER


def declared(column: Column[Any]) -> Any:
    """Return the type that a column was declared with, an alias' column too."""
    origin: Any = next(iter(column.base_columns))
    return origin.info.get("declared", origin.type)


def name_of(column: Column[Any]) -> str:
    """Return table and column as people write them."""
    origin: Any = next(iter(column.base_columns))
    return f"{origin.table.name}.{origin.name}"


def column_of(table: FromClause, name: str) -> Column[Any]:
    """Return a column by its exact name.

    Raises:
        DatabaseRefused: the table has none of that name.
    """
    found = table.columns.get(name)
    if not isinstance(found, Column):
        raise DatabaseRefused(no_such_column(table, name))
    return found


def no_such_column(table: FromClause, name: str) -> str:
    """Say that a column is missing, and which ones there are."""
    known = [column.name for column in table.columns]
    listed = ", ".join(known[:_LISTED_MAX]) + (", …" if len(known) > _LISTED_MAX else "")
    return f"table {_name(table)} has no column {name!r}{meant(name, known)}; it has: {listed}"


def meant(name: str, known: list[str]) -> str:
    """Return "; did you mean X?" where a name is nearly a known one, otherwise nothing."""
    lowered = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""


def primary_key(table: Table) -> Column[Any] | None:
    """Return the one column of the primary key; None where there is none or it has several."""
    columns = list(table.primary_key.columns)
    return columns[0] if len(columns) == 1 else None


def key_of(table: Table) -> Column[Any]:
    """Return the one column of the primary key.

    Raises:
        DatabaseRefused: there is none, or it has several columns.
    """
    column = primary_key(table)
    if column is None:
        raise DatabaseRefused(no_single_key(table))
    return column


def no_single_key(table: Table) -> str:
    """Say why rows of the table can't be named one by one."""
    names = ", ".join(column.name for column in table.primary_key.columns)
    has = f"has a primary key of several columns ({names})" if names else "has no primary key"
    return f"table {table.name} {has}; one column is needed, so that each row can be named, archived and put back"


def key_text(value: Any) -> str:
    """Write a key as a finding's key: the text that the database casts back to the value."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def has_key(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Ask for the row of one key, by an index of the column; a text that can't be a value of it has no row."""
    if not may_be_key(column, text):
        return false()
    as_text: ColumnElement[Any] = bindparam(None, text, type_=String(), unique=True)
    if not isinstance(column.type, types.NullType):
        return column == (as_text if isinstance(column.type, types.String) else cast(as_text, column.type))
    ways: list[ColumnElement[bool]] = [column == bindparam(None, text, type_=column.type, unique=True)]
    if _INTEGER.fullmatch(text) and len(text) <= _DIGITS_MAX:
        ways.append(column == bindparam(None, int(text), type_=column.type, unique=True))
    if _BYTES.fullmatch(text):
        ways.append(column == bindparam(None, bytes.fromhex(text[2:]), type_=column.type, unique=True))
    return or_(*ways)


def may_be_key(column: Column[Any], text: str) -> bool:
    """Tell whether a database could read the text as a value of the column, where that is known here."""
    if _UNFIT.search(text):
        return False
    if isinstance(column.type, types.Integer):
        bits = next((size for of, size in _BITS if isinstance(column.type, of)), 32)
        return _INTEGER.fullmatch(text) is not None and -(1 << bits - 1) <= int(text) < 1 << bits - 1
    return not isinstance(column.type, types.Uuid) or _UUID.fullmatch(text) is not None


def _name(table: FromClause) -> str:
    return str(getattr(getattr(table, "element", table), "name", table))


_INTEGER = re.compile(r"-?[0-9]{1,19}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BYTES = re.compile(r"\\x([0-9a-f]{2})*")
_UNFIT = re.compile("[\0\ud800-\udfff]")  # what no database takes in a text
_LISTED_MAX = 12
_DIGITS_MAX = 18  # what fits into 64 bits
_SORTS: tuple[tuple[Any, Sort], ...] = (
    (types.Date, Sort.DATE),
    (types.Boolean, Sort.BOOLEAN),
    (types.Numeric, Sort.NUMBER),
    (types.Float, Sort.NUMBER),
    (types.Integer, Sort.NUMBER),
    (types.String, Sort.TEXT),
)
_BITS: tuple[tuple[type[types.Integer], int], ...] = ((types.BigInteger, 64), (types.SmallInteger, 16))
