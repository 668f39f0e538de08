"""The lanes as people see them: operations found by filter, counted, walked in pages, and moved by a person's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update

from prunella.core.records import AuditEntry, Operation, Run
from prunella.core.states import OperationState
from prunella.store.session import Session, behind, records
from prunella.store.sql import Row, Sql, member_of, param, prepare
from prunella.store.tables import audit, runs
from prunella.store.tables import operations as t

DUE = ("due", "overdue", "later", "resting")
"""How waiting operations stand to time: due now, due for longer than a minute, due later, due at no time."""
_OVERDUE_AFTER = timedelta(minutes=1)
_WAITING = t.c.state == OperationState.WAITING.value
_UNKNOWN = and_(t.c.state == OperationState.DEAD.value, func.coalesce(t.c.last_error, "").like("outcome unknown%"))

_BY_IDS = Sql(select(t).where(member_of(t.c.id, "ids")).order_by(t.c.created_at, t.c.id))
_MOVE = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), member_of(t.c.state, "states"))
    .values(state=param("state_"), due_at=param("due"), last_error=func.coalesce(param("error"), t.c.last_error))
    .returning(t.c.id)
)
_AGAIN = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), member_of(t.c.state, "states"))
    .values(state=OperationState.WAITING.value, due_at=param("due"), attempts=0)
    .returning(t.c.id)
)
_TRACE = Sql(select(audit).where(audit.c.target == param("target_")).order_by(audit.c.id).limit(200))
_RUNS = Sql(
    select(runs)
    .where(runs.c.incident_id == param("incident"), runs.c.operation_id == param("operation"))
    .order_by(runs.c.started_at, runs.c.id)
    .limit(200)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which operations are meant; what is None does not matter.

    Args:
        due: one of `DUE`, as it is at `now`.
        states: only these; None: all.
        until: only those that were queued until then, so that what came later is not among them.
    """

    service: str | None = None
    states: tuple[OperationState, ...] | None = None
    incident: str | None = None
    account: str | None = None
    due: str | None = None
    idempotency_key: str | None = None
    until: datetime | None = None
    now: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return them as SQL."""
        equal = {
            t.c.service: self.service,
            t.c.incident_id: self.incident,
            t.c.account: self.account,
            t.c.idempotency_key: self.idempotency_key,
        }
        found = [column == value for column, value in equal.items() if value is not None]
        if self.states is not None:
            found.append(t.c.state.in_([state.value for state in self.states]))
        if self.until is not None:
            found.append(t.c.created_at <= self.until)
        if self.due is not None:
            assert self.now is not None
            found += [_WAITING, _due(self.due, self.now)]
        return found


def _due(word: str, now: datetime) -> ColumnElement[bool]:
    if word == "resting":
        return t.c.due_at.is_(None)
    if word == "later":
        return t.c.due_at > now
    return t.c.due_at <= (now - _OVERDUE_AFTER if word == "overdue" else now)


class BacklogRows:
    """Read and move operations for people."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def page(self, wanted: Wanted, *, most: int, before: tuple[datetime, str] | None = None) -> list[Operation]:
        """Return operations, newest first; `before` continues a listing."""
        query = select(t).where(*wanted.conditions(), behind(t.c.created_at, t.c.id, before))
        query = query.order_by(t.c.created_at.desc(), t.c.id.desc()).limit(most)
        return records(Operation, await self._fetch(query))

    async def walk(self, wanted: Wanted, after: str, most: int) -> list[Row]:
        """Return what counts of the next operations, in the order of their ids; `unknown`: died in mid-call."""
        columns = (t.c.id, t.c.incident_id, t.c.service, t.c.state, t.c.created_at, _UNKNOWN.label("unknown"))
        query = select(*columns).where(*wanted.conditions(), t.c.id > after)
        return await self._fetch(query.order_by(t.c.id).limit(most))

    async def oldest(self, wanted: Wanted, most: int) -> list[Operation]:
        """Return the first operations, oldest first."""
        query = select(t).where(*wanted.conditions()).order_by(t.c.created_at, t.c.id).limit(most)
        return records(Operation, await self._fetch(query))

    async def of_ids(self, ids: Sequence[str]) -> list[Operation]:
        """Return operations by id, oldest first."""
        return records(Operation, await self._session.fetch(_BY_IDS, ids=list(ids)))

    async def again(self, ids: Sequence[str], states: Sequence[OperationState], due: datetime) -> set[str]:
        """Let operations that are in one of `states` be tried anew from `due` on; return which."""
        found = await self._session.fetch(_AGAIN, ids=list(ids), states=[one.value for one in states], due=due)
        return {row["id"] for row in found}

    async def end(
        self, ids: Sequence[str], states: Sequence[OperationState], state: OperationState, because: str
    ) -> set[str]:
        """Take operations that are in one of `states` out of their lane; return which."""
        found = await self._session.fetch(
            _MOVE, ids=list(ids), states=[one.value for one in states], state_=state.value, due=None, error=because
        )
        return {row["id"] for row in found}

    async def trace(self, operation: Operation) -> tuple[list[AuditEntry], list[Run]]:
        """Return what people did to an operation, and every attempt at it, oldest first."""
        entries = await self._session.fetch(_TRACE, target_=operation.id)
        tried = await self._session.fetch(_RUNS, incident=operation.incident_id, operation=operation.id)
        return records(AuditEntry, entries), records(Run, tried)

    async def _fetch(self, query: Any, **values: Any) -> list[Row]:
        return await self._session.fetch(prepare(query, self._session.dialect), **values)
