"""Entities that stay in a state for longer than they should (document D): one finding per row, oldest first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, func, literal, or_, select, union_all

from prunella.core.findings import Finding, Row, Sighting
from prunella.core.procedures import Entity
from prunella.databases import counting
from prunella.databases.columns import column_of, has_key, key_text, may_be_key
from prunella.databases.conditions import as_value
from prunella.databases.handle import Database
from prunella.databases.moments import Moments
from prunella.databases.visibility import blind

_ORDER = "prunella_order"


class Stuck:
    """Find the rows of an entity whose state lasts strictly longer than its rule allows.

    Args:
        cap: how many are found at most, the oldest ones.
    """

    def __init__(self, database: Database, entity: Entity, *, cap: int = 500) -> None:
        self._database = database
        self._entity = entity
        self._cap = cap

    async def look(self, only: str | None = None) -> Sighting:
        return await self._database.reading(lambda connection: self._look(connection, only))

    async def row(self, key: str) -> Row | None:
        return await self._database.reading(lambda connection: self._row(connection, key))

    def _row(self, connection: Connection, key: str) -> Row | None:
        table = self._database.table(connection, self._entity.table)
        column = column_of(table, self._entity.key)
        if not may_be_key(column, key):
            return None
        found = connection.execute(select(table).where(has_key(column, key)).limit(1)).mappings().first()
        same = found is not None and key_text(found[self._entity.key]) == key  # SQLite finds 5 for "5.0", too
        return dict(found) if found is not None and same else None

    def _look(self, connection: Connection, only: str | None) -> Sighting:
        entity = self._entity
        table = self._database.table(connection, entity.table)
        moments = Moments(self._database, connection, unit=entity.unit)
        hidden = blind(self._database, connection, table)
        if hidden is not None or not entity.stuck:
            return Sighting(at=moments.now, blind=hidden)
        key, since = column_of(table, entity.key), column_of(table, entity.since)
        stuck = self._stuck(table, moments)
        if only is not None:
            mine = select(table).where(has_key(key, only), or_(*stuck)).limit(1)
            rows = connection.execute(mine).mappings().all()
            moments.settle()
            found = tuple(self._finding(dict(row), moments, since) for row in rows)
            return Sighting(findings=tuple(one for one in found if one.key == only), at=moments.now)
        rows = connection.execute(self._oldest(table, since, stuck, moments)).mappings().all()
        moments.settle()
        found = tuple(self._finding(dict(row), moments, since) for row in rows)
        count = len(found) if len(found) < self._cap else _count(connection, table, stuck)
        active = counting.up_to(connection, self._under_way(table), 2 * count) if count else None
        return Sighting(findings=found, at=moments.now, active=active, count=count)

    def _stuck(self, table: Table, moments: Moments) -> list[ColumnElement[bool]]:
        """Return one condition per watched state."""
        status, since = column_of(table, self._entity.status), column_of(table, self._entity.since)
        return [
            and_(status == as_value(state), moments.older_than(since, rule.after_s))
            for state, rule in self._entity.stuck.items()
        ]

    def _oldest(
        self, table: Table, since: Column[Any], stuck: list[ColumnElement[bool]], moments: Moments
    ) -> Select[Any]:
        """Select the oldest of all states, each state by itself: an index on (status, since) gives them in order."""
        each = [
            select(table, moments.latest(since).label(_ORDER)).where(one).order_by(_ORDER).limit(self._cap)
            for one in stuck
        ]
        rows = union_all(*(select(one.subquery()) for one in each)).subquery()
        return select(rows).order_by(rows.columns[_ORDER]).limit(self._cap)

    def _under_way(self, table: Table) -> Select[Any]:
        watched = [as_value(state) for state in self._entity.stuck]
        return select(literal(1)).select_from(table).where(column_of(table, self._entity.status).in_(watched))

    def _finding(self, row: dict[str, Any], moments: Moments, since: Column[Any]) -> Finding:
        entity = self._entity
        row.pop(_ORDER, None)
        status, age_s = str(row[entity.status]).rstrip(), moments.age_s(since, row[entity.since]) or 0.0
        minutes, rule = int(age_s // 60), entity.stuck[status]
        return Finding(
            key=key_text(row[entity.key]),
            issue=f"STUCK_{status.upper()}",
            message=f"{entity.name} {key_text(row[entity.key])} has been {status} for {minutes} min, "
            f"more than {rule.after_s / 60:g}",
            kind="data.business",
            facts={"stuck_minutes": minutes, "status": status},
            row=row,
            remedy=rule.remedy,
        )


def _count(connection: Connection, table: Table, stuck: list[ColumnElement[bool]]) -> int:
    """Count all that are stuck, each state by itself, so that the index alone answers."""
    each = [select(func.count()).select_from(table).where(one).scalar_subquery() for one in stuck]
    return sum(connection.execute(select(*each)).one())
