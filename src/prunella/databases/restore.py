"""Put back what a run changed, byte for byte, or say for each row why it is left as it is.

A row that was deleted comes back unless something stands against it; a row that was changed gets its old values back
only where it still holds those that the run gave it. A row that came back is compared with its image before it counts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import Connection, Table, func, select, update
from sqlalchemy.exc import DBAPIError

from prunella.core.errors import DatabaseRefused
from prunella.databases.handle import Database

_ROWS_PER_STATEMENT = 500
_NOT_OF_THE_ROW = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATEs that say nothing about a row: connection, deadlock, no space, lock, limit."""

IS_THERE = "a row with its key is there again"
SPOILED = "a trigger of the table changed it while it was put back"


@dataclass(slots=True)
class Restored:
    """What could be put back: how many rows, and key -> why a row was left as it is."""

    rows: int = 0
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the archive: a change of one row."""

    id: int
    table: str
    key: str
    before: Mapping[str, str | None]
    after: Mapping[str, str | None] | None
    undone_at: Any

    @property
    def kind(self) -> tuple[str, bool, tuple[str, ...]]:
        """Return what entries that one statement puts back have in common."""
        return self.table, self.after is None, tuple(self.before)


class Kept(Exception):
    """Say why rows are left as they are.

    Args:
        ids: of the entries it is about; empty: one or more of them, nobody knows which.
    """

    def __init__(self, why: str, ids: Collection[int] = ()) -> None:
        super().__init__(why)
        self.ids = frozenset(ids)


class Putting(Protocol):
    """Put rows of one table back, and return id -> why an entry is left as it is.

    Where that shows only afterwards, raise `Kept` or what the database raises: the caller tries again without them, or
    with fewer at once.
    """

    def deleted(self, table: Table, entries: Sequence[Entry]) -> Mapping[int, str]:
        """Insert rows that were deleted."""
        ...

    def changed(self, table: Table, entries: Sequence[Entry]) -> Mapping[int, str]:
        """Give rows that were changed their old values."""
        ...


def restore(database: Database, archive: Table, connection: Connection, run_id: str, putting: Putting) -> Restored:
    """Put back what `run_id` changed, the last change first; what was put back is marked in the same transaction.

    Raises:
        DatabaseRefused: the archive holds nothing of this run.
    """
    done, empty = Restored(), True
    for page in _pages(connection, archive, run_id):
        empty = False
        done.refused |= {one.key: f"it was put back already, at {one.undone_at}" for one in page if one.undone_at}
        for (name, *_), group in groupby([one for one in page if not one.undone_at], key=lambda one: one.kind):
            database.forget(name)  # it is asked for as it is now, not as it was when the run began
            try:
                table = database.table(connection, name)
            except DatabaseRefused as error:
                done.refused |= {one.key: str(error) for one in group}
                continue
            for some in _without_repeats(group):
                _put_back(connection, archive, table, some, putting, done)
    if empty:
        raise DatabaseRefused(f"database {database.name}: the archive holds nothing of run {run_id}; nothing to undo")
    return done


def _pages(connection: Connection, archive: Table, run_id: str) -> Iterator[list[Entry]]:
    """Read what the run archived, the last first, and hold it against a second undo at the same time."""
    columns = [archive.c[name] for name in ("id", "table_name", "key", "before", "after", "undone_at")]
    last: int | None = None
    while True:
        wanted = select(*columns).where(archive.c.run_id == run_id).order_by(archive.c.id.desc())
        wanted = wanted if last is None else wanted.where(archive.c.id < last)
        rows = connection.execute(wanted.limit(_ROWS_PER_STATEMENT).with_for_update()).all()
        if not rows:
            return
        last = rows[-1][0]
        yield [
            Entry(number, table, key, json.loads(before), None if after is None else json.loads(after), undone_at)
            for number, table, key, before, after, undone_at in rows
        ]


def _without_repeats(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Cut where a row comes a second time: its later change goes first, in a statement of its own."""
    some: dict[str, Entry] = {}
    for one in entries:
        if one.key in some:
            yield list(some.values())
            some = {}
        some[one.key] = one
    yield list(some.values())


def _put_back(
    connection: Connection,
    archive: Table,
    table: Table,
    entries: Sequence[Entry],
    putting: Putting,
    done: Restored,
) -> None:
    """Put rows back together; where that fails, each half by itself, down to the row that stands in the way."""
    try:
        with _tried(connection):
            _check_columns(table, entries[0])
            refused = (putting.deleted if entries[0].after is None else putting.changed)(table, entries)
            ids = [one.id for one in entries if one.id not in refused]
            connection.execute(update(archive).where(archive.c.id.in_(ids)).values(undone_at=func.current_timestamp()))
    except (Kept, DBAPIError) as error:
        if isinstance(error, DBAPIError) and _is_of_the_database(error):
            raise
        why = str(error) if isinstance(error, Kept) else reason(error)
        known = set(error.ids) if isinstance(error, Kept) else set()
        known = known or {one.id for one in entries if len(entries) == 1}
        done.refused |= {one.key: why for one in entries if one.id in known}
        left = [one for one in entries if one.id not in known]
        middle = 0 if known else len(left) // 2
        for half in filter(None, (left[:middle], left[middle:])):
            _put_back(connection, archive, table, half, putting, done)
    else:
        done.rows += len(ids)
        done.refused |= {one.key: refused[one.id] for one in entries if one.id in refused}


@contextmanager
def _tried(connection: Connection) -> Iterator[None]:
    """Leave no trace of what fails; and no savepoint, each of which would occupy the server until the end."""
    connection.exec_driver_sql("SAVEPOINT putting_back")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT putting_back")
        connection.exec_driver_sql("RELEASE SAVEPOINT putting_back")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT putting_back")


def _check_columns(table: Table, entry: Entry) -> None:
    gone = [name for name in entry.before if name not in table.c]
    if gone:
        raise Kept(f"column {', '.join(gone)} is gone from table {table.name}")


def differing(entry: Entry, current: Mapping[str, str | None] | None, after: Mapping[str, str | None]) -> str:
    """Say what keeps a changed row from being given its old values; nothing where it is as the run left it."""
    if current is None:
        return "the row is gone"
    others = [name for name in after if current.get(name) != after[name]]
    return f"changed since the run: {', '.join(others)}" if others else ""


def _is_of_the_database(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or (state or "")[:2] in _NOT_OF_THE_ROW


def reason(error: DBAPIError) -> str:
    """Say in words why the database refused a row; its own words are kept to the first line, which holds no values."""
    words = str(error.orig).splitlines()[0][:200]
    state = getattr(error.orig, "sqlstate", None)
    if state == "23505" or words.startswith("UNIQUE"):
        return f"a row with its key, or with another value that must be unique, is there again ({words})"
    if state == "23503" or words.startswith("FOREIGN KEY"):
        return f"its parent is missing ({words})"
    return f"the database refuses it ({words})"
