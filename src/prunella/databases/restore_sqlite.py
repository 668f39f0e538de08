"""Put rows back on SQLite, one by one: each value with its storage class and all of its bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Table, and_, insert, select, type_coerce, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import LargeBinary

from prunella.databases.images import bound, image
from prunella.databases.restore import IS_THERE, SPOILED, Entry, Kept, differing, reason


class OnSqlite:
    """Put rows back within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def deleted(self, table: Table, entries: Sequence[Entry]) -> Mapping[int, str]:
        refused = {one.id: IS_THERE for one in entries if self._current(table, one) is not None}
        for one in entries:
            if one.id not in refused:
                own = {name: value for name, value in one.before.items() if table.c[name].computed is None}
                written = {name: bound(value) for name, value in own.items()}
                why = self._done(insert(table).inline().values(written))
                if why is None:
                    self._must_be_old(table, one, own)
                else:
                    refused[one.id] = why
        return refused

    def changed(self, table: Table, entries: Sequence[Entry]) -> Mapping[int, str]:
        key = {column.name for column in table.primary_key.columns}
        refused = {}
        for one in entries:
            values = {name: bound(value) for name, value in one.before.items() if name not in key}
            why = differing(one, self._current(table, one), one.after or {}) or self._done(
                update(table).where(_row(table, one)).values(values)
            )
            if why is None:
                self._must_be_old(table, one, one.before)
            else:
                refused[one.id] = why
        return refused

    def _done(self, statement: Executable) -> str | None:
        """Run a statement; say why it was refused, which leaves no trace in the transaction."""
        try:
            self._connection.execute(statement)
        except IntegrityError as error:
            return reason(error)
        return None

    def _must_be_old(self, table: Table, entry: Entry, own: Mapping[str, str | None]) -> None:
        current = self._current(table, entry)
        if current is None or any(current[name] != own[name] for name in own):
            raise Kept(SPOILED, {entry.id})

    def _current(self, table: Table, entry: Entry) -> Mapping[str, Any] | None:
        spelled = image([(name, table.c[name]) for name in entry.before], "sqlite")
        found = self._connection.execute(select(spelled).where(_row(table, entry))).scalar_one_or_none()
        return None if found is None else json.loads(found)


def _row(table: Table, entry: Entry) -> ColumnElement[bool]:
    key = table.primary_key.columns
    return and_(*(type_coerce(one, LargeBinary) == bound(entry.before[one.name]) for one in key))
