"""Calls that were handed over, as rows: written and committed before the caller hears of it.

One table in the database that the application names, for SQLite by the standard library and for PostgreSQL by
psycopg, which is loaded by name only when such a database is named. Must never hold a secret: what redaction would
mark is refused.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from prunella.core import redact
from prunella.core.clock import HOST, Ids, Rng, SystemClock
from prunella.core.errors import InvalidInput, StoreUnavailable

_CREATE = """
CREATE TABLE IF NOT EXISTS {table} (
  id TEXT PRIMARY KEY,
  function TEXT NOT NULL,
  policy TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  arguments TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  due_at DOUBLE PRECISION NOT NULL,
  lease_until DOUBLE PRECISION,
  worker TEXT,
  last_error TEXT,
  created_at DOUBLE PRECISION NOT NULL,
  ended_at DOUBLE PRECISION
)"""
_ONCE = """
CREATE UNIQUE INDEX IF NOT EXISTS durable_calls_once ON {table} (function, idempotency_key)
WHERE state IN ('waiting', 'running')"""
_DUE_INDEX = "CREATE INDEX IF NOT EXISTS durable_calls_due ON {table} (state, due_at)"
_INSERT = """
INSERT INTO {table} (id, function, policy, idempotency_key, arguments, state, attempts, due_at, last_error, created_at)
VALUES (:id, :function, :policy, :key, :arguments, 'waiting', :attempts, {now} + :wait_s, :error, {now})
ON CONFLICT (function, idempotency_key) WHERE state IN ('waiting', 'running') DO NOTHING"""
_WAITING = """
SELECT id, due_at FROM {table}
WHERE function = :function AND idempotency_key = :key AND state IN ('waiting', 'running')"""
_DUE = """
SELECT id, function, idempotency_key, arguments, attempts, created_at FROM {table}
WHERE function IN ({functions})
  AND ((state = 'waiting' AND due_at <= {now}) OR (state = 'running' AND lease_until <= {now}))
ORDER BY due_at LIMIT :most"""
_CLAIM = """
UPDATE {table} SET state = 'running', worker = :worker, lease_until = {now} + :lease_s, attempts = attempts + 1
WHERE id = :id AND ((state = 'waiting' AND due_at <= {now}) OR (state = 'running' AND lease_until <= {now}))"""
_RENEW = """
UPDATE {table} SET lease_until = {now} + :lease_s WHERE id = :id AND worker = :worker AND state = 'running'"""
_END = """
UPDATE {table} SET state = :state, due_at = {now} + :wait_s, lease_until = NULL, last_error = :error,
  attempts = attempts - :uncounted, ended_at = CASE WHEN :state = 'waiting' THEN NULL ELSE {now} END
WHERE id = :id AND worker = :worker AND state = 'running'"""

_SQLITE_WORDS = {"table": "durable_calls", "gates": "shared_gates", "gates_own": "shared_gates", "now": ":now"}
_POSTGRES_WORDS = {
    "table": "prunella.durable_calls",
    "gates": "prunella.shared_gates",
    "gates_own": "shared_gates",
    "now": "extract(epoch FROM clock_timestamp())::double precision",
}
_IDLE_MAX = 4
_ids = Ids(SystemClock(), Rng())


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableCall:
    """A call that waits to be made.

    Args:
        function: name under which the function is known.
        arguments: positional and named ones, as JSON holds them.
        attempts: how often it was tried, in the calling process and since.
    """

    id: str
    function: str
    idempotency_key: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempts: int
    created_at: float


class Ledger:
    """The table of durable calls in one database.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/name`.
    """

    def __init__(self, url: str) -> None:
        self._dialect = _dialect(url)
        self._pid = os.getpid()
        self._idle: deque[Any] = deque()
        with self.session() as session:
            for statement in (*self._dialect.before, _CREATE, _ONCE, _DUE_INDEX):
                session.run(statement, {})

    def write(
        self,
        *,
        function: str,
        policy: str,
        key: str,
        arguments: Mapping[str, Any],
        attempts: int,
        wait_s: float,
        error: str,
    ) -> tuple[str, float]:
        """Write a call down and return its id and due time; one that waits under the same key is not written twice.

        Raises:
            InvalidInput: the arguments can't be kept: they are no JSON, or hold a secret.
            StoreUnavailable: the database does not answer; nothing was written.
        """
        fields = {
            "id": _ids.new(),
            "function": function,
            "policy": policy,
            "key": key,
            "arguments": _as_json(function, arguments),
            "attempts": attempts,
            "wait_s": wait_s,
            "error": redact.scrub(error)[:500],
        }
        with self.session() as session:
            session.run(_INSERT, fields)
            (found,) = session.run(_WAITING, fields)
        return found[0], found[1]

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls of these functions that are due, until `lease_s` from now; nobody else gets them meanwhile."""
        if not functions:
            return []
        names = {f"f{number}": name for number, name in enumerate(functions)}
        due = _DUE.replace("{functions}", ", ".join(f":{name}" for name in names))
        with self.session() as session:
            rows = session.run(due, {**names, "most": most})
            won = [row for row in rows if session.count(_CLAIM, {"id": row[0], "worker": worker, "lease_s": lease_s})]
        return [_call(row) for row in won]

    def renew(self, call_id: str, worker: str, lease_s: float) -> None:
        """Keep a call that is still being made."""
        with self.session() as session:
            session.run(_RENEW, {"id": call_id, "worker": worker, "lease_s": lease_s})

    def done(self, call_id: str, worker: str) -> None:
        """Write that a call was made."""
        self._end(call_id, worker, "done", 0.0, None, uncounted=0)

    def again(self, call_id: str, worker: str, wait_s: float, error: str, *, counted: bool) -> None:
        """Let a call wait for its next attempt; one that was refused by a guard does not count."""
        self._end(call_id, worker, "waiting", wait_s, error, uncounted=0 if counted else 1)

    def dead(self, call_id: str, worker: str, error: str) -> None:
        """Give a call up; a person looks at it."""
        self._end(call_id, worker, "dead", 0.0, error, uncounted=0)

    def _end(self, call_id: str, worker: str, state: str, wait_s: float, error: str | None, *, uncounted: int) -> None:
        text = None if error is None else redact.scrub(error)[:500]
        fields = {
            "id": call_id,
            "worker": worker,
            "state": state,
            "wait_s": wait_s,
            "error": text,
            "uncounted": uncounted,
        }
        with self.session() as session:
            session.run(_END, fields)

    def close(self) -> None:
        """Close what is open."""
        while self._idle:
            self._throw_away(self._idle.pop())

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction on a connection that nobody uses; a broken one is thrown away."""
        connection = None
        try:
            connection = self._lend()
            session = Session(connection, self._dialect)
            session.begin()
            yield session
            connection.commit()
        except self._dialect.errors as error:
            self._throw_away(connection)
            kind = type(error).__name__  # the text of connection errors may hold the address
            raise StoreUnavailable(
                f"the database of durable calls does not answer ({kind}); nothing was written"
            ) from error
        except BaseException:
            self._throw_away(connection)
            raise
        self._idle.append(connection)
        if len(self._idle) > _IDLE_MAX:
            self._throw_away(self._idle.popleft())

    def _lend(self) -> Any:
        if self._pid != os.getpid():  # a connection must not be used on both sides of a fork
            self._pid, self._idle = os.getpid(), deque()
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
    """Statements inside one transaction; `{table}`, `{gates}` and `{now}` are spelled as the database wants them."""

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
    begin: str
    errors: tuple[type[Exception], ...]

    def connect(self) -> Any: ...

    def spell(self, statement: str) -> str: ...


class _Sqlite:
    before: tuple[str, ...] = ()
    begin = "BEGIN IMMEDIATE"
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: str) -> None:
        self._path = path

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a call that was handed over survives a power cut
        return connection

    def spell(self, statement: str) -> str:
        return statement.format_map(_SQLITE_WORDS)


class _Postgres:
    before: tuple[str, ...] = ("CREATE SCHEMA IF NOT EXISTS prunella",)
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
        return self._psycopg.connect(self._url, connect_timeout=5)

    def spell(self, statement: str) -> str:
        named = re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", statement)
        return named.format_map(_POSTGRES_WORDS)


def _dialect(url: str) -> _Dialect:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = unquote(parts.path)[1:]  # sqlite:///relative, sqlite:////absolute
        if not path:
            raise InvalidInput("connect: sqlite:// names no file; write sqlite:///prunella.db")
        return _Sqlite(path)
    if parts.scheme in ("postgresql", "postgres"):
        return _Postgres(url)
    raise InvalidInput(f"connect: {parts.scheme or 'nothing'}:// is not known; write sqlite:///… or postgresql://…")


def _as_json(function: str, arguments: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"durable {function}: its arguments are no JSON ({error}); pass ids and plain values"
        ) from error
    if redact.scrub(text) != text:
        raise InvalidInput(
            f"durable {function}: its arguments hold what looks like a secret, which is never stored; name the "
            "argument in secrets={…} with a function that brings it when the call is made"
        )
    return text


def _call(row: tuple[Any, ...]) -> DurableCall:
    arguments = json.loads(row[3])
    return DurableCall(
        id=row[0],
        function=row[1],
        idempotency_key=row[2],
        args=arguments["args"],
        kwargs=arguments["kwargs"],
        attempts=row[4] + 1,
        created_at=row[5],
    )
