"""Put rows back on SQLite, one by one: each value with its storage class and all of its bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, insert, select, type_coerce, update
from sqlalchemy.types import LargeBinary

from prunella.databases.images import bound, image
from prunella.databases.restore import Entry, Kept, differing


class OnSqlite:
    """Put rows back within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def deleted(self, table: Table, entries: Sequence[Entry]) -> None:
        for one in entries:
            own = {name: value for name, value in one.before.items() if table.c[name].computed is None}
            written = {name: bound(value) for name, value in own.items()}
            self._connection.execute(insert(table).inline().values(written))
            current = self._current(table, one)
            if current is None or any(current[name] != own[name] for name in own):
                raise Kept("a trigger of the table changed it while it was put back")

    def changed(self, table: Table, entries: Sequence[Entry]) -> None:
        key = {column.name for column in table.primary_key.columns}
        for one in entries:
            current = self._current(table, one)
            if current != one.after:
                raise differing(one, current)
            values = {name: bound(value) for name, value in one.before.items() if name not in key}
            self._connection.execute(update(table).where(_row(table, one)).values(values))

    def _current(self, table: Table, entry: Entry) -> Mapping[str, Any] | None:
        spelled = image([(name, table.c[name]) for name in entry.before], "sqlite")
        found = self._connection.execute(select(spelled).where(_row(table, entry))).scalar_one_or_none()
        return None if found is None else json.loads(found)


def _row(table: Table, entry: Entry) -> ColumnElement[bool]:
    key = table.primary_key.columns
    return and_(*(type_coerce(one, LargeBinary) == bound(entry.before[one.name]) for one in key))
