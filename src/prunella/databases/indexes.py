"""Which index lets a check answer without reading the whole table, and which of them is missing.

`prunella doctor` shows what is missing with its statement; nothing is ever created here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, inspect

from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import (
    Entity,
    ErrorsCheck,
    FreshnessCheck,
    OrphansCheck,
    Procedure,
    RowsCheck,
    StuckCheck,
)
from prunella.databases.handle import Database

Wanted = tuple[str, tuple[str, ...]]
Missing = tuple[str, tuple[str, ...], str]
_NAME_BYTES_MAX = 63


def wanted(procedure: Procedure, entity: Entity | None = None) -> Iterator[Wanted]:
    """Say which columns of which table should lead an index, the most selective equality first, time last."""
    match procedure.check:
        case FreshnessCheck() as check:
            yield check.table, (check.column,)
        case ErrorsCheck() as check:
            yield check.table, (check.at,)
        case RowsCheck() as check:
            equal = tuple(name for name, value in check.where.items() if not isinstance(value, dict) or "eq" in value)
            ranges = tuple(name for name in (*check.where, *check.older_than) if name not in equal)
            if equal or ranges:
                yield check.table, (*equal, *ranges[:1])
        case OrphansCheck() as check:
            yield check.parent, (check.parent_key,)
            yield check.child, (check.column,)
        case StuckCheck() if entity is not None:
            yield entity.table, (entity.status, entity.since)


def missing(
    database: Database, connection: Connection, procedure: Procedure, entity: Entity | None = None
) -> list[Missing]:
    """Return table, columns and CREATE INDEX statement of each index that a check wants and does not find."""
    found = []
    for name, columns in wanted(procedure, entity):
        try:
            table = database.table(connection, name)
        except DatabaseRefused:
            continue  # the catalogue says so
        if all(column in table.columns for column in columns) and not _has(database, connection, table, columns):
            found.append((name, columns, statement(database, connection, table, columns)))
    return found


def statement(database: Database, connection: Connection, table: Table, columns: tuple[str, ...]) -> str:
    """Write the CREATE INDEX, with quoted names; on PostgreSQL one that locks no writer out."""
    quote = connection.dialect.identifier_preparer
    name = f"prunella_{table.name}_{'_'.join(columns)}".encode()[:_NAME_BYTES_MAX].decode(errors="ignore")
    listed = ", ".join(quote.quote(column) for column in columns)
    concurrently = " CONCURRENTLY" if database.kind == "postgresql" else ""
    made = f"CREATE INDEX{concurrently} {quote.quote(name)} ON {quote.format_table(table)} ({listed})"
    return made.replace("%%", "%")  # doubled for a driver, and this is for people


@dataclass(frozen=True, slots=True)
class _Index:
    columns: tuple[Any, ...]
    where: str = ""


def _has(database: Database, connection: Connection, table: Table, columns: tuple[str, ...]) -> bool:
    """Look for an index that begins with the columns; the equalities among them in any order."""
    return any(
        not index.where
        and sorted(index.columns[: len(columns) - 1]) == sorted(columns[:-1])
        and index.columns[len(columns) - 1 : len(columns)] == columns[-1:]
        for index in _indexes(database, connection, table)
    )


def _indexes(database: Database, connection: Connection, table: Table) -> Iterator[_Index]:
    seen, schema = inspect(connection), database.source.schema
    yield _Index(tuple(column.name for column in table.primary_key.columns))
    for unique in seen.get_unique_constraints(table.name, schema=schema):
        yield _Index(tuple(unique["column_names"]))
    for index in seen.get_indexes(table.name, schema=schema):
        options = index.get("dialect_options", {})
        where = options.get("postgresql_where") or options.get("sqlite_where")
        yield _Index(tuple(name or "" for name in index["column_names"]), "" if where is None else str(where))
