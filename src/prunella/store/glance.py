"""Figures for who looks at a page: counts and shares of the last hours and days. Reads only.

Every query is bounded, or walks an index over a window of time; none reads the signals or a table whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from prunella.core.records import AuditEntry, Incident
from prunella.core.states import ApprovalState, IncidentState
from prunella.store.session import Session, records
from prunella.store.sql import Row, Sql, hour_of, member_of, param, seconds_between
from prunella.store.tables import approvals, audit, notifications
from prunella.store.tables import incidents as t

_FOR_PEOPLE = [IncidentState.ESCALATED.value, IncidentState.AWAITING_APPROVAL.value]


def _at_most(query: Select[Any]) -> Sql:
    """Count the rows of a query, but no further than `most`."""
    return Sql(select(func.count().label("count")).select_from(query.limit(param("most")).subquery()))


_ASKED = _at_most(select(approvals.c.id).where(approvals.c.state == ApprovalState.WAITING.value))
_UNSEEN = _at_most(
    select(notifications.c.id).where(
        notifications.c.channel == param("channel_"),
        notifications.c.acknowledged_at.is_(None),
    )
)
_count = func.count().label("count")
_real = t.c.forced.is_(False)
_hour = hour_of(t.c.first_seen).label("hour")
_OPEN = Sql(select(t.c.state, _count).where(t.c.state != IncidentState.RESOLVED.value).group_by(t.c.state))
_BY_CATEGORY = Sql(
    select(t.c.category, t.c.state, _count)
    .where(t.c.first_seen >= param("since"), _real)
    .group_by(t.c.category, t.c.state)
)
_BY_HOUR = Sql(
    select(_hour, t.c.state, _count).where(t.c.first_seen >= param("since"), _real).group_by(_hour, t.c.state)
)
_BY_SERVICE = Sql(
    select(t.c.service, _count)
    .where(t.c.first_seen >= param("since"), _real)
    .group_by(t.c.service)
    .order_by(_count.desc(), t.c.service)
    .limit(param("most"))
)
_OF_SERVICES = Sql(
    select(t.c.service, _hour, t.c.state, _count)
    .where(t.c.first_seen >= param("since"), _real, member_of(t.c.service, "services"))
    .group_by(t.c.service, _hour, t.c.state)
)
_took = seconds_between(t.c.first_seen, t.c.resolved_at).label("took_s")
_recovered = select(_took).where(t.c.resolved_at >= param("since"), _real)
_RECOVERED = Sql(select(func.count().label("count")).where(t.c.resolved_at >= param("since"), _real))
_TOOK = Sql(_recovered.order_by(_took).limit(1).offset(param("rank")))
_FOR_PERSON = Sql(
    select(t).where(t.c.state.in_(_FOR_PEOPLE)).order_by(t.c.first_seen.desc(), t.c.id.desc()).limit(param("most"))
)
_AUDIT_AFTER = Sql(select(audit).where(audit.c.id > param("after")).order_by(audit.c.id).limit(param("most")))
_AUDIT_LATEST = Sql(select(audit).order_by(audit.c.id.desc()).limit(param("most")))


class GlanceRows:
    """Read figures."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def asked(self, most: int) -> int:
        """Count the plans that wait for an answer, up to `most`."""
        row = await self._session.one(_ASKED, most=most)
        return int(row["count"]) if row else 0

    async def unseen(self, channel: str, most: int) -> int:
        """Count the notices that nobody has acknowledged, up to `most`."""
        row = await self._session.one(_UNSEEN, channel_=channel, most=most)
        return int(row["count"]) if row else 0

    async def open_by_state(self) -> dict[str, int]:
        """Count what is open, forced ones too."""
        return {row["state"]: row["count"] for row in await self._session.fetch(_OPEN)}

    async def by_category(self, since: datetime) -> list[Row]:
        """Count what was first seen since, by category and state."""
        return await self._session.fetch(_BY_CATEGORY, since=since)

    async def by_hour(self, since: datetime) -> list[Row]:
        """Count what was first seen since, by hour (UTC) and state."""
        return _with_hours(await self._session.fetch(_BY_HOUR, since=since))

    async def most_failing(self, since: datetime, most: int) -> list[Row]:
        """Count what was first seen since, for the services with the most of it."""
        return await self._session.fetch(_BY_SERVICE, since=since, most=most)

    async def of_services(self, services: Sequence[str], since: datetime) -> list[Row]:
        """Count what was first seen since, by service, hour and state."""
        return _with_hours(await self._session.fetch(_OF_SERVICES, since=since, services=list(services)))

    async def times_to_recover(self, since: datetime, shares: Sequence[float]) -> tuple[int, list[float]]:
        """Return how many recovered since, and within how many seconds these shares of them did (nearest rank)."""
        row = await self._session.one(_RECOVERED, since=since)
        count = int(row["count"]) if row else 0
        ranks = [max(0, -int(-count * share // 1) - 1) for share in shares] if count else []
        found = [await self._session.one(_TOOK, since=since, rank=rank) for rank in ranks]
        return count, [float(one["took_s"]) for one in found if one is not None]

    async def for_people(self, most: int) -> list[Incident]:
        """Return what waits for a person, newest first."""
        return records(Incident, await self._session.fetch(_FOR_PERSON, most=most))

    async def audit_after(self, after: str, most: int) -> list[AuditEntry]:
        """Return entries behind an id, oldest first."""
        return records(AuditEntry, await self._session.fetch(_AUDIT_AFTER, after=after, most=most))

    async def audit_latest(self, most: int) -> list[AuditEntry]:
        """Return the latest entries, newest first."""
        return records(AuditEntry, await self._session.fetch(_AUDIT_LATEST, most=most))


def _with_hours(rows: list[Row]) -> list[Row]:
    """Spell hours as `2026-03-01 12`, whichever database they come from."""
    return [{**row, "hour": str(row["hour"])[:13]} for row in rows]
