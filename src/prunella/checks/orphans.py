"""Rows whose parent does not exist (HEAL_DATA_003); a NULL reference is none, and a hidden parent is no missing one."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, and_, exists, select

from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import OrphansCheck
from prunella.databases import conditions, counting
from prunella.databases.columns import column_of, key_of
from prunella.databases.handle import Database
from prunella.databases.moments import Moments
from prunella.databases.visibility import blind


class Orphans:
    """Find child rows without their parent, as one finding with their keys.

    Args:
        cap: how many of them are named at most.
        share_max: the table is counted up to the size at which the orphans are no larger share.
    """

    def __init__(self, database: Database, spec: OrphansCheck, *, cap: int = 500, share_max: float = 0.20) -> None:
        self._database = database
        self._spec = spec
        self._cap = cap
        self._share_max = share_max

    @property
    def table(self) -> str:
        """Return the name of the table whose rows are named."""
        return self._spec.child

    async def look(self, only: str | None = None) -> Sighting:
        return await self._database.reading(lambda connection: self._look(connection, only))

    def _look(self, connection: Connection, only: str | None) -> Sighting:
        spec, database = self._spec, self._database
        child = database.table(connection, spec.child)
        moments = Moments(database, connection, unit=spec.unit)
        hidden = blind(database, connection, child) or blind(
            database, connection, database.table(connection, spec.parent), whole=True
        )
        if hidden is not None or only not in (None, spec.child):
            return Sighting(at=moments.now, blind=hidden)
        found = select(key_of(child).label("key")).where(self._orphaned(connection, child, moments))
        count, keys = counting.counted(connection, found, self._cap)
        moments.settle()
        if not count:
            return Sighting(at=moments.now)
        ages = conditions.words({}, spec.older_than) if spec.older_than else ""
        finding = Finding(
            key=spec.child,
            issue="ORPHAN_ROWS",
            message=f"{count} rows of {spec.child} refer by {spec.column} to a row of {spec.parent} that does not exist"
            + (f" ({ages})" if ages else ""),
            kind="data.not_found",
            facts={"table": spec.child, "column": spec.column, "parent": spec.parent, "count": count},
            keys=keys,
            count=count,
            total=counting.size(connection, child, counting.enough(count, self._share_max)),
        )
        return Sighting(findings=(finding,), at=moments.now)

    def condition(self, connection: Connection, table: Table) -> ColumnElement[bool]:
        """Return what a row must still meet when it is deleted."""
        return self._orphaned(connection, table, Moments(self._database, connection, unit=self._spec.unit))

    def _orphaned(self, connection: Connection, child: Table, moments: Moments) -> ColumnElement[bool]:
        spec = self._spec
        parents = self._database.table(connection, spec.parent)
        key = parents.alias("parent").columns[column_of(parents, spec.parent_key).name]
        reference = column_of(child, spec.column)
        old = [moments.older_than(column_of(child, name), seconds) for name, seconds in spec.older_than.items()]
        return and_(reference.is_not(None), ~exists().where(key == reference).correlate(child), *old)
