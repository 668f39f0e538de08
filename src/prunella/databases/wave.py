"""Change many rows, each to its own values and only where it still is as it was seen, with few statements.

On PostgreSQL one statement carries the whole wave as arrays; where a column's type can't travel so, the rows go one by
one within the same transaction. On SQLite, where a statement costs no way to a server, each is run for every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Integer,
    Numeric,
    String,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.types import NullType

from prunella.databases import images
from prunella.databases.archive import ENTRY, Archive
from prunella.databases.columns import column_of
from prunella.databases.handle import Database
from prunella.databases.relations import key_columns
from prunella.databases.written import NOW, bound, expressions

_IN_ARRAYS = (Integer, Numeric, String, Boolean, DateTime, Date, Uuid)


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row to change.

    Args:
        run_id: names the attempt; its image carries it.
        seen: column -> value that it must still have.
    """

    run_id: str
    key: Any
    seen: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def shape(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what changes of one statement have in common: the columns, and those that get the moment."""
        return tuple(self.values), tuple(name for name, value in self.values.items() if _is_now(value))


def change_rows(
    database: Database,
    connection: Connection,
    table: Table,
    key: str,
    changes: Sequence[RowChange],
    *,
    unit: str | None = None,
) -> set[str]:
    """Change each row that still is as it was seen, with its image; return the runs whose row was changed.

    Args:
        key: the column that names a row.
        unit: of moments that are kept as numbers; None: the database's.

    Raises:
        DatabaseRefused: a column is missing or can't hold its value; nothing stays.
    """
    if not changes:
        return set()
    archive = Archive(database)
    archive.ready(connection)
    changed: set[str] = set()
    for some in _groups(changes):
        if len(some) > 1 and database.kind == "sqlite":
            changed |= _in_turn(database, archive, connection, table, key, some, unit)
        elif len(some) > 1 and _in_arrays(table, key, some[0]):
            changed |= _together(database, archive, connection, table, key, some, unit)
        else:
            changed |= {one.run_id for one in some if _alone(database, archive, connection, table, key, one, unit)}
    return changed


def _groups(changes: Sequence[RowChange]) -> Iterable[list[RowChange]]:
    groups: dict[Any, list[RowChange]] = {}
    for one in changes:
        groups.setdefault((one.shape, tuple(one.seen)), []).append(one)
    return groups.values()


def _in_arrays(table: Table, key: str, change: RowChange) -> bool:
    names = (key, *change.seen, *change.values)
    return all(isinstance(column_of(table, name).type, _IN_ARRAYS) for name in names)


def _alone(
    database: Database,
    archive: Archive,
    connection: Connection,
    table: Table,
    key: str,
    change: RowChange,
    unit: str | None,
) -> bool:
    values = expressions(database, connection, table, change.values, unit=unit)
    identified = column_of(table, key)
    seen = [(column_of(table, name), value) for name, value in change.seen.items()]
    where = and_(
        identified == bound(identified, change.key),
        *(column.is_not_distinct_from(bound(column, value)) for column, value in seen),
    )
    return bool(archive.change(connection, table, where, values, run_id=change.run_id))


def _together(
    database: Database,
    archive: Archive,
    connection: Connection,
    table: Table,
    key: str,
    changes: Sequence[RowChange],
    unit: str | None,
) -> set[str]:
    first = changes[0].values
    same = {name: value for name, value in first.items() if all(_equal(one.values[name], value) for one in changes)}
    written = expressions(database, connection, table, same, unit=unit)
    differing = [column_of(table, name) for name in first if name not in same]
    identified, conditions = column_of(table, key), [column_of(table, name) for name in changes[0].seen]
    wave = select(
        func.unnest(bindparam("runs", [one.run_id for one in changes], type_=ARRAY(String))).label("run_id"),
        _lined_up(identified, [one.key for one in changes]).label("key"),
        *(_lined_up(one, [c.seen[one.name] for c in changes]).label(f"seen_{n}") for n, one in enumerate(conditions)),
        *(_lined_up(one, [c.values[one.name] for c in changes]).label(f"new_{n}") for n, one in enumerate(differing)),
    ).subquery("wave")
    still = [one.is_not_distinct_from(wave.c[f"seen_{n}"]) for n, one in enumerate(conditions)]
    kept = [*key_columns(table), *(column_of(table, name) for name in first)]
    news = [wave.c[f"new_{n}"] for n in range(len(differing))]
    found = select(*kept, wave.c.run_id.label("the run"), *news).select_from(table.join(wave, identified == wave.c.key))
    seen = found.where(*still).with_for_update(of=table).cte("seen")
    values = written | {one.name: seen.c[f"new_{n}"] for n, one in enumerate(differing)}
    done = (
        update(table)
        .values(values)
        .where(*(one == seen.c[one.name] for one in key_columns(table)))
        .returning(
            seen.c["the run"].label("run_id"),
            images.key_of(key_columns(table), database.kind).label("key"),
            images.image([(one.name, seen.c[one.name]) for one in kept], database.kind).label("before"),
            images.image([(one.name, one) for one in kept], database.kind).label("after"),
        )
        .cte("done")
    )
    return archive.take(connection, table, select(done.c.run_id, done.c.key, done.c.before, done.c.after))


def _in_turn(
    database: Database,
    archive: Archive,
    connection: Connection,
    table: Table,
    key: str,
    changes: Sequence[RowChange],
    unit: str | None,
) -> set[str]:
    """Change rows of a file: each statement is prepared once and run for every row, under one write lock."""
    first = changes[0].values
    same = {name: value for name, value in first.items() if all(_equal(one.values[name], value) for one in changes)}
    written = expressions(database, connection, table, same, unit=unit)
    differing = [name for name in first if name not in same]
    identified, own, entries = column_of(table, key), key_columns(table), archive.table
    kept = [(one.name, one) for one in (*own, *(column_of(table, name) for name in first))]
    image = images.image(kept, "sqlite")
    still = and_(
        identified == bindparam("row_key", type_=NullType()),
        *(
            table.c[name].is_not_distinct_from(bindparam(f"seen_{n}", type_=NullType()))
            for n, name in enumerate(changes[0].seen)
        ),
    )
    found = select(bindparam("run", type_=Text), literal(table.name, Text), images.key_of(own, "sqlite"), image, null())
    values = written | {name: bindparam(f"new_{n}", type_=NullType()) for n, name in enumerate(differing)}
    after = select(image).where(identified == bindparam("row_key", type_=NullType())).scalar_subquery()
    last = connection.execute(select(func.coalesce(func.max(entries.c.id), 0))).scalar_one()
    mine = and_(entries.c.run_id == bindparam("run", type_=Text), entries.c.id > last)
    rows = [_parameters(database, connection, table, one, differing, unit) for one in changes]
    connection.execute(insert(entries).from_select(ENTRY, found.where(still)), rows)
    connection.execute(update(table).values(values).where(still), rows)
    connection.execute(update(entries).values(after=after).where(mine), rows)
    return set(connection.execute(select(entries.c.run_id).where(entries.c.id > last)).scalars())


def _parameters(
    database: Database, connection: Connection, table: Table, change: RowChange, differing: list[str], unit: str | None
) -> dict[str, Any]:
    own = {name: change.values[name] for name in differing}
    written = expressions(database, connection, table, own, unit=unit)
    return {
        "run": change.run_id,
        "row_key": change.key,
        **{f"seen_{n}": value for n, value in enumerate(change.seen.values())},
        **{f"new_{n}": getattr(written[name], "value", None) for n, name in enumerate(differing)},
    }


def _lined_up(column: Column[Any], values: list[Any]) -> ColumnElement[Any]:
    return func.unnest(bindparam(None, values, type_=ARRAY(column.type), unique=True), type_=column.type)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _is_now(value: Any) -> bool:
    return isinstance(value, str) and value == NOW
