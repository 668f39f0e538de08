"""The newest row of a table is too old (HEAL_SYNC_001); a row that is dated in the future is never the newest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Table, func, select

from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import FreshnessCheck
from prunella.databases.columns import column_of
from prunella.databases.handle import Database
from prunella.databases.moments import Moments
from prunella.databases.visibility import blind

_FUTURE_KEY = "{table}: future rows"


class Freshness:
    """Find a table that has not been written to for too long; an empty one was never fresh and is no finding."""

    def __init__(self, database: Database, spec: FreshnessCheck, *, cap: int = 500) -> None:
        self._database = database
        self._spec = spec

    async def look(self, only: str | None = None) -> Sighting:
        return await self._database.reading(lambda connection: self._look(connection, only))

    def _look(self, connection: Connection, only: str | None) -> Sighting:
        table = self._database.table(connection, self._spec.table)
        moments = Moments(self._database, connection, unit=self._spec.unit)
        hidden = blind(self._database, connection, table)
        if hidden is not None:
            return Sighting(at=moments.now, blind=hidden)
        found = tuple(one for one in self._found(connection, table, moments) if only in (None, one.key))
        moments.settle()
        return Sighting(findings=found, at=moments.now)

    def _found(self, connection: Connection, table: Table, moments: Moments) -> Iterator[Finding]:
        spec, column = self._spec, column_of(table, self._spec.column)
        latest = func.max(moments.latest(column))
        newest, ahead = connection.execute(
            select(
                select(latest).where(moments.not_in_future(column)).scalar_subquery(),
                select(latest).where(moments.in_future(column)).scalar_subquery(),
            )
        ).one()
        at = moments.read_latest(column, newest)
        if at is not None and (moments.now - at).total_seconds() > spec.older_than_s:
            age_s = (moments.now - at).total_seconds()
            yield Finding(
                key=spec.table,
                issue="STALE_SYNC",
                message=f"the newest {spec.column} of {spec.table} is {_minutes(age_s)} old, "
                f"more than {_minutes(spec.older_than_s)}",
                kind="data.business",
                facts={
                    "table": spec.table,
                    "column": spec.column,
                    "newest": at.isoformat(),
                    "age_s": round(age_s),
                    "older_than_s": spec.older_than_s,
                },
            )
        if ahead is not None:
            yield self._future(moments.read_latest(column, ahead) or ahead)

    def _future(self, ahead: Any) -> Finding:
        spec, until = self._spec, ahead.isoformat() if hasattr(ahead, "isoformat") else str(ahead)
        return Finding(
            key=_FUTURE_KEY.format(table=spec.table),
            issue="FUTURE_ROW",
            message=f"{spec.column} of {spec.table} lies in the future ({until}); such a row never counts as fresh. "
            "Find out what writes it: a clock that is ahead, or a zone that got lost",
            kind="data.validation",
            facts={"table": spec.table, "column": spec.column, "latest": until},
            remedy="manual_intervention",
        )


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)} min" if seconds >= 60 else f"{seconds:g} s"
