"""What the configuration says about tables and columns, held against the live catalogue before anything is looked for.

Every mistake is told with its place below the procedure or entity; nothing here changes or counts rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, inspect, select

from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import (
    ArchiveAndDeleteRemedy,
    Entity,
    ErrorsCheck,
    FreshnessCheck,
    OrphansCheck,
    PoolCheck,
    Procedure,
    RowsCheck,
    SetRemedy,
    StuckCheck,
)
from prunella.databases.columns import (
    Sort,
    declared,
    meant,
    name_of,
    no_single_key,
    no_such_column,
    primary_key,
    sort_of,
)
from prunella.databases.conditions import operator_problem
from prunella.databases.handle import Database
from prunella.databases.moments import Moments, time_problem

Place = tuple[str, ...]
Problem = tuple[Place, str]
_LISTED_MAX, _SAMPLE = 12, 100


def problems_of(
    database: Database, connection: Connection, procedure: Procedure, entity: Entity | None = None
) -> list[Problem]:
    """Return what is wrong with the names and sorts of a procedure: places below it (an entity's below the entity)."""
    catalogue = _Catalogue(database, connection)
    match procedure.check:
        case FreshnessCheck() as check:
            found = catalogue.freshness(check)
        case ErrorsCheck() as check:
            found = catalogue.errors(check)
        case RowsCheck() as check:
            found = catalogue.rows(check)
        case OrphansCheck() as check:
            found = catalogue.orphans(check)
        case StuckCheck() if entity is not None:
            found = catalogue.entity(entity)
        case PoolCheck() if database.kind == "sqlite":
            found = iter(
                [(("check", "pool"), f"database {database.name} is SQLite, a file; only a server has connections")]
            )
        case _:
            found = iter(())
    return [*found, *catalogue.remedy(procedure)]


class _Catalogue:
    """One database's tables, as this role sees them."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    def freshness(self, check: FreshnessCheck) -> Iterator[Problem]:
        at = ("check", "freshness")
        table = yield from self._table((*at, "table"), check.table)
        if table is not None:
            yield from self._moment((*at, "column"), table, check.column, check.unit)

    def errors(self, check: ErrorsCheck) -> Iterator[Problem]:
        at = ("check", "errors")
        table = yield from self._table((*at, "table"), check.table)
        if table is None:
            return
        yield from self._where((*at, "where"), table, check.where)
        yield from self._where((*at, "good"), table, check.good or {})
        yield from self._columns(at, table, {"by": check.by, "message": check.message})
        yield from self._moment((*at, "at"), table, check.at, check.unit)

    def rows(self, check: RowsCheck) -> Iterator[Problem]:
        at = ("check", "rows")
        table = yield from self._table((*at, "table"), check.table)
        if table is None:
            return
        yield from self._key((*at, "table"), table)
        yield from self._where((*at, "where"), table, check.where)
        yield from self._ages(at, table, check.older_than, check.unit)

    def orphans(self, check: OrphansCheck) -> Iterator[Problem]:
        at = ("check", "orphans")
        child = yield from self._table((*at, "child"), check.child)
        parent = yield from self._table((*at, "parent"), check.parent)
        if child is not None:
            yield from self._key((*at, "child"), child)
            yield from self._columns(at, child, {"column": check.column})
            yield from self._ages(at, child, check.older_than, check.unit)
        if parent is not None:
            yield from self._columns(at, parent, {"parent_key": check.parent_key})
        if child is not None and parent is not None:
            yield from self._comparable(at, child, parent, check)

    def entity(self, entity: Entity) -> Iterator[Problem]:
        table = yield from self._table(("table",), entity.table)
        if table is None:
            return
        yield from self._columns((), table, {"key": entity.key, "status": entity.status})
        yield from self._moment(("since",), table, entity.since, entity.unit)
        key = primary_key(table)
        if (
            entity.key in table.columns
            and (key is None or key.name != entity.key)
            and not self._unique(table, entity.key)
        ):
            yield ("key",), f"{entity.table}.{entity.key} is not unique; name the primary key{_named(key)}"

    def remedy(self, procedure: Procedure) -> Iterator[Problem]:
        """Check what a remedy of rows would write."""
        name = _table_name(procedure)
        table = None if name is None else self._found(name)
        if table is None:
            return
        match procedure.remedy:
            case SetRemedy() as remedy:
                for column, value in remedy.values.items():
                    yield from self._written(("remedy", "set", column), table, column, value, _unit(procedure))
            case ArchiveAndDeleteRemedy() if primary_key(table) is None:
                yield ("remedy", "archive_and_delete"), no_single_key(table)

    def _table(self, at: Place, name: str) -> Generator[Problem, None, Table | None]:
        """Yield what is wrong with a table's name; return the table, None where there is none."""
        try:
            return self._database.table(self._connection, name)
        except DatabaseRefused as error:
            yield at, self._no_such_table(name, str(error))
            return None

    def _found(self, name: str) -> Table | None:
        try:
            return self._database.table(self._connection, name)
        except DatabaseRefused:
            return None

    def _no_such_table(self, name: str, refusal: str) -> str:
        if "no table" not in refusal:
            return refusal
        seen = inspect(self._connection)
        schema = self._database.source.schema
        known = sorted([*seen.get_table_names(schema=schema), *seen.get_view_names(schema=schema)])
        listed = ", ".join(known[:_LISTED_MAX]) + (", …" if len(known) > _LISTED_MAX else "")
        there = f"it sees: {listed}" if known else "it sees none; check schema and rights (prunella db grant --print)"
        return (
            f"{name!r} is no table that this role sees in database {self._database.name}{meant(name, known)}; {there}"
        )

    def _columns(self, at: Place, table: Table, named: Mapping[str, str | None]) -> Iterator[Problem]:
        for field, name in named.items():
            if name is not None and name not in table.columns:
                yield (*at, field), no_such_column(table, name)

    def _key(self, at: Place, table: Table) -> Iterator[Problem]:
        if primary_key(table) is None:
            yield at, no_single_key(table)

    def _where(self, at: Place, table: Table, where: Mapping[str, Any]) -> Iterator[Problem]:
        for name, wanted in where.items():
            problem = no_such_column(table, name) if name not in table.columns else operator_problem(wanted)
            problem = problem or self._unfit(table, name, wanted)
            if problem is not None:
                yield (*at, name), problem

    def _ages(self, at: Place, table: Table, ages: Mapping[str, float], unit: str | None) -> Iterator[Problem]:
        for name in ages:
            yield from self._moment((*at, "older_than", name), table, name, unit)

    def _moment(self, at: Place, table: Table, name: str, unit: str | None) -> Iterator[Problem]:
        if name not in table.columns:
            yield at, no_such_column(table, name)
            return
        column = table.columns[name]
        problem = time_problem(self._database, column, unit)
        if problem is None and self._database.kind == "sqlite":
            problem = self._sampled(table, name, unit)
        if problem is not None:
            yield at, problem

    def _sampled(self, table: Table, name: str, unit: str | None) -> str | None:
        """Look at some values of SQLite, whose columns hold anything."""
        column, moments = table.columns[name], Moments(self._database, self._connection, unit=unit)
        some = self._connection.execute(select(column).where(column.is_not(None)).limit(_SAMPLE)).scalars().all()
        read = [moments.read(column, value) for value in some]
        try:
            moments.settle()
        except DatabaseRefused as error:
            return str(error).partition(": ")[2]
        if some and not any(read):
            return (
                f"{table.name}.{name} holds {str(some[0])[:40]!r}, which tells no moment; "
                "write ISO 8601 (2026-01-31T12:00:00Z), or say the unit of numbers: s or ms"
            )
        return None

    def _unfit(self, table: Table, name: str, wanted: Any) -> str | None:
        """Say which value a column can't hold; SQLite's hold anything."""
        sort = sort_of(table.columns[name], self._database.kind)
        for value in _values(wanted):
            if self._database.kind == "sqlite" or value is None:
                continue
            fits = _FITS.get(sort)
            if fits is not None and not fits(value):
                return f"{value!r} does not fit {table.name}.{name}, which is a {sort.value} column"
        return None

    def _written(self, at: Place, table: Table, name: str, value: Any, unit: str | None) -> Iterator[Problem]:
        if name not in table.columns:
            yield at, no_such_column(table, name)
        elif table.columns[name].primary_key:
            yield at, f"{table.name}.{name} is the primary key; what a row is called is never changed"
        elif table.columns[name].computed is not None:
            yield at, f"{table.name}.{name} is computed by the database and can't be set; leave it out"
        elif value == "now":
            yield from self._moment(at, table, name, unit)
        elif value is None and not table.columns[name].nullable:
            yield at, f"{table.name}.{name} is NOT NULL; write a value"
        elif (problem := self._unfit(table, name, value)) is not None:
            yield at, problem

    def _comparable(self, at: Place, child: Table, parent: Table, check: OrphansCheck) -> Iterator[Problem]:
        if check.column not in child.columns or check.parent_key not in parent.columns:
            return
        mine, theirs = child.columns[check.column], parent.columns[check.parent_key]
        sorts = sort_of(mine, self._database.kind), sort_of(theirs, self._database.kind)
        if sorts[0] is not sorts[1]:
            said = f"{name_of(mine)} is {declared(mine)} and {name_of(theirs)} {declared(theirs)}"
            yield (*at, "column"), f"{said}: they never compare equal; name the column that holds the parent's key"

    def _unique(self, table: Table, name: str) -> bool:
        seen, schema = inspect(self._connection), self._database.source.schema
        indexes = seen.get_indexes(table.name, schema=schema)
        constraints = seen.get_unique_constraints(table.name, schema=schema)
        sets = [one["column_names"] for one in indexes if one.get("unique")] + [
            one["column_names"] for one in constraints
        ]
        return [name] in sets


def _values(wanted: Any) -> Iterable[Any]:
    if isinstance(wanted, Mapping):
        return [one for value in wanted.values() for one in _values(value)]
    return wanted if isinstance(wanted, list | tuple) else [wanted]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


_FITS: Mapping[Sort, Callable[[Any], bool]] = {
    Sort.NUMBER: _is_number,
    Sort.BOOLEAN: lambda value: isinstance(value, bool),
    Sort.TEXT: lambda value: isinstance(value, str),
}


def _table_name(procedure: Procedure) -> str | None:
    match procedure.check:
        case RowsCheck(table=name) | FreshnessCheck(table=name) | ErrorsCheck(table=name) | OrphansCheck(child=name):
            return name
    return None


def _unit(procedure: Procedure) -> str | None:
    return getattr(procedure.check, "unit", None)


def _named(key: Any) -> str:
    return "" if key is None else f" ({key.name})"
