"""A log holds fresh errors (HEAL_SYNC_002): one finding per source, with the last error and how many there are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    String,
    Table,
    and_,
    cast,
    exists,
    func,
    null,
    or_,
    select,
)

from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import ErrorsCheck
from prunella.core.redact import scrub
from prunella.databases.columns import column_of, has_key, key_text
from prunella.databases.conditions import matching
from prunella.databases.handle import Database
from prunella.databases.moments import Moments
from prunella.databases.visibility import blind

NO_SOURCE = "(no source)"
_FACTS = ("source", "message", "newest", "count")
_READ_CHARS, _SHOWN_CHARS = 2000, 300


class Failed:
    """Find the sources with errors that no later good row of the same source has made up for.

    Args:
        cap: how many sources are found at most, those with the newest errors.
    """

    def __init__(self, database: Database, spec: ErrorsCheck, *, cap: int = 500) -> None:
        self._database = database
        self._spec = spec
        self._cap = cap

    async def look(self, only: str | None = None, *, after: datetime | None = None) -> Sighting:
        """Return what is found now.

        Args:
            after: a mark, aware; only errors since then count, as after a remedy has acted.
        """
        return await self._database.reading(lambda connection: self._look(connection, only, after))

    def _look(self, connection: Connection, only: str | None, after: datetime | None) -> Sighting:
        table = self._database.table(connection, self._spec.table)
        moments = Moments(self._database, connection, unit=self._spec.unit)
        hidden = blind(self._database, connection, table)
        if hidden is not None:
            return Sighting(at=moments.now, blind=hidden)
        rows = connection.execute(self._last_errors(table, moments, only, after)).all()
        moments.settle()
        found = tuple(self._finding(moments, table, *row[:4]) for row in rows)
        return Sighting(findings=found, at=moments.now, count=rows[0].sources if rows else 0)

    def _last_errors(self, table: Table, moments: Moments, only: str | None, after: datetime | None) -> Select[Any]:
        """Select the newest error of each source, and how many there are of it."""
        spec = self._spec
        source, at = column_of(table, spec.by), column_of(table, spec.at)
        fresh = [matching(table, spec.where), moments.since(at, spec.within_s), moments.not_in_future(at)]
        fresh += [moments.from_(at, after)] if after is not None else []
        fresh += [_is_source(source, only)] if only is not None else []
        fresh += [~self._good_since(table, moments)] if spec.good is not None else []
        said = null() if spec.message is None else cast(column_of(table, spec.message), String)
        order = moments.latest(at)
        errors = (
            select(
                source.label("source"),
                func.substr(said, 1, _READ_CHARS).label("message"),
                order.label("newest"),
                func.count().over(partition_by=source).label("count"),
                func.row_number().over(partition_by=source, order_by=order.desc()).label("place"),
            )
            .where(and_(*fresh))
            .subquery()
        )
        return (
            select(*(errors.columns[name] for name in _FACTS), func.count().over().label("sources"))
            .where(errors.c.place == 1)
            .order_by(errors.c.newest.desc())
            .limit(self._cap)
        )

    def _good_since(self, table: Table, moments: Moments) -> ColumnElement[bool]:
        """Ask whether the source has worked again after an error."""
        spec, later = self._spec, table.alias("later")
        source, at = column_of(table, spec.by), column_of(table, spec.at)
        later_source, later_at = column_of(later, spec.by), column_of(later, spec.at)
        same = or_(later_source == source, and_(later_source.is_(None), source.is_(None)))
        newer = moments.latest(later_at) > moments.latest(at)
        good = and_(matching(later, spec.good or {}), same, newer, moments.not_in_future(later_at))
        return exists().where(good).correlate(table)

    def _finding(self, moments: Moments, table: Table, source: Any, message: Any, newest: Any, count: int) -> Finding:
        spec, key = self._spec, NO_SOURCE if source is None else key_text(source)
        at = moments.read_latest(column_of(table, spec.at), newest)
        said = None if message is None else _shown(str(message))
        return Finding(
            key=key,
            issue="FAILED_SYNC",
            message=f"{count} {'error' if count == 1 else 'errors'} of {key} in the last {spec.within_s / 60:g} min"
            + (f": {said}" if said else ""),
            facts={
                "source": None if source is None else key,
                "last_error": said,
                "count": count,
                "newest": None if at is None else at.isoformat(),
            },
            count=count,
            occurred_at=at,
        )


def _is_source(column: Column[Any], only: str) -> ColumnElement[bool]:
    return column.is_(None) if only == NO_SOURCE else has_key(column, only)


def _shown(message: str) -> str:
    text = scrub(message)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
