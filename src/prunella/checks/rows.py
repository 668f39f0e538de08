"""Rows that should not be as they are (HEAL_DATA_002): counted in full, named up to a cap, changed by nobody here."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, and_, select

from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import RowsCheck
from prunella.databases import conditions, counting
from prunella.databases.columns import column_of, key_of
from prunella.databases.handle import Database
from prunella.databases.moments import Moments
from prunella.databases.visibility import blind


class Rows:
    """Find the rows that match a condition, as one finding with their keys.

    Args:
        cap: how many of them are named at most.
        share_max: the table is counted up to the size at which the matches are no larger share.
    """

    def __init__(self, database: Database, spec: RowsCheck, *, cap: int = 500, share_max: float = 0.20) -> None:
        self._database = database
        self._spec = spec
        self._cap = cap
        self._share_max = share_max

    @property
    def table(self) -> str:
        """Return the name of the table whose rows are named."""
        return self._spec.table

    async def look(self, only: str | None = None) -> Sighting:
        return await self._database.reading(lambda connection: self._look(connection, only))

    def _look(self, connection: Connection, only: str | None) -> Sighting:
        spec = self._spec
        table = self._database.table(connection, spec.table)
        moments = Moments(self._database, connection, unit=spec.unit)
        hidden = blind(self._database, connection, table)
        if hidden is not None or only not in (None, spec.table):
            return Sighting(at=moments.now, blind=hidden)
        key = key_of(table)
        found = select(key).where(self._matching(table, moments))
        count, keys = counting.named(connection, found, key, self._cap)
        moments.settle()
        if not count:
            return Sighting(at=moments.now)
        wanted = conditions.words(spec.where, spec.older_than)
        finding = Finding(
            key=spec.table,
            issue="ROWS_MATCH",
            message=f"{'1 row' if count == 1 else f'{count} rows'} of {spec.table} found by: {wanted}",
            kind="data.business",
            facts={"table": spec.table, "count": count, "where": wanted},
            keys=keys,
            count=count,
            total=counting.size(connection, table, counting.enough(count, self._share_max)),
        )
        return Sighting(findings=(finding,), at=moments.now)

    def condition(self, connection: Connection, table: Table) -> ColumnElement[bool]:
        """Return what a row must still meet when it is changed."""
        return self._matching(table, Moments(self._database, connection, unit=self._spec.unit))

    def _matching(self, table: Table, moments: Moments) -> ColumnElement[bool]:
        ages = self._spec.older_than.items()
        old = [moments.older_than(column_of(table, name), seconds) for name, seconds in ages]
        return and_(conditions.matching(table, self._spec.where), *old)
