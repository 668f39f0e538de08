"""Put rows back on PostgreSQL: the server casts each text of an image to the type of its column, many rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from prunella.databases.images import SCHEMA, written_by_type
from prunella.databases.restore import Entry, Kept, differing

_ENTRIES = f"{SCHEMA}.archive AS a"
_TYPES = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = CAST(%(table)s AS regclass) AND attnum > 0 AND NOT attisdropped
"""


class OnPostgres:
    """Put rows back within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")  # a parent that is missing is found at its row

    def deleted(self, table: Table, entries: Sequence[Entry]) -> None:
        words = _Words(self._connection, table, entries[0].before)
        own = [name for name in entries[0].before if table.c[name].computed is None]
        inserted = self._run(
            f"INSERT INTO {words.table} ({', '.join(map(words.quoted, own))}) OVERRIDING SYSTEM VALUE "  # noqa: S608
            f"SELECT {', '.join(map(words.old, own))} FROM {_ENTRIES}, {words.before} WHERE a.id = ANY(%(ids)s)",
            entries,
        )
        if inserted != len(entries):
            raise Kept("a trigger of the table kept it out")
        equal = " AND ".join(f"{words.now(name)} IS NOT DISTINCT FROM b.{words.quoted(name)}" for name in own)
        same = self._run(
            f"SELECT 1 FROM {_ENTRIES}, {words.before}, {words.table} AS t "  # noqa: S608
            f"WHERE a.id = ANY(%(ids)s) AND {words.same_row} AND {equal}",
            entries,
        )
        if same != len(entries):
            raise Kept("a trigger of the table changed it while it was put back")

    def changed(self, table: Table, entries: Sequence[Entry]) -> None:
        words = _Words(self._connection, table, entries[0].before)
        key = {column.name for column in table.primary_key.columns}
        names = [name for name in entries[0].before if name not in key]
        untouched = " AND ".join(f"{words.now(name)} IS NOT DISTINCT FROM n.{words.quoted(name)}" for name in names)
        restored = self._run(
            f"UPDATE {words.table} AS t SET {', '.join(f'{words.quoted(name)} = {words.old(name)}' for name in names)} "  # noqa: S608
            f"FROM {_ENTRIES}, {words.before}, {words.after} "
            f"WHERE a.id = ANY(%(ids)s) AND {words.same_row} AND {untouched}",
            entries,
        )
        if restored != len(entries):
            raise differing(entries[0], self._current(words, entries[0])) if len(entries) == 1 else Kept("not all")

    def _current(self, words: _Words, entry: Entry) -> Mapping[str, str | None] | None:
        spelled = ", ".join(map(words.now, entry.before))
        row = self._connection.exec_driver_sql(
            f"SELECT {spelled} FROM {_ENTRIES}, {words.before}, {words.table} AS t "  # noqa: S608
            f"WHERE a.id = %(id)s AND {words.same_row}",
            {"id": entry.id},
        ).one_or_none()
        return None if row is None else dict(zip(entry.before, row, strict=True))

    def _run(self, sql: str, entries: Sequence[Entry]) -> int:
        return self._connection.exec_driver_sql(sql, {"ids": [one.id for one in entries]}).rowcount


class _Words:
    """The pieces of SQL for one table; every name was seen in the catalogue and is quoted."""

    def __init__(self, connection: Connection, table: Table, names: Mapping[str, Any]) -> None:
        self._prepare = connection.dialect.identifier_preparer
        self._columns = table.c
        self.table = self._prepare.format_table(table)  # the dialect has doubled its percent signs already
        named = {"table": self.table.replace("%%", "%")}
        self._types = {name: spelled for name, spelled in connection.exec_driver_sql(_TYPES, named)}  # noqa: C416
        record = ", ".join(f"{self.quoted(column)} text" for column in names)
        self.before = f"LATERAL json_to_record(a.before::json) AS b({record})"
        self.after = f"LATERAL json_to_record(a.after::json) AS n({record})"
        key = [column.name for column in table.primary_key.columns]
        self.same_row = " AND ".join(f"t.{self.quoted(column)} = {self.old(column)}" for column in key)

    def quoted(self, name: str) -> str:
        """Return a column's name for SQL."""
        return self._prepare.quote_identifier(name)

    def old(self, name: str) -> str:
        """Return the value that a column had, as a value of its type."""
        return f"b.{self.quoted(name)}::{self._types[name].replace('%', '%%')}"

    def now(self, name: str) -> str:
        """Return the text of the value that a column has, spelled as images spell it."""
        column = f"t.{self.quoted(name)}"
        if written_by_type(self._columns[name]):
            return f"CASE WHEN {column} IS DISTINCT FROM NULL THEN format('%%s', {column}) END"
        return f"{column}::text"
