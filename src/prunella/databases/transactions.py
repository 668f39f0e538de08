"""How a transaction on the user's database begins: within its limits, on a connection that lives, by its own clock.

On PostgreSQL all of it is one way to the server. Nothing of the limits stays on the connection for whoever is next.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import Connection, Table
from sqlalchemy.exc import OperationalError

from prunella.core.clock import SystemClock
from prunella.core.procedures import DatabaseSource

_BEGUN = "prunella_begun"
_READS = "BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ"
_WRITES = "BEGIN READ WRITE, ISOLATION LEVEL READ COMMITTED"  # rows that were waited for are judged as they are now
_MARKS = """ARRAY(SELECT attrelid || ':' || string_agg(attnum || '.' || xmin, ' ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid IN ({}) AND attnum > 0 GROUP BY attrelid)"""
_MARKED = "SELECT to_regclass(%s)::oid::bigint"


class FoundDead(OperationalError):
    """Say that the server had ended a connection before anything ran on it; a new one may do."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a transaction at its beginning.

    Args:
        at: by the database's clock; None where nobody asked.
        marks: what changes with each change of a known table's columns.
    """

    at: datetime | None
    marks: frozenset[str]


def begun(connection: Connection) -> Begun:
    """Return what was learnt when the connection's transaction began."""
    known: Begun = connection.info[_BEGUN]
    return known


def mark_of(connection: Connection, table: Table) -> str:
    """Return the mark under which a table that was just reflected stays known."""
    if connection.dialect.name == "sqlite":
        return str(connection.exec_driver_sql("PRAGMA schema_version").scalar_one())
    if connection.dialect.name != "postgresql":
        return ""
    name = connection.dialect.identifier_preparer.format_table(table).replace("%%", "%")
    oid = connection.exec_driver_sql(_MARKED, (name,)).scalar_one()
    marks = connection.exec_driver_sql(f"SELECT {_MARKS.format(oid or 0)}").scalar_one()
    return str(marks[0]) if marks else ""


@contextmanager
def limited(
    connection: Connection, source: DatabaseSource, known: Collection[str], *, read_only: bool
) -> Iterator[None]:
    """Begin a transaction and hold it within its limits.

    Args:
        known: the marks of tables that are known.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        with _limited_file(connection, read_only=read_only):
            yield
        return
    if dialect == "postgresql":
        _begin(connection, source, known, read_only=read_only)
    else:
        for setting in _mysql_settings(connection, source):
            connection.exec_driver_sql(f"SET SESSION {setting}")
        connection.exec_driver_sql(f"SET SESSION TRANSACTION {'READ ONLY' if read_only else 'READ WRITE'}")
        connection.info[_BEGUN] = Begun(None, frozenset(known))
    yield


def _begin(connection: Connection, source: DatabaseSource, known: Collection[str], *, read_only: bool) -> None:
    """Begin, set the limits (LOCAL, so that a pooler hands nothing on) and ask for the time and the tables' marks."""
    oids = [int(one.partition(":")[0]) for one in known]
    asked = ", ".join(
        ["clock_timestamp()", _MARKS.format(", ".join(map(str, oids)))] if oids else ["clock_timestamp()"]
    )
    statement_ms, lock_ms = round(source.statement_timeout_s * 1000), round(source.lock_timeout_s * 1000)
    sql = (
        f"{_READS if read_only else _WRITES}; SET LOCAL statement_timeout = {statement_ms}; "
        f"SET LOCAL lock_timeout = {lock_ms}; SELECT {asked}"
    )
    *_, last = _asked(connection, sql).results()
    at, *marks = last.fetchone()
    connection.info[_BEGUN] = Begun(at.astimezone(UTC), frozenset(marks[0] if marks else ()))


def _asked(connection: Connection, sql: str) -> Any:
    opened: Any = connection.connection.driver_connection
    try:
        return opened.cursor(row_factory=tuple_row).execute(sql, prepare=False)
    except psycopg.Error as error:
        if opened.closed:
            connection.invalidate(error)
            raise FoundDead(sql, None, error, connection_invalidated=True) from error
        raise OperationalError(sql, None, error) from error


@contextmanager
def _limited_file(connection: Connection, *, read_only: bool) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA query_only = {int(read_only)}")
    version = str(connection.exec_driver_sql("PRAGMA schema_version").scalar_one())
    connection.info[_BEGUN] = Begun(None, frozenset({version}))
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
        driver.execute("PRAGMA query_only = 0")


def _mysql_settings(connection: Connection, source: DatabaseSource) -> tuple[str, ...]:
    """Return the limits in the words of MySQL (milliseconds, SELECT only) or MariaDB (seconds), and UTC."""
    statement = (
        f"max_statement_time = {source.statement_timeout_s:g}"
        if getattr(connection.dialect, "is_mariadb", False)
        else f"max_execution_time = {round(source.statement_timeout_s * 1000)}"
    )
    return statement, f"innodb_lock_wait_timeout = {max(round(source.lock_timeout_s), 1)}", "time_zone = '+00:00'"


def stop_after(connection: Connection, seconds: float) -> None:
    """Interrupt a statement of SQLite that takes too long; the handler is asked every 10,000 steps of its machine."""
    driver: Any = connection.connection.driver_connection
    clock = SystemClock()
    until = clock.monotonic() + seconds
    driver.set_progress_handler(lambda: int(clock.monotonic() > until), 10_000)


def cut_off(driver: Any) -> None:
    """End what goes on in a driver's connection from another thread, even where the server says nothing any more."""
    if hasattr(driver, "interrupt"):
        driver.interrupt()
    elif hasattr(driver, "fileno"):
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(driver.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
