"""How much of everything stands where, for gauges: each query walks an index over what is open, never what is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import func, select

from prunella.core.states import ApprovalState, IncidentState, OperationState
from prunella.store.columns import Moment
from prunella.store.session import Session
from prunella.store.sql import Sql, member_of, param
from prunella.store.tables import approvals, audit, incidents, notifications, operations

OPEN: Final = tuple(state.value for state in IncidentState if state is not IncidentState.RESOLVED)
QUEUED: Final = tuple(state.value for state in (OperationState.WAITING, OperationState.RUNNING, OperationState.DEAD))
_count = func.count().label("count")
_now = param("now", Moment())
_INCIDENTS = Sql(select(incidents.c.state, _count).where(incidents.c.state.in_(OPEN)).group_by(incidents.c.state))
_OPERATIONS = Sql(
    select(operations.c.service, operations.c.state, _count)
    .where(member_of(operations.c.service, "services"), operations.c.state.in_(QUEUED))
    .group_by(operations.c.service, operations.c.state)
)
_DUE = Sql(
    select(func.min(incidents.c.next_at, type_=Moment()).label("due")).where(
        incidents.c.state.in_(OPEN), incidents.c.next_at <= _now, incidents.c.lease_until.is_(None)
    )
)
_MESSAGES = Sql(
    select(notifications.c.channel, _count).where(notifications.c.state == "waiting").group_by(notifications.c.channel)
)
_APPROVALS = Sql(select(_count).where(approvals.c.state == ApprovalState.WAITING.value))
_UNSEALED = Sql(select(_count).where(audit.c.seal.is_(None)))


class CensusRows:
    """Count."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def incidents(self) -> dict[str, int]:
        """Return state -> open incidents, every open state."""
        found = {row["state"]: row["count"] for row in await self._session.fetch(_INCIDENTS)}
        return {state: found.get(state, 0) for state in OPEN}

    async def operations(self, services: Sequence[str]) -> dict[tuple[str, str], int]:
        """Return (service, state) -> operations that wait, run or are in quarantine, also where there are none."""
        found = await self._session.fetch(_OPERATIONS, services=list(services))
        counts = {(row["service"], row["state"]): row["count"] for row in found}
        return {(name, state): counts.get((name, state), 0) for name in services for state in QUEUED}

    async def due_since(self, now: datetime) -> datetime | None:
        """Return since when the longest waiting incident is due that nobody works on, None where none is."""
        row = await self._session.one(_DUE, now=now)
        return row["due"] if row else None

    async def messages(self) -> dict[str, int]:
        """Return channel -> messages that wait."""
        return {row["channel"]: row["count"] for row in await self._session.fetch(_MESSAGES)}

    async def approvals(self) -> int:
        """Count plans that wait for a person."""
        row = await self._session.one(_APPROVALS)
        return int(row["count"]) if row else 0

    async def unsealed(self) -> int:
        """Count entries of the audit that stand under no seal yet."""
        row = await self._session.one(_UNSEALED)
        return int(row["count"]) if row else 0
