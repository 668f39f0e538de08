"""Rows of runs: every attempt, written before its outside call and settled after it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update

from prunella.core.records import Run
from prunella.core.states import RunState
from prunella.store.session import Session, must_change, records, row_of
from prunella.store.sql import Sql, param
from prunella.store.tables import runs as t

_OF_INCIDENT = Sql(select(t).where(t.c.incident_id == param("incident")).order_by(t.c.started_at, t.c.id))
_IN_FLIGHT = Sql(
    select(func.count().label("count")).where(
        t.c.service == param("service_"), t.c.state == RunState.RUNNING.value, t.c.started_at > param("since")
    )
)
_RUNNING_OF_INCIDENT = Sql(select(t).where(t.c.incident_id == param("incident"), t.c.state == RunState.RUNNING.value))
_SETTLE = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.state == param("was"))
    .values(state=param("state"), ended_at=param("ended"), status=param("status_"), detail=param("detail_"))
)


class RunRows:
    """Read and write runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, runs: Sequence[Run]) -> None:
        """Record attempts that are about to begin."""
        await self._session.insert(t, [row_of(run) for run in runs])

    async def settle(self, run: Run, was: RunState) -> None:
        """Write how an attempt ended; `Conflict` when it is no longer in `was`."""
        touched = await self._session.change(
            _SETTLE,
            id_=run.id,
            was=was.value,
            state=run.state.value,
            ended=run.ended_at,
            status_=run.status,
            detail_=run.detail,
        )
        must_change(touched, f"run {run.id}")

    async def of_incident(self, incident_id: str) -> list[Run]:
        """Return an incident's attempts, oldest first."""
        return records(Run, await self._session.fetch(_OF_INCIDENT, incident=incident_id))

    async def running_of(self, incident_id: str) -> list[Run]:
        """Return an incident's attempts that have not ended."""
        return records(Run, await self._session.fetch(_RUNNING_OF_INCIDENT, incident=incident_id))

    async def in_flight(self, service: str, since: datetime) -> int:
        """Count the calls to a service that are under way; what began before `since` has died."""
        row = await self._session.one(_IN_FLIGHT, service_=service, since=since)
        return int(row["count"]) if row else 0
