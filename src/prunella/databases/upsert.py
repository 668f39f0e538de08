"""Inserts that heal themselves, for users' own code: duplicates become updates, missing fields their defaults.

Only the very key that was named may turn an insert into an update (HEAL_SYNC_003), and only a column with a declared
default is filled (HEAL_DATA_001). Nothing is healed silently: each result says what was done, and a listener hears it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Insert, MetaData, Table, insert, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from prunella.core.errors import DatabaseRefused
from prunella.core.redact import scrub
from prunella.databases.columns import column_of

Record = Mapping[str, Any]
Default = Any
"""A constant, or a function without arguments."""

_CHARS_MAX = 300
_SQLITE_UNIQUE = re.compile(r"UNIQUE constraint failed: (.+)")
_SQLITE_NOT_NULL = re.compile(r"NOT NULL constraint failed: (.+)\.([^.]+)")
_KEY_OF = """
SELECT array_agg(a.attname::text) FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = CAST(:table AS regclass) AND c.relname = :name AND i.indisunique
  AND i.indpred IS NULL AND i.indexprs IS NULL
"""
_log = logging.getLogger("prunella.databases")


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """One healing, for listeners.

    Args:
        procedure: HEAL_SYNC_003 or HEAL_DATA_001.
        columns: the conflicting key, or the columns that were filled.
    """

    procedure: str
    table: str
    columns: tuple[str, ...]


Listener = Callable[[Healed], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of one record.

    Args:
        record: as it was written, what was filled included.
        filled: column -> the default that stands there because nothing did.
    """

    action: Literal["inserted", "upserted", "failed"]
    record: Record
    reason: str | None = None
    filled: Mapping[str, Any] = field(default_factory=dict)


def log_healed(healed: Healed) -> None:
    """Write a line to the log `prunella.databases`; what is told where no listener is given."""
    _log.info("%s: %s (%s)", healed.procedure, healed.table, ", ".join(healed.columns))


def insert_or_update(
    connection: Connection,
    table: Table | str,
    records: Iterable[Record],
    *,
    conflict: Sequence[str],
    update: Sequence[str] | None = None,
    defaults: Mapping[str, Default] | None = None,
    listener: Listener = log_healed,
) -> list[Written]:
    """Insert records; one whose key is taken updates the row that has it (HEAL_SYNC_003).

    Works within the connection's transaction, under savepoints: many records in one statement, fewer where one of them
    fails. The caller commits.

    Args:
        table: reflected, declared, or the name of one in the connection's schema.
        conflict: the columns of the unique key that may be taken; any other constraint fails the record.
        update: columns that an existing row gets; None: all of the record but this key and the primary one.
        defaults: column -> value or function, for records that lack a required field (HEAL_DATA_001).
        listener: hears of each healing.

    Raises:
        DatabaseRefused: the table has no such columns.
    """
    writer = _Writer(connection, table, tuple(conflict), update, dict(defaults or {}), listener)
    return writer.write([dict(one) for one in records])


def with_defaults(
    connection: Connection,
    table: Table | str,
    record: Record,
    defaults: Mapping[str, Default],
    *,
    listener: Listener = log_healed,
) -> Written:
    """Insert a record; a required field that it lacks gets its declared default (HEAL_DATA_001).

    Raises:
        IntegrityError: as the database raised it, where no default is declared for what is missing, or anything else
            is wrong; the transaction is as it was before the call.
    """
    return _Writer(connection, table, (), None, dict(defaults), listener).insert_one(dict(record))


class Healing:
    """A connection or session whose inserts heal themselves; everything else it does as ever.

    Args:
        carrier: a SQLAlchemy Connection or Session. With async engines: `await c.run_sync(lambda c: ...)`.
        conflict: table -> columns of the key that may be taken.
        defaults: table -> column -> value or function.
    """

    def __init__(
        self,
        carrier: Any,
        *,
        conflict: Mapping[str, Sequence[str]] | None = None,
        defaults: Mapping[str, Mapping[str, Default]] | None = None,
        listener: Listener = log_healed,
    ) -> None:
        self._carrier = carrier
        self._conflict = dict(conflict or {})
        self._defaults = dict(defaults or {})
        self._listener = listener

    def execute(self, statement: Any, records: Record | Sequence[Record] | None = None) -> Any:
        """Run a statement; a plain INSERT of records returns a list of `Written`, anything else what it always does."""
        table = getattr(statement, "table", None)
        if not isinstance(statement, Insert) or not isinstance(table, Table) or records is None:
            return self._carrier.execute(statement) if records is None else self._carrier.execute(statement, records)
        some = [records] if isinstance(records, Mapping) else list(records)
        return self._write(table, some)

    def add(self, *instances: Any) -> list[Written]:
        """Insert objects of mapped classes, now; what the class does not set is left to the database."""
        results = []
        for one in instances:
            mapper = type(one).__mapper__
            values = {column.name: getattr(one, mapper.get_property_by_column(column).key) for column in mapper.columns}
            record = {name: value for name, value in values.items() if value is not None}
            results += self._write(mapper.local_table, [record])
        return results

    def _write(self, table: Table, records: list[Record]) -> list[Written]:
        carrier = self._carrier
        connection: Connection = carrier if isinstance(carrier, Connection) else carrier.connection()
        conflict, defaults = self._conflict.get(table.name, ()), self._defaults.get(table.name, {})
        return insert_or_update(
            connection, table, records, conflict=conflict, defaults=defaults, listener=self._listener
        )


class _Writer:
    def __init__(
        self,
        connection: Connection,
        table: Table | str,
        conflict: tuple[str, ...],
        update: Sequence[str] | None,
        defaults: dict[str, Default],
        listener: Listener,
    ) -> None:
        self._connection = connection
        self._table = table if isinstance(table, Table) else Table(table, MetaData(), autoload_with=connection)
        self._conflict = conflict
        self._update = update
        self._defaults = defaults
        self._listener = listener
        self._kind = connection.dialect.name
        if self._kind not in ("postgresql", "sqlite"):
            raise DatabaseRefused(f"inserts heal themselves on PostgreSQL and SQLite only, not on {self._kind}")
        for name in (*conflict, *(update or ()), *defaults):
            column_of(self._table, name)

    def write(self, records: list[dict[str, Any]]) -> list[Written]:
        """Insert many at once where they have the same fields and nothing is wrong; otherwise each half by itself."""
        if not records:
            return []
        if len(records) == 1:
            return [self._one(records[0])]
        if all(one.keys() == records[0].keys() for one in records):
            try:
                with self._connection.begin_nested():
                    self._connection.execute(insert(self._table), records)
            except DBAPIError as error:
                _raise_where_lost(error)
            else:
                return [Written(action="inserted", record=one) for one in records]
        middle = len(records) // 2
        return self.write(records[:middle]) + self.write(records[middle:])

    def insert_one(self, record: dict[str, Any]) -> Written:
        """Insert one record, again with a default for what it turns out to lack, or update the row that has its key."""
        filled: dict[str, Any] = {}
        while True:
            try:
                with self._connection.begin_nested():
                    self._connection.execute(insert(self._table).values(record | filled))
            except IntegrityError as error:
                missing = self._fillable(error, record, filled)
                if missing is not None:
                    default = self._defaults[missing]
                    filled[missing] = default() if callable(default) else default
                elif self._conflict and self._taken(error) == frozenset(self._conflict):
                    return self._upsert(record, filled)
                else:
                    raise
            else:
                if filled:
                    self._listener(Healed(procedure="HEAL_DATA_001", table=self._table.name, columns=tuple(filled)))
                return Written(action="inserted", record=record | filled, filled=filled)

    def _one(self, record: dict[str, Any]) -> Written:
        try:
            return self.insert_one(record)
        except DBAPIError as error:
            _raise_where_lost(error)
            return Written(action="failed", record=record, reason=_words(error))

    def _upsert(self, record: dict[str, Any], filled: dict[str, Any]) -> Written:
        """Update the row that has the key with what the record holds; a default never replaces what stands there."""
        identity = () if self._update else self._table.primary_key.columns.keys()
        names = [name for name in (self._update or record) if name in record and name not in {*filled, *identity}]
        own = postgresql.insert(self._table) if self._kind == "postgresql" else sqlite.insert(self._table)
        statement = own.values(record | filled)
        new = {name: statement.excluded[name] for name in names if name not in self._conflict}
        key = list(self._conflict)
        with self._connection.begin_nested():
            self._connection.execute(
                statement.on_conflict_do_update(index_elements=key, set_=new)
                if new
                else statement.on_conflict_do_nothing(index_elements=key)
            )
        self._listener(Healed(procedure="HEAL_SYNC_003", table=self._table.name, columns=self._conflict))
        return Written(action="upserted", record=record)

    def _fillable(self, error: IntegrityError, record: dict[str, Any], filled: dict[str, Any]) -> str | None:
        """Return the column of this table that is missing and has a default that was not tried yet."""
        if self._kind == "sqlite":
            found = _SQLITE_NOT_NULL.match(str(error.orig))
            table, name = found.groups() if found else (None, None)
        elif _state(error) == "23502":
            table, name = _fact(error, "table_name"), _fact(error, "column_name")
        else:
            return None
        known = table == self._table.name and name in self._defaults and name not in filled
        return name if known and name is not None and record.get(name) is None else None

    def _taken(self, error: IntegrityError) -> frozenset[str]:
        """Return the columns of the unique key of this table that is taken; none where it is something else."""
        if self._kind == "sqlite":
            found = _SQLITE_UNIQUE.match(str(error.orig))
            names = found[1].split(", ") if found else []
            own = f"{self._table.name}."
            return frozenset(name.removeprefix(own) for name in names if name.startswith(own))
        if _state(error) != "23505" or _fact(error, "table_name") != self._table.name:
            return frozenset()
        table = self._connection.dialect.identifier_preparer.format_table(self._table).replace("%%", "%")
        given = {"table": table, "name": _fact(error, "constraint_name")}
        return frozenset(self._connection.execute(text(_KEY_OF), given).scalar() or ())


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def _fact(error: DBAPIError, name: str) -> str | None:
    """Return what PostgreSQL says beside its words; drivers keep it in different places."""
    diagnosis: Any = getattr(error.orig, "diag", None) or getattr(error.orig, "__cause__", None)
    return getattr(diagnosis, name, None)


def _raise_where_lost(error: DBAPIError) -> None:
    """Let an error through that says nothing about a record: the connection, a lock, a limit."""
    state = (_state(error) or "")[:2]
    locked = isinstance(error, OperationalError) and "locked" in str(error.orig)
    if error.connection_invalidated or state in ("08", "25", "40", "53", "55", "57") or locked:
        raise error


def _words(error: DBAPIError) -> str:
    return scrub(str(error.orig).splitlines()[0])[:_CHARS_MAX]
