"""What hangs on a table: its key, tables whose rows go with its own, tables that inherit from it."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, literal, select
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table

from prunella.core.errors import DatabaseRefused

_FOLLOWERS = """
SELECT n.nspname, c.relname,
  ARRAY(SELECT attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute ON attrelid = f.conrelid AND attnum = number ORDER BY place),
  ARRAY(SELECT attname::text FROM unnest(f.confkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute ON attrelid = f.confrelid AND attnum = number ORDER BY place)
FROM pg_constraint AS f JOIN pg_class AS c ON c.oid = f.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE f.contype = 'f' AND f.confdeltype IN ('c', 'n', 'd') AND f.confrelid = CAST(%(table)s AS regclass)
"""
_HAS_HEIRS = """
SELECT EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST(%(table)s AS regclass) AND NOT c.relispartition)
"""
_FOLLOWERS_IN_FILE = """
SELECT t.name, f.id, f."from", f."to" FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f
WHERE t.type = 'table' AND lower(f."table") = lower(?) AND f.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
ORDER BY t.name, f.id, f.seq
"""


def key_columns(table: Table) -> list[Column[Any]]:
    """Return the columns of a table's primary key.

    Raises:
        DatabaseRefused: it has none, so that no row of it could be named.
    """
    key = list(table.primary_key.columns)
    if not key:
        raise DatabaseRefused(f"table {table.name}: it has no primary key, so its rows are not changed; add one")
    return key


def without_followers(connection: Connection, table: Table) -> list[ColumnElement[bool]]:
    """Return the conditions that no row of another table goes, or is changed, with a deleted one."""
    conditions = []
    for schema, child, own, theirs in _followers(connection, table):
        other = sql_table(child, *map(sql_column, own), schema=schema).alias("follower")
        same = [other.c[mine] == table.c[parent] for mine, parent in zip(own, theirs, strict=True)]
        conditions.append(~select(literal(1)).select_from(other).where(*same).exists())
    return conditions


def must_have_no_heirs(connection: Connection, table: Table) -> None:
    """Refuse a table that others inherit from (PostgreSQL); partitions are no heirs."""
    if connection.dialect.name == "postgresql":
        name = connection.dialect.identifier_preparer.format_table(table).replace("%%", "%")
        if connection.exec_driver_sql(_HAS_HEIRS, {"table": name}).scalar():
            raise DatabaseRefused(
                f"table {table.name}: other tables inherit from it, and an image of their rows would lack their own "
                "columns; name the table that holds the rows"
            )


def _followers(connection: Connection, table: Table) -> list[tuple[str | None, str, list[str], list[str]]]:
    """Return the tables whose rows go, or are changed, with a row of this one: schema, name, columns, ours."""
    if connection.dialect.name != "sqlite":
        name = connection.dialect.identifier_preparer.format_table(table).replace("%%", "%")
        found = connection.exec_driver_sql(_FOLLOWERS, {"table": name})
        return [(schema, child, own, theirs) for schema, child, own, theirs in found]
    key = [one.name for one in key_columns(table)]
    followers = []
    rows = connection.exec_driver_sql(_FOLLOWERS_IN_FILE, (table.name,)).all()
    for (child, _), columns in groupby(rows, key=lambda row: tuple(row[:2])):
        own, theirs = zip(*((row[2], row[3]) for row in columns), strict=True)
        followers.append((table.schema, child, list(own), key if None in theirs else list(theirs)))
    return followers
