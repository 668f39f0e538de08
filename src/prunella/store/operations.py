"""Rows of operations: work that waits in a service's lane, in the order it came, once per idempotency key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from prunella.core.records import Operation
from prunella.core.states import OperationState
from prunella.store.session import Session, must_change, record, records, row_of
from prunella.store.sql import Sql, member_of, param, prepare
from prunella.store.tables import operations as t

_S = OperationState
_WAITING = t.c.state == _S.WAITING.value
_OF_INCIDENT = t.c.incident_id == param("incident")

_BY_ID = Sql(select(t).where(t.c.id == param("id_")))
_BY_SIGNAL = Sql(select(t).where(t.c.signal_id == param("signal")))
_NEW = Sql(select(func.count().label("count")).where(_OF_INCIDENT, _WAITING, t.c.attempts == 0, t.c.due_at.is_(None)))
_SCHEDULE_NEW = Sql(
    update(t).where(_OF_INCIDENT, _WAITING, t.c.attempts == 0, t.c.due_at.is_(None)).values(due_at=param("due"))
)
_DUE = Sql(
    select(t)
    .where(_OF_INCIDENT, _WAITING, t.c.due_at <= param("now"))
    .order_by(t.c.created_at, t.c.id)
    .limit(param("most"))
)
_NEXT_DUE = Sql(select(func.min(t.c.due_at).label("due_at")).where(_OF_INCIDENT, _WAITING))
_TALLY = Sql(select(t.c.state, func.count().label("count")).where(_OF_INCIDENT).group_by(t.c.state))
_BEGIN = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), _WAITING)
    .values(state=_S.RUNNING.value, attempts=t.c.attempts + 1)
    .returning(t.c.id)
)
_SAVE = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.state == param("was"))
    .values(
        state=param("state"),
        attempts=param("attempts"),
        due_at=param("due"),
        last_error=param("error"),
        last_kind=param("kind"),
        token_version=param("token"),
    )
)
_WAKE_RESTING = Sql(
    update(t).where(_OF_INCIDENT, _WAITING, t.c.attempts > 0, t.c.due_at.is_(None)).values(due_at=param("now"))
)
_REST = Sql(update(t).where(_OF_INCIDENT, _WAITING).values(due_at=None, last_error=param("error")))
_REST_STARTED = Sql(
    update(t)
    .where(_OF_INCIDENT, _WAITING, t.c.attempts == 0, t.c.due_at.is_(None))
    .values(attempts=1, last_error=param("error"))
)
_QUARANTINE = Sql(
    select(t.c.last_error).where(_OF_INCIDENT, t.c.state == _S.DEAD.value).order_by(t.c.created_at.desc()).limit(1)
)
_RUNNING = Sql(select(t).where(_OF_INCIDENT, t.c.state == _S.RUNNING.value))


class OperationRows:
    """Read and write operations."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, operations: Sequence[Operation]) -> None:
        """Queue operations; one whose idempotency key is queued already is left as it stands."""
        in_one_order = sorted(operations, key=lambda one: one.idempotency_key)  # or two batches deadlock
        await self._session.insert(
            t, [row_of(one) for one in in_one_order], conflict="ON CONFLICT (idempotency_key) DO NOTHING"
        )

    async def get(self, operation_id: str) -> Operation | None:
        """Return one operation."""
        return record(Operation, await self._session.one(_BY_ID, id_=operation_id))

    async def of_signal(self, signal_id: str) -> Operation | None:
        """Return the operation that an event brought along."""
        return record(Operation, await self._session.one(_BY_SIGNAL, signal=signal_id))

    async def count_new(self, incident_id: str) -> int:
        """Count the operations for which nothing is planned yet."""
        row = await self._session.one(_NEW, incident=incident_id)
        return int(row["count"]) if row else 0

    async def schedule_new(self, incident_id: str, due: datetime) -> int:
        """Plan every operation that has no plan yet; return how many."""
        return await self._session.change(_SCHEDULE_NEW, incident=incident_id, due=due)

    async def due(self, incident_id: str, now: datetime, most: int) -> list[Operation]:
        """Return the oldest operations that are due, at most `most`."""
        return records(Operation, await self._session.fetch(_DUE, incident=incident_id, now=now, most=most))

    async def next_due(self, incident_id: str) -> datetime | None:
        """Return when the next waiting operation is due; None when none has a time."""
        row = await self._session.one(_NEXT_DUE, incident=incident_id)
        return row["due_at"] if row else None

    async def tally(self, incident_id: str) -> dict[str, int]:
        """Count an incident's operations by state."""
        return {row["state"]: row["count"] for row in await self._session.fetch(_TALLY, incident=incident_id)}

    async def begin(self, ids: Sequence[str]) -> list[str]:
        """Mark waiting operations as running and count the attempt; return those that this caller won."""
        return [row["id"] for row in await self._session.fetch(_BEGIN, ids=list(ids))]

    async def quarantined_because(self, incident_id: str) -> str | None:
        """Return why the newest quarantined operation is there, None when there is none."""
        row = await self._session.one(_QUARANTINE, incident=incident_id)
        return row["last_error"] if row else None

    async def running(self, incident_id: str) -> list[Operation]:
        """Return the operations that are in mid-call, or were when their worker died."""
        return records(Operation, await self._session.fetch(_RUNNING, incident=incident_id))

    async def save(self, operation: Operation, was: OperationState) -> None:
        """Write how the last try ended and what comes next; `Conflict` when it is no longer in `was`."""
        touched = await self._session.change(
            _SAVE,
            id_=operation.id,
            was=was.value,
            state=operation.state.value,
            attempts=operation.attempts,
            due=operation.due_at,
            error=operation.last_error,
            kind=operation.last_kind,
            token=operation.token_version,
        )
        must_change(touched, f"operation {operation.id}")

    async def wake(self, incident_id: str, now: datetime) -> int:
        """Make the resting operations of an incident due."""
        return await self._session.change(_WAKE_RESTING, incident=incident_id, now=now)

    async def rest(self, incident_id: str, error: str) -> None:
        """Let every waiting operation rest until a scan or a person wakes it."""
        await self._session.change(_REST_STARTED, incident=incident_id, error=error)
        await self._session.change(_REST, incident=incident_id, error=error)

    async def list(self, *, most: int, **equal: Any) -> list[Operation]:
        """Return operations, newest first, that equal the given columns."""
        query = select(t).order_by(t.c.created_at.desc(), t.c.id.desc()).limit(most)
        for name, value in equal.items():
            query = query.where(t.c[name] == value)
        return records(Operation, await self._session.fetch(prepare(query, self._session.dialect)))
