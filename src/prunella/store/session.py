"""Run prepared statements on one open connection and hand back rows as records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import Table, and_, or_, true

from prunella.core.errors import Conflict
from prunella.store.sql import Bound, BulkInsert, Dialect, Prepared, Row, Sql, bulk_insert

_ROWS_PER_INSERT = 200  # 200 rows of at most 33 columns stay below SQLite's 32,766 parameters

Record = TypeVar("Record")


class Connection(Protocol):
    """The one thing a database has to bring: run this text with these values inside the open transaction."""

    dialect: Dialect
    driver: Any

    async def run(self, text: str, values: Bound) -> tuple[Sequence[Sequence[Any]], int]:
        """Return the rows that came back and how many rows were touched."""
        ...


class Session:
    """Statements in, rows out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    async def fetch(self, statement: Sql | Prepared, **values: Any) -> list[Row]:
        """Return every row of a query (or of a change with RETURNING)."""
        prepared = statement.prepared(self.dialect) if isinstance(statement, Sql) else statement
        fetched, _ = await self._connection.run(prepared.text, prepared.bind(values))
        return prepared.rows(fetched)

    async def one(self, statement: Sql | Prepared, **values: Any) -> Row | None:
        """Return the first row, or None."""
        rows = await self.fetch(statement, **values)
        return rows[0] if rows else None

    async def change(self, statement: Sql, **values: Any) -> int:
        """Run a change and return how many rows it touched."""
        prepared = statement.prepared(self.dialect)
        _, touched = await self._connection.run(prepared.text, prepared.bind(values))
        return touched

    async def change_alike(self, statement: Sql, changes: Mapping[str, Row], **shared: Any) -> set[str]:
        """Run a change once for all `ids` that get the same values; return the ids that it touched (RETURNING id)."""
        alike: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
        for id_, values in changes.items():
            alike[tuple(values.items())].append(id_)
        touched: set[str] = set()
        for same, ids in alike.items():
            touched |= {row["id"] for row in await self.fetch(statement, ids=ids, **dict(same), **shared)}
        return touched

    async def insert(self, table: Table, rows: Sequence[Row], *, conflict: str = "", returning: str = "") -> list[Any]:
        """Insert `rows`; return the first column of what RETURNING named, in no promised order."""
        tail = conflict + (f" RETURNING {returning}" if returning else "")
        return [row[0] for _, fetched in await self._insert(table, rows, tail) for row in fetched]

    async def upsert(self, table: Table, rows: Sequence[Row], *, conflict: str) -> list[Row]:
        """Insert `rows`, or change what is in their way as `conflict` says; return them whole, in no promised order."""
        tail = f"{conflict} RETURNING {', '.join(column.name for column in table.columns)}"
        return [row for insert, fetched in await self._insert(table, rows, tail) for row in insert.rows(fetched)]

    async def _insert(
        self, table: Table, rows: Sequence[Row], tail: str
    ) -> list[tuple[BulkInsert, Sequence[Sequence[Any]]]]:
        done = []
        for start in range(0, len(rows), _ROWS_PER_INSERT):
            part = rows[start : start + _ROWS_PER_INSERT]
            insert = bulk_insert(self.dialect, table, len(part), tail)
            fetched, _ = await self._connection.run(insert.text, insert.bind(part))
            done.append((insert, fetched))
        return done


def row_of(record: Any) -> Row:
    """Spell a record as a row: its fields are the table's columns."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def records(kind: type[Record], rows: Sequence[Row]) -> list[Record]:
    """Make records of full rows."""
    return [kind(**row) for row in rows]


def record(kind: type[Record], row: Row | None) -> Record | None:
    """Make a record of a full row, or None of none."""
    return None if row is None else kind(**row)


def behind(moment: Any, id_: Any, mark: tuple[datetime, str] | None) -> Any:
    """Return the condition of a listing, newest first, that goes on behind `mark`; None begins with the newest.

    The first half alone lets an index begin there; without it each page would read all pages before it.
    """
    if mark is None:
        return true()
    return and_(moment <= mark[0], or_(moment < mark[0], id_ < mark[1]))


def must_change(touched: int, what: str) -> None:
    """Raise `Conflict` when a compare-and-set touched nothing."""
    if touched != 1:
        raise Conflict(f"{what} changed since it was read; read it again and decide anew")
