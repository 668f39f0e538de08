"""The database that an application names, by the standard library for SQLite and by psycopg for PostgreSQL.

psycopg is loaded by name, and only when such a database is named. What the statements say is the business of those
who bring them.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard.forks import renew_after_fork, still_at_fork

_SQLITE_WORDS = {"schema": "", "now": ":now"}
_POSTGRES_WORDS = {"schema": "prunella.", "now": "extract(epoch FROM clock_timestamp())::double precision"}
_IDLE_MAX = 4
_TURN_S = 5.0
_NO_PRIVILEGE = "42501"  # PostgreSQL, appendix A: insufficient_privilege


class Database:
    """Short transactions on a database, from any thread.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/name`; or the path of a SQLite file, whatever
            signs are in it.
    """

    def __init__(self, url: str | Path) -> None:
        self._dialect = _dialect(url)
        self._idle: deque[Any] = deque()
        self._turn = threading.RLock()
        (still_at_fork if self._dialect.one_by_one else renew_after_fork)(self)

    def create(self, **statements: str) -> None:
        """Make the tables and indexes that are not there yet, each by its name; who may make none may use them.

        Raises:
            InvalidInput: one is missing, and this role may not make it.
        """
        try:
            with self.session() as session:
                exists = self._dialect.exists
                missing = [one for name, one in statements.items() if not session.run(exists, {"name": name})]
                for statement in (*self._dialect.before, *missing) if missing else ():
                    session.run(statement, {})
        except StoreUnavailable as error:
            if getattr(error.__cause__, "sqlstate", None) != _NO_PRIVILEGE:
                raise
            raise InvalidInput(
                f"connect: this role may not make {', '.join(statements)} in the schema prunella; connect once as a "
                "role that may, and GRANT this one USAGE on it and SELECT, INSERT, UPDATE, DELETE on its tables"
            ) from error

    def close(self) -> None:
        """Close what is open."""
        while self._idle:
            self._throw_away(self._idle.pop())

    def hold(self) -> bool:
        """Keep other threads' sessions away once those under way have ended; False where one takes too long."""
        return self._turn.acquire(timeout=_TURN_S)

    def let_go(self) -> None:
        """Let the sessions go on."""
        self._turn.release()

    def renew(self) -> None:
        """Begin anew in a child process: a connection must not be used on both sides of a fork."""
        inherited, self._idle, self._turn = self._idle, deque(), threading.RLock()
        for connection in inherited:
            self._dialect.leave(connection)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction on a connection that nobody uses; where the dialect wants it, one by one."""
        if not self._dialect.one_by_one:
            with self._transaction() as session:
                yield session
            return
        turn = self._turn
        if not turn.acquire(timeout=_TURN_S):
            raise StoreUnavailable("the database is busy with another thread's session; nothing was written")
        try:
            with self._transaction() as session:
                yield session
        finally:
            turn.release()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Session]:
        """Commit what was done, or nothing; a broken connection is thrown away."""
        connection = None
        try:
            connection = self._lend()
            session = Session(connection, self._dialect)
            session.begin()
            yield session
            connection.commit()
        except self._dialect.errors as error:
            self._throw_away(connection)
            raise StoreUnavailable(f"the database does not answer ({_fact(error)}); nothing was written") from error
        except BaseException:
            self._throw_away(connection)
            raise
        self._idle.append(connection)
        if len(self._idle) > _IDLE_MAX:
            self._throw_away(self._idle.popleft())

    def _lend(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._dialect.connect()

    @staticmethod
    def _throw_away(connection: Any) -> None:
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


class Session:
    """Statements inside one transaction; `{schema}` and `{now}` are spelled as the database wants them."""

    def __init__(self, connection: Any, dialect: _Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def begin(self) -> None:
        """Begin the transaction, where the driver does not."""
        if self._dialect.begin:
            self._connection.execute(self._dialect.begin)

    def run(self, statement: str, fields: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows that came back."""
        cursor = self._execute(statement, fields)
        return list(cursor.fetchall()) if cursor.description else []

    def count(self, statement: str, fields: Mapping[str, Any]) -> int:
        """Return how many rows were touched."""
        return int(self._execute(statement, fields).rowcount)

    def _execute(self, statement: str, fields: Mapping[str, Any]) -> Any:
        return self._connection.execute(self._dialect.spell(statement), {**fields, "now": HOST.now().timestamp()})


class _Dialect(Protocol):
    before: tuple[str, ...]
    exists: str
    one_by_one: bool
    begin: str
    errors: tuple[type[Exception], ...]

    def connect(self) -> Any: ...

    def leave(self, connection: Any) -> None:
        """Let go of a parent's connection, in a child process."""
        ...

    def spell(self, statement: str) -> str: ...


class _Sqlite:
    before: tuple[str, ...] = ()
    exists = "SELECT 1 FROM sqlite_master WHERE name = :name"
    one_by_one = True  # it writes one by one anyway, and a connection in use at a fork would never be closed there
    begin = "BEGIN IMMEDIATE"
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: str) -> None:
        self._path = path

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a call that was handed over survives a power cut
        return connection

    def leave(self, connection: sqlite3.Connection) -> None:
        connection.close()  # while it is open, new ones rely on its locks, which no child has: others drop their log

    def spell(self, statement: str) -> str:
        return statement.format_map(_SQLITE_WORDS)


class _Postgres:
    before: tuple[str, ...] = (
        "SELECT pg_advisory_xact_lock(7741)",  # IF NOT EXISTS fails where two make the same at once
        "CREATE SCHEMA IF NOT EXISTS prunella",
    )
    exists = """
    SELECT 1 FROM pg_class AS thing JOIN pg_namespace AS place ON place.oid = thing.relnamespace
    WHERE place.nspname = 'prunella' AND thing.relname = :name"""
    one_by_one = False
    begin = ""

    def __init__(self, url: str) -> None:
        try:
            self._psycopg = importlib.import_module("psycopg")
        except ImportError as error:
            raise InvalidInput(
                'connect: PostgreSQL needs psycopg; install it with: pip install "prunella[server]"'
            ) from error
        self._url = url
        self.errors: tuple[type[Exception], ...] = (self._psycopg.Error,)

    def connect(self) -> Any:
        # A statement that was prepared is not there in the next transaction where a pooler stands in between.
        return self._psycopg.connect(self._url, connect_timeout=5, prepare_threshold=None)

    def leave(self, connection: Any) -> None:
        """Do nothing: to close it would end the parent's session."""

    def spell(self, statement: str) -> str:
        named = re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", statement)
        return named.format_map(_POSTGRES_WORDS)


def _fact(error: Exception) -> str:
    """Say what a driver said; PostgreSQL's text of connection errors may hold the address, SQLite's never does."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, sqlite3.Error) else kind


def _dialect(url: str | Path) -> _Dialect:
    if isinstance(url, Path):
        return _Sqlite(str(url))
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        path = url.removeprefix("sqlite:///").partition("?")[0]  # # is a plain sign, as it is for the engine
        if path in ("", url):
            raise InvalidInput("connect: sqlite:// names no file; write sqlite:///prunella.db")
        return _Sqlite(unquote(path))
    if scheme in ("postgresql", "postgres"):
        return _Postgres(url)
    known = "sqlite:///…, postgresql://… or https://… for an engine"
    raise InvalidInput(f"connect: {scheme if '://' in url else 'nothing'}:// is not known; write {known}")
