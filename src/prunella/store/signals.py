"""Rows of signals: what was observed, once per (source, event id), never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from prunella.core.records import Category, Diagnosis, Failure, Signal
from prunella.store.session import Session, row_of
from prunella.store.sql import Row, Sql, looked_up, member_of, param
from prunella.store.tables import signals as t

_BY_EVENT = Sql(
    select(t.c.id, t.c.event_id, t.c.incident_id).where(
        t.c.source == param("source_"), member_of(t.c.event_id, "event_ids")
    )
)
_EVENT_IDS = Sql(select(t.c.id, t.c.event_id).where(member_of(t.c.id, "ids")))
_ATTACH_EACH = Sql(update(t).where(member_of(t.c.id, "ids")).values(incident_id=looked_up(t.c.id, "incidents")))
_ATTACH = Sql(update(t).where(member_of(t.c.id, "ids")).values(incident_id=param("incident")))
_FAILURE = Sql(select(t.c.failure, t.c.received_at, t.c.occurred_at, t.c.payload_shape).where(t.c.id == param("id_")))
_FAILURES = Sql(select(t.c.id, t.c.failure).where(member_of(t.c.id, "ids")))
_COUNT_SINCE = Sql(
    select(func.count().label("count")).where(
        t.c.service == param("service_"),
        t.c.category == param("category_"),
        t.c.outcome == "failure",
        t.c.received_at >= param("since"),
    )
)
_FAILED = Sql(
    select(t.c.service, t.c.category, func.count().label("count"))
    .where(
        member_of(t.c.service, "services"),
        member_of(t.c.category, "categories"),
        t.c.outcome == "failure",
        t.c.received_at >= param("since"),
    )
    .group_by(t.c.service, t.c.category)
)
_WENT_WELL = Sql(
    select(t.c.service, func.count().label("count"))
    .where(
        member_of(t.c.service, "services"),
        t.c.category.is_(None),
        t.c.outcome == "success",
        t.c.received_at >= param("since"),
    )
    .group_by(t.c.service)
)
_LAST_OF_INCIDENT = Sql(
    select(t.c.id, t.c.failure, t.c.received_at, t.c.occurred_at, t.c.payload_shape)
    .where(t.c.incident_id == param("incident"), t.c.outcome == "failure")
    .order_by(t.c.received_at.desc(), t.c.id.desc())
    .limit(1)
)


class SignalRows:
    """Read and write signals."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, arrived: Sequence[tuple[Signal, Diagnosis | None, Any]]) -> set[str]:
        """Store signals (with diagnosis and payload shape); return the ids of those not seen before."""
        in_one_order = sorted(arrived, key=lambda one: (one[0].source, one[0].event_id))  # or two batches deadlock
        return set(
            await self._session.insert(
                t,
                [_row(*one) for one in in_one_order],
                conflict="ON CONFLICT (source, event_id) DO NOTHING",
                returning="id",
            )
        )

    async def known(self, source: str, event_ids: Sequence[str]) -> dict[str, tuple[str | None, str]]:
        """Return event id -> (incident id, signal id) for the events that are stored already."""
        rows = await self._session.fetch(_BY_EVENT, source_=source, event_ids=list(event_ids))
        return {row["event_id"]: (row["incident_id"], row["id"]) for row in rows}

    async def event_ids(self, ids: Sequence[str]) -> dict[str, str]:
        """Return signal id -> the event id its sender gave it."""
        rows = await self._session.fetch(_EVENT_IDS, ids=list(ids))
        return {row["id"]: row["event_id"] for row in rows}

    async def attach(self, incident_id: str, ids: Sequence[str]) -> None:
        """Note which incident these signals belong to."""
        await self._session.change(_ATTACH, incident=incident_id, ids=list(ids))

    async def attach_each(self, incidents: Mapping[str, str]) -> None:
        """Note which incident each signal belongs to: signal id -> incident id."""
        if incidents:
            await self._session.change(_ATTACH_EACH, ids=list(incidents), incidents=dict(incidents))

    async def failure(self, signal_id: str) -> Failure:
        """Return the evidence of one signal."""
        row = await self._session.one(_FAILURE, id_=signal_id)
        if row is None:
            raise LookupError(f"signal {signal_id} does not exist")
        return Failure(**row["failure"])

    async def failures(self, ids: Sequence[str]) -> dict[str, Failure]:
        """Return signal id -> its evidence."""
        rows = await self._session.fetch(_FAILURES, ids=list(ids))
        return {row["id"]: Failure(**row["failure"]) for row in rows if row["failure"] is not None}

    async def last_of(self, incident_id: str) -> Row | None:
        """Return the newest failure of an incident: id, failure, times, payload shape."""
        return await self._session.one(_LAST_OF_INCIDENT, incident=incident_id)

    async def count_since(self, service: str, category: str, since: datetime) -> int:
        """Count failures of one category that arrived at or after `since`."""
        row = await self._session.one(_COUNT_SINCE, service_=service, category_=category, since=since)
        return int(row["count"]) if row else 0

    async def failed_since(self, services: Sequence[str], since: datetime) -> Sequence[Row]:
        """Count the failures of each service that arrived at or after `since`, by category."""
        categories = [one.value for one in Category]  # named, so that the index is walked from range to range
        return await self._session.fetch(_FAILED, services=list(services), categories=categories, since=since)

    async def went_well_since(self, services: Sequence[str], since: datetime) -> dict[str, int]:
        """Count the successes that somebody reported of each service at or after `since`."""
        rows = await self._session.fetch(_WENT_WELL, services=list(services), since=since)
        return {row["service"]: row["count"] for row in rows}


def _row(signal: Signal, diagnosis: Diagnosis | None, payload_shape: Any) -> Row:
    return {
        "id": signal.id,
        "source": signal.source,
        "event_id": signal.event_id,
        "service": signal.service,
        "account": signal.account,
        "outcome": signal.outcome,
        "incident_id": None,
        "occurred_at": signal.occurred_at,
        "received_at": signal.received_at,
        "category": diagnosis.category.value if diagnosis else None,
        "kind": diagnosis.kind if diagnosis else None,
        "failure": row_of(signal.failure) if signal.failure else None,
        "payload_shape": payload_shape,
        "forced": signal.forced,
    }
