"""Rows of runs: every attempt, written before its outside call and settled after it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, func, literal_column, or_, select, true, update

from prunella.core.errors import Conflict
from prunella.core.records import Run
from prunella.core.states import RunState
from prunella.store.session import Session, behind, must_change, record, records, row_of
from prunella.store.sql import Row, Sql, member_of, param, prepare, seconds_between
from prunella.store.tables import incidents
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
    .where(member_of(t.c.id, "ids"), t.c.state == param("was"))
    .values(
        state=param("state"),
        ended_at=param("ended"),
        status=param("status_"),
        detail=param("detail_"),
        touched=param("touched_"),
        verified_at=param("verified"),
    )
    .returning(t.c.id)
)


_DISPROVE = Sql(
    update(t)
    .where(t.c.incident_id == param("incident"), t.c.issue == param("issue_"), t.c.state == RunState.VERIFIED.value)
    .values(state=RunState.INEFFECTIVE.value)
)
_BY_ID = Sql(select(t).where(t.c.id == param("id_")))
_later = t.alias("later")
_is_last = ~exists().where(_later.c.incident_id == t.c.incident_id, _later.c.started_at > t.c.started_at)
_OF_INCIDENTS = Sql(
    select(t).where(
        member_of(t.c.incident_id, "ids"),
        or_(t.c.state.in_(["running", "done"]), and_(t.c.state == RunState.UNKNOWN.value, _is_last)),
    )
)
_STILL_RUNNING = Sql(
    select(t.c.id).where(member_of(t.c.id, "ids"), t.c.state == RunState.RUNNING.value).with_for_update()
)
_ENDING = ("state", "ended_at", "status", "detail", "touched", "verified_at")
_TALLIES = Sql(
    select(
        t.c.issue,
        t.c.remedy,
        t.c.state,
        func.count().label("cases"),
        func.avg(seconds_between(incidents.c.first_seen, t.c.verified_at)).label("took_s"),
    )
    .select_from(t.outerjoin(incidents, incidents.c.id == t.c.incident_id))
    .where(t.c.issue != literal_column("''"), t.c.started_at >= param("since"))  # spelled as its index is
    .group_by(t.c.issue, t.c.remedy, t.c.state)
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
        must_change(len(await self.settle_those([run], was)), f"run {run.id}")

    async def settle_all(self, runs: Sequence[Run], was: RunState) -> None:
        """Write how several attempts ended, in one statement; `Conflict` when one is no longer in `was`."""
        table = self._session.dialect.table(t)
        changes = ", ".join(f"{name} = excluded.{name}" for name in _ENDING)
        ids = await self._session.insert(
            t,
            [row_of(run) for run in sorted(runs, key=lambda run: run.id)],
            conflict=f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE {table}.state = '{was.value}'",
            returning="id",
        )
        if len(ids) != len(runs):
            raise Conflict(f"a run is no longer {was.value}; read it again and decide anew")

    async def settle_those(self, runs: Sequence[Run], was: RunState) -> set[str]:
        """Write how attempts ended, one statement for those that ended alike; return those still in `was` till now."""
        return await self._session.change_alike(_SETTLE, {run.id: _ending(run) for run in runs}, was=was.value)

    async def disprove(self, incident_id: str, issue: str) -> None:
        """Write that an attempt at a known issue, which ended well, did not help."""
        await self._session.change(_DISPROVE, incident=incident_id, issue_=issue)

    async def still_running(self, run_ids: Sequence[str]) -> set[str]:
        """Return those that nobody has ended, locked until the transaction ends."""
        return {row["id"] for row in await self._session.fetch(_STILL_RUNNING, ids=list(run_ids))}

    async def of_incident(self, incident_id: str) -> list[Run]:
        """Return an incident's attempts, oldest first."""
        return records(Run, await self._session.fetch(_OF_INCIDENT, incident=incident_id))

    async def get(self, run_id: str) -> Run | None:
        """Return one attempt."""
        return record(Run, await self._session.one(_BY_ID, id_=run_id))

    async def unsettled_of(self, incident_ids: Sequence[str]) -> list[Run]:
        """Return the attempts of several incidents that still need a word.

        They have not ended, wait for their proof, or died as the last ones and were not made again.
        """
        return records(Run, await self._session.fetch(_OF_INCIDENTS, ids=list(incident_ids))) if incident_ids else []

    async def running_of(self, incident_id: str) -> list[Run]:
        """Return an incident's attempts that have not ended."""
        return records(Run, await self._session.fetch(_RUNNING_OF_INCIDENT, incident=incident_id))

    async def in_flight(self, service: str, since: datetime) -> int:
        """Count the calls to a service that are under way; what began before `since` has died."""
        row = await self._session.one(_IN_FLIGHT, service_=service, since=since)
        return int(row["count"]) if row else 0

    async def tallies(self, since: datetime) -> Sequence[Row]:
        """Count procedures' attempts that began since, by issue, remedy and state; `took_s` from finding to proof."""
        return await self._session.fetch(_TALLIES, since=since)

    async def list(
        self, *, most: int, before: tuple[datetime, str] | None = None, since: datetime | None = None, **equal: Any
    ) -> list[Run]:
        """Return attempts, newest first, that equal the given columns; `before` continues a listing.

        Args:
            since: begun at or after this moment.
        """
        query = select(t).where(behind(t.c.started_at, t.c.id, before), t.c.started_at >= since if since else true())
        query = query.order_by(t.c.started_at.desc(), t.c.id.desc()).limit(most)
        for name, value in equal.items():
            query = query.where(t.c[name] == value)
        return records(Run, await self._session.fetch(prepare(query, self._session.dialect)))


def _ending(run: Run) -> Row:
    return {
        "state": run.state.value,
        "ended": run.ended_at,
        "status_": run.status,
        "detail_": run.detail,
        "touched_": run.touched,
        "verified": run.verified_at,
    }
