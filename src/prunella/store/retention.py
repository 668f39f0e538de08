"""Forget what is over: oldest first, a batch at a time, and nothing that something open still speaks of.

Each table is walked in the order of its ids, which is that of time, so a batch costs the same however much is kept.
Incidents go last, with the event that tells of them: until then the documents' views show them as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, union

from prunella.core.states import ApprovalState, IncidentState, OperationState, RunState
from prunella.store import tables as t
from prunella.store.columns import Moment
from prunella.store.session import Session
from prunella.store.sql import Row, Sql, member_of, param

_RESOLVED = IncidentState.RESOLVED.value
_OVER = [OperationState.DONE.value, OperationState.CANCELLED.value]
_STANDING = and_(
    t.approvals.c.state.in_([ApprovalState.WAITING.value, ApprovalState.APPROVED.value]),
    t.approvals.c.used_at.is_(None),
)
_ON_ITS_WAY = t.notifications.c.state.in_(["waiting", "sending"])
_before = param("before", Moment())


def _incident(column: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(t.incidents.c.id == column, *conditions)


_is_open = t.incidents.c.state != _RESOLVED
_RULES: Mapping[str, tuple[Any, Any, tuple[ColumnElement[bool], ...]]] = {
    "operations": (
        t.operations,
        t.operations.c.created_at,
        (
            t.operations.c.state.in_(_OVER),
            ~_incident(t.operations.c.incident_id, or_(_is_open, t.incidents.c.resolved_at >= _before)),
        ),
    ),
    "signals": (t.signals, t.signals.c.received_at, (~_incident(t.signals.c.incident_id),)),
    "notifications": (
        t.notifications,
        t.notifications.c.created_at,
        (
            t.notifications.c.state.in_(["sent", "dead"]),
            func.coalesce(t.notifications.c.sent_at, t.notifications.c.created_at) < _before,
            # the views of healing actions tell who was notified
            ~_incident(t.notifications.c.incident_id, or_(_is_open, t.incidents.c.procedure != "")),
            ~exists().where(t.runs.c.id == t.notifications.c.run_id),
        ),
    ),
    # also those of an open incident: it may be proposed for every few hours, and its audit tells of each
    "approvals": (t.approvals, t.approvals.c.created_at, (~_STANDING,)),
}
"""Kind -> its table, when a row came, and what else makes it one that is over."""

_WALK = {
    kind: Sql(
        select(table.c.id, moment.label("moment"))
        .where(table.c.id > param("after"))
        .order_by(table.c.id)
        .limit(param("most"))
    )
    for kind, (table, moment, _) in {**_RULES, "incidents": (t.incidents, t.incidents.c.first_seen, ())}.items()
}
_FORGET = {
    kind: Sql(delete(table).where(member_of(table.c.id, "ids"), moment < _before, *conditions))
    for kind, (table, moment, conditions) in _RULES.items()
}
_later = t.incidents.alias("later")
_SPOKEN_OF = Sql(
    union(
        select(_later.c.previous_id.label("id")).where(_later.c.state != _RESOLVED),
        select(t.notifications.c.incident_id.label("id")).where(_ON_ITS_WAY),
        select(t.approvals.c.incident_id.label("id")).where(_STANDING),
    )
)
_FREE = Sql(
    select(t.incidents.c.id).where(
        member_of(t.incidents.c.id, "ids"),
        t.incidents.c.state == _RESOLVED,
        t.incidents.c.resolved_at < _before,
        ~exists().where(t.operations.c.incident_id == t.incidents.c.id, t.operations.c.state.not_in(_OVER)),
        ~exists().where(t.runs.c.incident_id == t.incidents.c.id, t.runs.c.state == RunState.RUNNING.value),
    )
)


def _children(table: Any, *conditions: ColumnElement[bool]) -> Sql:
    found = select(table.c.id).where(member_of(table.c.incident_id, "ids"), *conditions).limit(param("most"))
    return Sql(delete(table).where(table.c.id.in_(found)))


_tells = exists().where(t.incidents.c.id == t.signals.c.incident_id, t.incidents.c.signal_id == t.signals.c.id)
_CHILDREN = {
    "signals": _children(t.signals, ~_tells),
    "runs": _children(t.runs),
    "operations": _children(t.operations, t.operations.c.state.in_(_OVER)),
}
_TELLING = Sql(
    delete(t.signals).where(
        t.signals.c.id.in_(
            select(t.incidents.c.signal_id).where(member_of(t.incidents.c.id, "ids"), t.incidents.c.state == _RESOLVED)
        )
    )
)
_INCIDENTS = Sql(delete(t.incidents).where(member_of(t.incidents.c.id, "ids"), t.incidents.c.state == _RESOLVED))

KINDS = tuple(_RULES)
"""What is forgotten row by row; incidents go with all that belongs to them."""
CHILDREN = tuple(_CHILDREN)


class RetentionRows:
    """Delete what is over."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def walk(self, kind: str, after: str, most: int) -> list[Row]:
        """Return id and moment of the next rows of a table, oldest first."""
        return await self._session.fetch(_WALK[kind], after=after, most=most)

    async def forget(self, kind: str, ids: Sequence[str], before: datetime) -> int:
        """Delete those that are older and over, and that nothing open speaks of; return how many."""
        return await self._session.change(_FORGET[kind], ids=list(ids), before=before)

    async def spoken_of(self) -> set[str]:
        """Return the incidents that open incidents, messages on their way and plans that stand speak of."""
        return {row["id"] for row in await self._session.fetch(_SPOKEN_OF) if row["id"] is not None}

    async def free(self, ids: Sequence[str], before: datetime) -> list[str]:
        """Return those incidents that were resolved before, and of which nothing waits or runs."""
        return [row["id"] for row in await self._session.fetch(_FREE, ids=list(ids), before=before)]

    async def forget_children(self, kind: str, incident_ids: Sequence[str], most: int) -> int:
        """Delete at most so many signals, runs or operations of incidents; the event that tells of one stays."""
        return await self._session.change(_CHILDREN[kind], ids=list(incident_ids), most=most)

    async def forget_incidents(self, incident_ids: Sequence[str]) -> tuple[int, int]:
        """Delete incidents with the events that tell of them; return how many of both."""
        told = await self._session.change(_TELLING, ids=list(incident_ids))
        return await self._session.change(_INCIDENTS, ids=list(incident_ids)), told
