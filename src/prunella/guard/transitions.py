"""Change a status column only where the machine allows it and the row is still in the state that was expected.

One conditional UPDATE, on a plain DB-API connection or on SQLAlchemy's connection or session, known by shape. It
never commits: the transaction is the caller's. Must never touch a row without a key, nor put a value into SQL text.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from prunella.core.errors import IllegalTransition
from prunella.core.states import StateMachine

_log = logging.getLogger(__name__)
_NAME: Final = re.compile(r"[^\W\d]\w{0,62}")
_BACKTICKED: Final = frozenset({"MySQLdb", "pymysql", "mysql", "mariadb"})
_MARKS: Final = {
    "qmark": "?",
    "format": "%s",
    "pyformat": "%(p{})s",
    "named": ":p{}",
    "numeric": ":{}",
    "numeric_dollar": "${}",
}
"""How each paramstyle (PEP 249) marks the parameter of a number, from 1."""


def transition(
    connection: Any,
    machine: StateMachine,
    *,
    table: str,
    key: Mapping[str, Any],
    column: str = "status",
    expected: str,
    to: str,
) -> bool:
    """Move one row from one state to another, and return whether it was in the expected one; False changed nothing.

    The same state twice is allowed and writes nothing. On a lost race read the row again and decide anew.

    Args:
        connection: of sqlite3, psycopg or another DB-API driver, or SQLAlchemy's Connection or Session. Of an
            asynchronous one of SQLAlchemy: `await session.run_sync(transition, machine, …)`.
        machine: which states may follow which.
        table: its name, "orders" or "shop.orders", spelt as the database keeps it.
        key: column -> value of what names the row, usually {"id": …}; at least one, none of them None.
        expected, to: the state that was read, and the one that shall be.

    Raises:
        IllegalTransition: the machine does not allow it, or does not know a state; nothing was sent.
        ValueError: a name is no identifier, the key is empty or names several rows (then roll back).
        TypeError: the connection is asynchronous, or none.
    """
    before, after = str(expected), str(to)
    try:
        machine.check(before, after)
    except IllegalTransition as error:
        _log.warning("transition of %s refused: %s", table, error)
        raise
    _demand_names(table, column, key)
    sql = _sql_of(connection)
    where = {**key, column: before}
    if before == after:
        return _exists(sql, table, where)
    rows = _update(sql, table, column, after, where)
    if rows == 0:
        _log.info("transition of %s to %s lost: the row is no longer %s", table, after, before)
    return rows == 1


def _exists(sql: _Sql, table: str, where: Mapping[str, Any]) -> bool:
    conditions, values = sql.conditions(where, 1)
    look = f"SELECT count(*) FROM {sql.table(table)} WHERE {conditions}"  # noqa: S608 - names are checked and quoted
    with closing(sql.run(look, values)) as found:
        (rows,) = _values(found.fetchone())
    return _demand_one_row(rows, where) == 1


def _update(sql: _Sql, table: str, column: str, after: str, where: Mapping[str, Any]) -> int:
    conditions, values = sql.conditions(where, 2)
    changed = f"UPDATE {sql.table(table)} SET {sql.quote(column)} = {sql.mark(1)} WHERE {conditions}"  # noqa: S608
    with closing(sql.run(changed, [after, *values])) as done:
        return _demand_one_row(done.rowcount, where)


def _values(row: Any) -> tuple[Any, ...]:
    """Return a row's values, also where the connection makes rows that are dicts."""
    return tuple(row.values() if isinstance(row, Mapping) else row)


def _demand_one_row(rows: int, where: Mapping[str, Any]) -> int:
    if rows not in (0, 1):
        raise ValueError(
            f"transition: the key {', '.join(where)} names {rows} rows, not one; roll back and give all of its columns"
        )
    return rows


def _demand_names(table: str, column: str, key: Mapping[str, Any]) -> None:
    for name in (*table.split("."), column, *key):
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"transition: {name!r} is no name of a table or column; letters, digits and _ are allowed, 63 at most"
            )
    if not key:
        raise ValueError(f"transition: key names no row of {table}; give at least one column, such as key={{'id': 7}}")
    if column in key:
        raise ValueError(f"transition: {column} stands in key; what it holds is said by `expected`, so leave it out")
    missing = [name for name, value in key.items() if value is None]
    if missing:
        raise ValueError(f"transition: key {missing[0]} is None, which equals no row; give its value")


# How a connection is spoken to ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sql:
    """A connection's dialect, as far as it is needed here.

    Args:
        execute: takes a statement and its parameters, and returns what has `rowcount` and `fetchone`.
    """

    execute: Callable[[str, Any], Any]
    paramstyle: str
    quote: Callable[[str], str]

    def mark(self, number: int) -> str:
        return _MARKS[self.paramstyle].format(number)

    def table(self, name: str) -> str:
        return ".".join(map(self.quote, name.split(".")))

    def conditions(self, where: Mapping[str, Any], first: int) -> tuple[str, list[Any]]:
        parts = [f"{self.quote(name)} = {self.mark(first + number)}" for number, name in enumerate(where)]
        return " AND ".join(parts), list(where.values())

    def run(self, statement: str, values: list[Any]) -> Any:
        if self.paramstyle in ("pyformat", "named"):
            return self.execute(statement, {f"p{number}": value for number, value in enumerate(values, 1)})
        return self.execute(statement, tuple(values))


def _sql_of(connection: Any) -> _Sql:
    """Return how to speak to a connection, by its shape."""
    connection = getattr(connection, "driver_connection", connection)  # what engine.raw_connection() wraps
    if any(inspect.iscoroutinefunction(getattr(connection, name, None)) for name in ("execute", "commit")):
        raise TypeError(
            "transition: the connection is asynchronous; with SQLAlchemy write `await session.run_sync(transition, …)`"
        )
    if hasattr(connection, "flush") and callable(getattr(connection, "connection", None)):  # a Session of SQLAlchemy
        connection.flush()
        connection = connection.connection()
    if hasattr(connection, "exec_driver_sql"):
        dialect = connection.dialect
        return _Sql(connection.exec_driver_sql, dialect.paramstyle, dialect.identifier_preparer.quote_identifier)
    if not callable(getattr(connection, "cursor", None)):
        raise TypeError(f"transition: {connection!r} is no DB-API connection, and none of SQLAlchemy's")
    driver, paramstyle = _driver_of(connection)
    return _Sql(_executor(connection), paramstyle, _backticked if driver in _BACKTICKED else _quoted)


def _executor(connection: Any) -> Callable[[str, Any], Any]:
    def execute(statement: str, values: Any) -> Any:
        cursor = connection.cursor()
        cursor.execute(statement, values)
        return cursor

    return execute


def _driver_of(connection: Any) -> tuple[str, str]:
    """Return the driver's module and its paramstyle; a class of the user's own has the driver's among its parents."""
    for parent in type(connection).__mro__:
        driver = parent.__module__.partition(".")[0]
        paramstyle = getattr(sys.modules.get(driver), "paramstyle", None)
        if paramstyle in _MARKS:
            return driver, paramstyle
    raise TypeError(
        f"transition: the driver of {type(connection).__name__} tells no paramstyle (PEP 249); "
        "give its own connection, or SQLAlchemy's"
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _backticked(name: str) -> str:
    return f"`{name}`"
