"""Rows of incidents: at most one open per (service, account, fingerprint), changed only by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Text, and_, case, cast, func, or_, select, text, update

from prunella.core.errors import Conflict
from prunella.core.records import Incident
from prunella.core.states import IncidentState
from prunella.store.session import Session, behind, must_change, record, records, row_of
from prunella.store.sql import Row, Sql, looked_up, member_of, param, prepare
from prunella.store.tables import incidents as t

_S = IncidentState
_CLAIMABLE = [_S.PENDING.value, _S.OPEN.value, _S.HEALING.value, _S.VERIFYING.value]
_FOR_PEOPLE = "'awaiting_approval', 'escalated', 'suppressed'"  # a new event gives these no due time
_SCOPE = ("id", "version", "service", "account", "fingerprint", "first_seen")
_COUNTED = (*_SCOPE, "count", "forced", "last_seen", "signal_id", "issue_id", "learned")

_BY_ID = Sql(select(t).where(t.c.id == param("id_")))
_TAKE = Sql(select(t).where(t.c.id == param("id_")).with_for_update())
_CLAIM = Sql(
    update(t)
    .where(
        t.c.id == param("id_"),
        t.c.state.in_(_CLAIMABLE),
        or_(t.c.lease_until.is_(None), t.c.lease_until <= param("now")),
    )
    .values(claimed_by=param("worker"), lease_until=param("until"), state=_S.HEALING.value, version=t.c.version + 1)
    .returning(*t.c)
)
_SAVE = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.version == param("was"))
    .values(
        version=t.c.version + 1, **{column.name: param(column.name) for column in t.c if column.name not in _COUNTED}
    )
)
_LAST_RESOLVED = Sql(
    select(t)
    .where(
        t.c.service == param("service_"),
        t.c.account == param("account_"),
        t.c.fingerprint == param("fingerprint_"),
        t.c.resolved_at >= param("since"),
    )
    .order_by(t.c.resolved_at.desc())
    .limit(1)
)
_LINK_PREVIOUS = Sql(update(t).where(t.c.id == param("id_")).values(previous_id=param("previous"), regressed=True))
_OF_EVENTS = t.c.procedure == ""  # what a check found is looked at by its procedure alone
_OPEN = text("state <> 'resolved'")  # spelled as its index is
_OPEN_OF_SERVICE = Sql(
    select(t)
    .where(t.c.service == param("service_"), t.c.state != _S.RESOLVED.value, _OF_EVENTS)
    .order_by(t.c.first_seen)
    .limit(500)
)
_DUE = Sql(
    select(t)
    .where(
        _OF_EVENTS,
        t.c.state.in_([*_CLAIMABLE, _S.ESCALATED.value]),
        or_(
            t.c.next_at <= param("now"),
            and_(t.c.next_at.is_(None), t.c.last_seen >= param("since")),
        ),
    )
    .order_by(t.c.state == _S.ESCALATED.value, t.c.first_seen)  # what waits for people must not crowd the rest out
    .limit(param("most"))
)
_WAKEABLE = Sql(
    select(t.c.id, t.c.next_at, t.c.lease_until).where(
        _OF_EVENTS,
        t.c.state.in_([state.value for state in _S if state is not _S.RESOLVED]),
        or_(and_(t.c.state.in_(_CLAIMABLE), t.c.next_at.is_not(None)), t.c.lease_until.is_not(None)),
    )
)
_OVERDUE = Sql(
    select(func.count().label("count")).where(
        _OF_EVENTS, t.c.state.in_(_CLAIMABLE), t.c.next_at < param("before"), t.c.lease_until.is_(None)
    )
)
_OPEN_OF_PROCEDURE = Sql(
    select(t)
    .where(t.c.procedure == param("procedure_"), t.c.state != _S.RESOLVED.value)
    .order_by(t.c.first_seen, t.c.id)
    .with_for_update()
)
_RESOLVED_OF_PROCEDURE = Sql(
    select(t)
    .where(
        t.c.procedure == param("procedure_"),
        t.c.state == _S.RESOLVED.value,
        t.c.resolved_at >= param("since"),
        member_of(t.c.resource, "ids"),
    )
    .order_by(t.c.resolved_at)
)
_NEXT_OF_PROCEDURE = Sql(
    select(func.min(case((t.c.lease_until > param("now"), t.c.lease_until), else_=t.c.next_at)).label("moment")).where(
        t.c.procedure == param("procedure_"),
        t.c.state != _S.RESOLVED.value,
        or_(t.c.lease_until > param("now"), and_(t.c.next_at > param("now"), t.c.state != _S.ESCALATED.value)),
    )
)
_TAKE_ALL = Sql(select(t).where(member_of(t.c.id, "ids")).with_for_update())
_HOLD_ALL = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), cast(t.c.version, Text) == looked_up(t.c.id, "versions"))
    .values(held_reason=param("reason"), next_at=param("until"), version=t.c.version + 1)
    .returning(t.c.id)
)
_CLAIM_ALL = Sql(
    update(t)
    .where(
        member_of(t.c.id, "ids"),
        cast(t.c.version, Text) == looked_up(t.c.id, "versions"),
        t.c.state != _S.RESOLVED.value,
        or_(t.c.lease_until.is_(None), t.c.lease_until <= param("now")),
    )
    .values(
        claimed_by=param("worker"),
        lease_until=param("until"),
        state=_S.HEALING.value,
        attempts=t.c.attempts + param("counts"),
        version=t.c.version + 1,
    )
    .returning(*t.c)
)
_SEEN = Sql(update(t).where(member_of(t.c.id, "ids")).values(last_seen=param("now"), count=t.c.count + 1))
_EXTEND = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), t.c.claimed_by == param("worker"), t.c.lease_until > param("now"))
    .values(lease_until=param("until"))
    .returning(t.c.id)
)
_RELEASE_OF = Sql(
    update(t)
    .where(member_of(t.c.claimed_by, "workers"), t.c.lease_until.is_not(None))
    .values(lease_until=param("now"))
    .returning(t.c.id, t.c.procedure)
)
_WAKE_ALL = Sql(
    update(t)
    .where(
        t.c.id.in_(
            select(t.c.id)
            .where(
                t.c.service == param("service_"),
                _OF_EVENTS,
                t.c.state.in_([_S.OPEN.value, _S.VERIFYING.value]),
                or_(t.c.lease_until.is_(None), t.c.lease_until <= param("now")),
            )
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        state=_S.OPEN.value,
        next_at=param("now"),
        wave=1,
        attempts=case((t.c.attempts > param("most"), param("most")), else_=t.c.attempts),
        version=t.c.version + 1,
    )
    .returning(t.c.id)
)
_CROWD_MAX = 1000
_CROWD = Sql(
    select(func.count().label("count")).select_from(
        select(t.c.id)
        .where(t.c.service == param("service_"), _OPEN, _OF_EVENTS, t.c.next_at <= param("until"))
        .limit(_CROWD_MAX)
        .subquery()
    )
)
_TO_LEARN = Sql(
    select(t).where(t.c.count > t.c.learned, _OF_EVENTS, ~t.c.forced).order_by(t.c.last_seen).limit(param("most"))
)
_WATCHED = Sql(select(t).where(t.c.watched_until <= param("now")).order_by(t.c.watched_until).limit(param("most")))
_NEXT_WATCHED = Sql(select(func.min(t.c.watched_until).label("moment")).where(t.c.watched_until > param("now")))
_LEARNED = Sql(  # what intake is at is learned from at the next look: waiting for it could be for each other
    update(t)
    .where(t.c.id.in_(select(t.c.id).where(member_of(t.c.id, "ids")).with_for_update(skip_locked=True)))
    .values(learned=cast(looked_up(t.c.id, "counts"), Integer))
)
_SOME = Sql(select(t).where(member_of(t.c.id, "ids")))
_NAME_ISSUE = Sql(
    update(t)
    .where(t.c.fingerprint == param("fingerprint_"), t.c.state != _S.RESOLVED.value, t.c.issue_id.is_(None))
    .values(issue_id=param("issue"))
)
_OF_ISSUE = Sql(
    select(t)
    .where(t.c.issue_id == param("issue"), t.c.state != _S.RESOLVED.value)
    .order_by(t.c.first_seen, t.c.id)
    .limit(param("most"))
)
_TO_ISSUE = Sql(update(t).where(member_of(t.c.id, "ids")).values(issue_id=param("issue")))
_RELEASE = Sql(update(t).where(t.c.lease_until.is_not(None)).values(lease_until=param("now")))


class IncidentRows:
    """Read, open, join, claim and save incidents."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, incident_id: str) -> Incident | None:
        """Return one incident."""
        return record(Incident, await self._session.one(_BY_ID, id_=incident_id))

    async def some(self, incident_ids: Sequence[str]) -> list[Incident]:
        """Return incidents by their ids, in no promised order."""
        return records(Incident, await self._session.fetch(_SOME, ids=list(incident_ids))) if incident_ids else []

    async def take(self, incident_id: str) -> Incident:
        """Return one incident, locked until the transaction ends."""
        row = await self._session.one(_TAKE, id_=incident_id)
        if row is None:
            raise LookupError(f"incident {incident_id} does not exist")
        return Incident(**row)

    async def open_or_join(self, fresh: Incident) -> Incident:
        """Open `fresh`, or add its count to the incident that is open for the same scope; return what stands."""
        return (await self.open_or_join_all([fresh]))[0]

    async def open_or_join_all(self, fresh: Sequence[Incident]) -> list[Incident]:
        """Do so for several at once, each of a scope of its own; return what stands, in no promised order."""
        table = self._session.dialect.table(t)
        newest = f"excluded.last_seen >= {table}.last_seen"  # reports may overtake each other
        rows = await self._session.upsert(
            t,
            [row_of(one) for one in fresh],
            conflict=(
                "ON CONFLICT (service, account, fingerprint) WHERE state <> 'resolved' DO UPDATE SET "
                f"count = {table}.count + excluded.count, "
                f"forced = {table}.forced AND excluded.forced, "
                f"last_seen = CASE WHEN {newest} THEN excluded.last_seen ELSE {table}.last_seen END, "
                f"signal_id = CASE WHEN {newest} THEN excluded.signal_id ELSE {table}.signal_id END, "
                f"next_at = CASE WHEN {table}.state IN ({_FOR_PEOPLE}) THEN {table}.next_at WHEN "
                f"{table}.next_at IS NULL OR {table}.next_at > excluded.next_at THEN excluded.next_at "
                f"ELSE {table}.next_at END"
            ),
        )
        return records(Incident, rows)

    async def link_previous(self, fresh: Incident, since: datetime) -> Incident | None:
        """Mark `fresh` as regressed when its scope was resolved at or after `since`; return that earlier incident."""
        previous = record(
            Incident,
            await self._session.one(
                _LAST_RESOLVED,
                service_=fresh.service,
                account_=fresh.account,
                fingerprint_=fresh.fingerprint,
                since=since,
            ),
        )
        if previous is not None:
            await self._session.change(_LINK_PREVIOUS, id_=fresh.id, previous=previous.id)
        return previous

    async def claim(self, incident_id: str, worker: str, now: datetime, until: datetime) -> Incident | None:
        """Take the incident for `worker` until `until`; None when it is closed or somebody else has it."""
        return record(Incident, await self._session.one(_CLAIM, id_=incident_id, worker=worker, now=now, until=until))

    async def save(self, incident: Incident) -> None:
        """Write everything but the counters that intake owns; `Conflict` when the version moved."""
        values = {name: value for name, value in row_of(incident).items() if name not in _COUNTED}
        touched = await self._session.change(_SAVE, id_=incident.id, was=incident.version, **values)
        must_change(touched, f"incident {incident.id}")

    async def open_of(self, service: str) -> list[Incident]:
        """Return a service's open incidents, oldest first, at most 500."""
        return records(Incident, await self._session.fetch(_OPEN_OF_SERVICE, service_=service))

    async def wake_all(self, service: str, now: datetime) -> list[str]:
        """Make due now what nobody works on and no person has; passes over what another transaction holds."""
        return [row["id"] for row in await self._session.fetch(_WAKE_ALL, service_=service, now=now, most=2)]

    async def crowd(self, service: str, until: datetime) -> int:
        """Count a service's incidents that want to go on until then, a thousand at most."""
        row = await self._session.one(_CROWD, service_=service, until=until)
        return int(row["count"]) if row else 0

    async def open_of_procedure(self, procedure: str) -> list[Incident]:
        """Return a procedure's open incidents, oldest first, locked until the transaction ends."""
        return records(Incident, await self._session.fetch(_OPEN_OF_PROCEDURE, procedure_=procedure))

    async def resolved_of_procedure(
        self, procedure: str, resources: Sequence[str], since: datetime
    ) -> dict[str, Incident]:
        """Return each resource's incident that was resolved last, at or after `since`."""
        if not resources:
            return {}
        rows = await self._session.fetch(_RESOLVED_OF_PROCEDURE, procedure_=procedure, ids=list(resources), since=since)
        return {one.resource: one for one in records(Incident, rows)}

    async def claim_all(
        self, incidents: Sequence[Incident], worker: str, now: datetime, until: datetime, *, counts: bool
    ) -> list[Incident]:
        """Take those that nobody has and that are as they were seen, in no promised order; `counts`: as an attempt."""
        if not incidents:
            return []
        rows = await self._session.fetch(
            _CLAIM_ALL,
            ids=[one.id for one in incidents],
            versions={one.id: str(one.version) for one in incidents},
            worker=worker,
            now=now,
            until=until,
            counts=int(counts),
        )
        return records(Incident, rows)

    async def take_all(self, incident_ids: Sequence[str]) -> dict[str, Incident]:
        """Return incidents by id, locked until the transaction ends."""
        found = records(Incident, await self._session.fetch(_TAKE_ALL, ids=list(incident_ids)))
        return {one.id: one for one in found}

    async def save_all(self, incidents: Sequence[Incident]) -> None:
        """Save several in one statement, each as `save` does; `Conflict` when the version of one moved."""
        names = [name for name in t.c.keys() if name not in _COUNTED]  # noqa: SIM118, columns, not rows
        table = self._session.dialect.table(t)
        changes = ", ".join(f"{name} = excluded.{name}" for name in names)
        ids = await self._session.insert(
            t,
            [row_of(one) for one in sorted(incidents, key=lambda one: (one.first_seen, one.id))],
            conflict=f"ON CONFLICT (id) DO UPDATE SET version = {table}.version + 1, {changes} "
            f"WHERE {table}.version = excluded.version",
            returning="id",
        )
        if len(ids) != len(incidents):
            raise Conflict("an incident changed since it was read; read it again and decide anew")

    async def hold_all(self, incidents: Sequence[Incident], reason: str, until: datetime | None) -> list[str]:
        """Note why nothing is done about them until when; return the ids of those that are as they were seen."""
        rows = await self._session.fetch(
            _HOLD_ALL,
            ids=[one.id for one in incidents],
            versions={one.id: str(one.version) for one in incidents},
            reason=reason,
            until=until,
        )
        return [row["id"] for row in rows]

    async def next_of_procedure(self, procedure: str, now: datetime) -> datetime | None:
        """Return when the next open incident of a procedure is due, or its lease ends."""
        row = await self._session.one(_NEXT_OF_PROCEDURE, procedure_=procedure, now=now)
        return row["moment"] if row else None

    async def extend_all(self, incident_ids: Sequence[str], worker: str, now: datetime, until: datetime) -> set[str]:
        """Keep the leases of work that goes on; return the incidents that are still this worker's."""
        rows = await self._session.fetch(_EXTEND, ids=list(incident_ids), worker=worker, now=now, until=until)
        return {row["id"] for row in rows}

    async def seen_again(self, incident_ids: Sequence[str], now: datetime) -> None:
        """Count one more look that found them."""
        if incident_ids:
            await self._session.change(_SEEN, ids=list(incident_ids), now=now)

    async def due(self, now: datetime, since: datetime, most: int) -> list[Incident]:
        """Return open incidents that are due, or rest without a due time and were seen since `since`."""
        return records(Incident, await self._session.fetch(_DUE, now=now, since=since, most=most))

    async def wakeable(self) -> list[Row]:
        """Return id, next_at and lease of every incident that has something to wait for."""
        return await self._session.fetch(_WAKEABLE)

    async def overdue(self, before: datetime) -> int:
        """Count incidents that were due before a moment, and that nobody has taken up."""
        row = await self._session.one(_OVERDUE, before=before)
        return row["count"] if row else 0

    async def release_all(self, now: datetime) -> int:
        """End every lease: only for a store whose other processes are known to be dead."""
        return await self._session.change(_RELEASE, now=now)

    async def release_of(self, workers: Sequence[str], now: datetime) -> Sequence[tuple[str, str]]:
        """End the leases of workers that are dead; return id and procedure (empty: of events) of what is free."""
        rows = await self._session.fetch(_RELEASE_OF, workers=list(workers), now=now)
        return [(row["id"], row["procedure"]) for row in rows]

    async def to_learn(self, *, most: int) -> list[Incident]:
        """Return incidents of events with failures that were not learned from yet, those longest waiting first."""
        return records(Incident, await self._session.fetch(_TO_LEARN, most=most))

    async def watched(self, now: datetime, *, most: int) -> list[Incident]:
        """Return incidents that were repaired and stayed well for as long as that is looked at."""
        return records(Incident, await self._session.fetch(_WATCHED, now=now, most=most))

    async def next_watched(self, now: datetime) -> datetime | None:
        """Return when the next repair will have lasted."""
        row = await self._session.one(_NEXT_WATCHED, now=now)
        return row["moment"] if row else None

    async def learned(self, counts: Mapping[str, int]) -> None:
        """Note how many of each incident's failures were learned from."""
        if counts:
            await self._session.change(_LEARNED, ids=list(counts), counts={id_: str(n) for id_, n in counts.items()})

    async def name_issue(self, fingerprint: str, issue_id: str) -> None:
        """Note on the open incidents of a fingerprint that they are occurrences of an issue."""
        await self._session.change(_NAME_ISSUE, fingerprint_=fingerprint, issue=issue_id)

    async def open_of_issue(self, issue_id: str, *, most: int) -> list[Incident]:
        """Return an issue's open incidents, oldest first."""
        return records(Incident, await self._session.fetch(_OF_ISSUE, issue=issue_id, most=most))

    async def pass_to_issue(self, incident_ids: Sequence[str], issue_id: str) -> None:
        """Note on incidents that they are occurrences of an issue, whatever they were taken for."""
        await self._session.change(_TO_ISSUE, ids=list(incident_ids), issue=issue_id)

    async def list(
        self,
        *,
        most: int,
        before: tuple[datetime, str] | None = None,
        since: datetime | None = None,
        title: str | None = None,
        **equal: Any,
    ) -> list[Incident]:
        """Return incidents, newest first, that equal the given columns; `before` continues a listing.

        Args:
            since: seen at or after this moment.
            title: letters that the title holds, whatever their case.
        """
        query = select(t).where(behind(t.c.first_seen, t.c.id, before)).order_by(t.c.first_seen.desc(), t.c.id.desc())
        for name, value in equal.items():
            query = query.where(t.c[name].in_(value) if isinstance(value, (list, tuple)) else t.c[name] == value)
        if since is not None:
            query = query.where(t.c.last_seen >= since)
        if title is not None:
            query = query.where(t.c.title.icontains(title, autoescape=True))
        return records(Incident, await self._session.fetch(prepare(query.limit(most), self._session.dialect)))
