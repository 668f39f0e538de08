"""The store on one SQLite file: one process, one writer, inline in the event loop.

Inline because SQLite answers in microseconds and a hop to a thread costs ten times that. Hazard: a statement that
takes long stops the loop, so whoever adds one measures it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import IO, Any

from prunella.core.clock import Clock
from prunella.core.errors import StoreLocked, StoreUnavailable
from prunella.store.contract import Transaction
from prunella.store.sql import Bound, Dialect, SqliteDialect

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL may lose the last commits when the power fails (sqlite.org/pragma.html)
    "PRAGMA busy_timeout = 5000",
    "PRAGMA foreign_keys = ON",
)
_OUR_MISTAKES = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.NotSupportedError)
"""What says that a statement was wrong; every other database error says that the file cannot be used."""


class SqliteStore:
    """prunella's tables in one SQLite database that this process owns.

    Args:
        database: an open connection in autocommit mode, with the tables in place (see `open_file`).
        clock: judges due times; one process, so its own clock is the database's.
    """

    def __init__(self, database: sqlite3.Connection, clock: Clock, *, lock: IO[str] | None = None) -> None:
        self.clock = clock
        self.dialect: Dialect = SqliteDialect()
        self.driver = self._database = database
        self._lock_file = lock
        self._turn = asyncio.Lock()

    @classmethod
    def open_file(cls, path: Path, clock: Clock) -> SqliteStore:
        """Open the file for this process alone; `StoreLocked` when another process has it.

        Raises:
            StoreUnavailable: the folder is missing or closed to us, or the file is no SQLite database.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(hold(path))
            try:
                database = undo.enter_context(
                    closing(sqlite3.connect(path, isolation_level=None, cached_statements=512))
                )
                for pragma in _PRAGMAS:
                    database.execute(pragma)
            except sqlite3.DatabaseError as error:
                raise StoreUnavailable(f"{path}: {error}; let database_url name a file that is prunella's") from error
            undo.pop_all()
        return cls(database, clock, lock=lock)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction; others wait for their turn, since SQLite has one writer anyway."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._turn:
            transaction = Transaction(self)
            await self.run("BEGIN IMMEDIATE", {})
            try:
                yield transaction
                await self.run("COMMIT", {})
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        for action in transaction.after_commit:
            action()

    async def run(self, text: str, values: Bound) -> tuple[Sequence[Sequence[Any]], int]:
        """Run one statement inside the open transaction."""
        try:
            cursor = self._database.execute(text, values)
            rows = cursor.fetchall() if cursor.description else ()
        except _OUR_MISTAKES:
            raise
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"SQLite: {error}; nothing of this request was recorded") from error
        return rows, cursor.rowcount

    async def revision(self) -> str | None:
        """Return the revision of the tables; `StoreUnavailable` unless the file can be read."""
        there, _ = await self.run("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'", {})
        rows, _ = await self.run("SELECT version_num FROM alembic_version", {}) if there else ((), 0)
        return str(rows[0][0]) if rows else None

    async def close(self) -> None:
        """Close the file and let another process have it."""
        self._database.close()
        if self._lock_file is not None:
            self._lock_file.close()


def hold(path: Path) -> IO[str]:
    """Lock the database for this process, or say who has it. The lock ends with the process, however it ends."""
    try:
        lock = path.with_name(path.name + ".lock").open("a+")
    except OSError as error:
        raise StoreUnavailable(
            f"{path}: the folder cannot be written ({error.strerror}); create it, or let database_url name another"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise StoreLocked(
            f"{path}: in use by process {owner}; SQLite serves one prunella process at a time. "
            "Stop that process, or set database_url to PostgreSQL for more workers"
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
