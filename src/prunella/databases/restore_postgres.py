"""Put rows back on PostgreSQL: the server casts each text of an image to the type of its column, many rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from prunella.databases.images import SCHEMA, written_by_type
from prunella.databases.restore import IS_THERE, SPOILED, Entry, Kept, differing

_ENTRIES = f"{SCHEMA}.archive AS a"
_THESE = "AND a.id = ANY(%(ids)s)"
_TYPES = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = CAST(%(table)s AS regclass) AND attnum > 0 AND NOT attisdropped
"""


class OnPostgres:
    """Put rows back within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")  # a parent that is missing is found at its row

    def deleted(self, table: Table, entries: Sequence[Entry]) -> Mapping[int, str]:
        words = _Words(self._connection, table, entries[0].before)
        there = {
            one[0]
            for one in self._rows(f"SELECT a.id FROM {words.before_and_now} WHERE {words.same_row} {_THESE}", entries)  # noqa: S608
        }
        rest = [one for one in entries if one.id not in there]
        own = [name for name in entries[0].before if table.c[name].computed is None]
        inserted = self._connection.exec_driver_sql(
            f"INSERT INTO {words.table} ({', '.join(map(words.quoted, own))}) OVERRIDING SYSTEM VALUE "  # noqa: S608
            f"SELECT {', '.join(map(words.old, own))} FROM {_ENTRIES}, {words.before} WHERE true {_THESE}",
            _ids(rest),
        )
        if inserted.rowcount != len(rest):
            raise Kept("a trigger of the table kept it out")
        self._must_be_old(words, own, rest)
        return dict.fromkeys(there, IS_THERE)

    def changed(self, table: Table, entries: Sequence[Entry]) -> Mapping[int, str]:
        words = _Words(self._connection, table, entries[0].before)
        key = {column.name for column in table.primary_key.columns}
        names = [name for name in entries[0].before if name not in key]
        refused = self._moved_on(words, names, entries)
        rest = [one for one in entries if one.id not in refused]
        self._connection.exec_driver_sql(
            f"UPDATE {words.table} AS t SET {', '.join(f'{words.quoted(name)} = {words.old(name)}' for name in names)} "  # noqa: S608
            f"FROM {_ENTRIES}, {words.before} WHERE {words.same_row} {_THESE}",
            _ids(rest),
        )
        self._must_be_old(words, names, rest)
        return refused

    def _moved_on(self, words: _Words, names: Sequence[str], entries: Sequence[Entry]) -> dict[int, str]:
        """Say of each entry whose row is no longer as the run left it why; hold the others."""
        texts = ", ".join(f"{words.now(name)}, {words.text(name, words.new(name))}" for name in names)
        found = {
            number: (dict(zip(names, texts[::2], strict=True)), dict(zip(names, texts[1::2], strict=True)))
            for number, *texts in self._rows(
                f"SELECT a.id, {texts} FROM {words.before_and_now}, {words.after} "  # noqa: S608
                f"WHERE {words.same_row} {_THESE} FOR UPDATE OF t",
                entries,
            )
        }
        why = {one.id: differing(one, *found.get(one.id, (None, {}))) for one in entries}
        return {number: words for number, words in why.items() if words}

    def _must_be_old(self, words: _Words, names: Sequence[str], entries: Sequence[Entry]) -> None:
        """Raise `Kept` where what was put back is not what it was."""
        equal = " AND ".join(
            f"{words.now(name)} IS NOT DISTINCT FROM {words.text(name, words.old(name))}" for name in names
        )
        wanted = f"{words.same_row} AND {equal} {_THESE}"
        same = self._rows(f"SELECT a.id FROM {words.before_and_now} WHERE {wanted}", entries)  # noqa: S608
        spoiled = {one.id for one in entries} - {one[0] for one in same}
        if spoiled or len(same) != len(entries):
            raise Kept(SPOILED, spoiled)

    def _rows(self, sql: str, entries: Sequence[Entry]) -> Sequence[Any]:
        return self._connection.exec_driver_sql(sql, _ids(entries)).all()


def _ids(entries: Sequence[Entry]) -> dict[str, list[int]]:
    return {"ids": [one.id for one in entries]}


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
        self.before_and_now = f"{_ENTRIES}, {self.before}, {self.table} AS t"
        key = [column.name for column in table.primary_key.columns]
        self.same_row = " AND ".join(f"t.{self.quoted(column)} = {self.old(column)}" for column in key)

    def quoted(self, name: str) -> str:
        """Return a column's name for SQL."""
        return self._prepare.quote_identifier(name)

    def old(self, name: str) -> str:
        """Return the value that a column had, as a value of its type."""
        return f"b.{self.quoted(name)}::{self._types[name].replace('%', '%%')}"

    def new(self, name: str) -> str:
        """Return the value that the run gave a column, as a value of its type."""
        return f"n.{self.quoted(name)}::{self._types[name].replace('%', '%%')}"

    def now(self, name: str) -> str:
        """Return the text of the value that a column has."""
        return self.text(name, f"t.{self.quoted(name)}")

    def text(self, name: str, value: str) -> str:
        """Return the text of a value of a column as this session spells it; the zone of one before may differ."""
        if written_by_type(self._columns[name]):
            return f"CASE WHEN {value} IS DISTINCT FROM NULL THEN format('%%s', {value}) END"
        return f"({value})::text"
