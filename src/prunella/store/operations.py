"""Rows of operations: work that waits in a service's lane, once per idempotency key and in the order of its key.

Of those that share an ordering key only the first may begin; the others stand back until it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Text, and_, func, literal_column, select, text, tuple_, union_all, update

from prunella.core.errors import Conflict
from prunella.core.records import Operation
from prunella.core.states import DIED, OperationState
from prunella.store.session import Session, record, records, row_of
from prunella.store.sql import Row, Sql, looked_up, member_of, param, prepare
from prunella.store.tables import incidents
from prunella.store.tables import operations as t

_S = OperationState
_WAITING = t.c.state == _S.WAITING.value
_OF_INCIDENT = t.c.incident_id == param("incident")

_BY_ID = Sql(select(t).where(t.c.id == param("id_")))
_BY_SIGNAL = Sql(select(t).where(t.c.signal_id == param("signal")))
_NEW = Sql(select(t.c.id).where(_OF_INCIDENT, _WAITING, t.c.attempts == 0, t.c.due_at.is_(None)).limit(1))
_SCHEDULE_NEW = Sql(
    update(t).where(_OF_INCIDENT, _WAITING, t.c.attempts == 0, t.c.due_at.is_(None)).values(due_at=param("due"))
)
MANY = 1000
"""From so many that wait, an incident's operations are no longer counted one by one."""
BEHIND = "order.behind"
"""What `last_kind` says of one that stands back behind another of its ordering key."""

_other = t.alias("other")
_UNDER_WAY = text("other.ordering_key <> '' AND other.state IN ('waiting', 'running')")  # spelled as its index is
_RUNNING_NOW = text("other.ordering_key <> '' AND other.state = 'running'")  # this one, too
_OF_KEY = and_(_other.c.service == t.c.service, _other.c.ordering_key == t.c.ordering_key)
_before = (
    select(_other.c.id)
    .where(_OF_KEY, _UNDER_WAY, tuple_(_other.c.created_at, _other.c.id) < tuple_(t.c.created_at, t.c.id))
    .order_by(_other.c.created_at, _other.c.id)
    .limit(1)
    .correlate(t)
    .scalar_subquery()
)
_begun = select(_other.c.id).where(_OF_KEY, _RUNNING_NOW).limit(1).correlate(t).scalar_subquery()
_TURN = Sql(
    select(t, func.coalesce(_before, _begun).label("behind"))
    .where(_OF_INCIDENT, _WAITING, t.c.due_at <= param("now"))
    .order_by(t.c.created_at, t.c.id)
    .limit(param("most"))
)
_STAND_BACK = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), _WAITING)
    .values(
        due_at=param("until"),
        last_kind=BEHIND,
        last_error=literal_column("'waits its turn behind operation '", Text)
        + func.coalesce(looked_up(t.c.id, "behind"), ""),
    )
)
_ended = t.alias("ended")
_CALL_NEXT = Sql(
    update(t)
    .where(
        _WAITING,
        t.c.last_kind == BEHIND,
        t.c.id.in_(
            select(
                select(_other.c.id)
                .where(_other.c.service == _ended.c.service, _other.c.ordering_key == _ended.c.ordering_key, _UNDER_WAY)
                .order_by(_other.c.created_at, _other.c.id)
                .limit(1)
                .correlate(_ended)
                .scalar_subquery()
            ).where(member_of(_ended.c.id, "ids"), _ended.c.ordering_key != "")
        ),
    )
    .values(due_at=param("now"), last_kind=None, last_error=None)
    .returning(t.c.incident_id)
)
_BEHIND = Sql(
    select(t.c.last_error).where(_OF_INCIDENT, _WAITING, t.c.last_kind == BEHIND).order_by(t.c.due_at).limit(1)
)
_NEXT_DUE = Sql(select(func.min(t.c.due_at).label("due_at")).where(_OF_INCIDENT, _WAITING))
_TALLY = Sql(select(t.c.state, func.count().label("count")).where(_OF_INCIDENT).group_by(t.c.state))


def _some(state: str) -> Any:
    some = select(t.c.state).where(_OF_INCIDENT, t.c.state == state).limit(MANY).subquery()
    return select(literal_column(f"'{state}'").label("state"), func.count().label("count")).select_from(some)


_WAITING_TALLY = Sql(union_all(*map(_some, ("waiting", "running", "dead"))))
_BEGIN = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), _WAITING)
    .values(state=_S.RUNNING.value, attempts=t.c.attempts + 1)
    .returning(t.c.id)
)
_SAVE = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), t.c.state == param("was"))
    .values(
        state=param("state"),
        attempts=param("attempts"),
        due_at=param("due"),
        last_error=param("error"),
        last_kind=param("kind"),
        token_version=param("token"),
    )
    .returning(t.c.id)
)
_WAKE_RESTING = Sql(
    update(t).where(_OF_INCIDENT, _WAITING, t.c.attempts > 0, t.c.due_at.is_(None)).values(due_at=param("now"))
)
_HASTEN = Sql(update(t).where(_OF_INCIDENT, _WAITING).values(due_at=param("now")))
_DIED_OVER = Sql(
    select(t.c.id).where(_OF_INCIDENT, _WAITING, t.c.due_at.is_(None), t.c.last_error == param("died")).limit(1)
)
_OF_NO_PERSON = ["pending", "open", "healing", "verifying"]
_WAKE_ALL = Sql(
    update(t)
    .where(
        t.c.incident_id.in_(
            select(incidents.c.id).where(
                incidents.c.service == param("service_"),
                incidents.c.procedure == literal_column("''"),
                incidents.c.state.in_(_OF_NO_PERSON),
            )
        ),
        *(_WAITING, t.c.attempts > 0, t.c.due_at.is_(None)),
    )
    .values(due_at=param("now"))
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


class Turn(NamedTuple):
    """What is due: `free` may begin, `behind` waits for another (id -> the operation that goes first)."""

    free: list[Operation]
    behind: Mapping[str, str]


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

    async def any_new(self, incident_id: str) -> bool:
        """Tell whether there are operations for which nothing is planned yet."""
        return await self._session.one(_NEW, incident=incident_id) is not None

    async def schedule_new(self, incident_id: str, due: datetime) -> int:
        """Plan every operation that has no plan yet; return how many."""
        return await self._session.change(_SCHEDULE_NEW, incident=incident_id, due=due)

    async def due(self, incident_id: str, now: datetime, most: int) -> list[Operation]:
        """Return operations that are due and may begin, the oldest first, at most `most`."""
        return (await self.turn(incident_id, now, most)).free

    async def turn(self, incident_id: str, now: datetime, most: int) -> Turn:
        """Return the first `most` that are due, those apart whose ordering key is another's turn.

        True for as long as nobody else begins operations of the service: while its gate is held.
        """
        rows = await self._session.fetch(_TURN, incident=incident_id, now=now, most=most)
        behind = {row["id"]: found for row in rows if (found := row.pop("behind")) is not None}
        return Turn([Operation(**row) for row in rows if row["id"] not in behind], behind)

    async def stand_back(self, behind: Mapping[str, str], until: datetime) -> None:
        """Let others go first: look again when those have ended (`call_next`), at the latest at `until`."""
        await self._session.change(_STAND_BACK, ids=list(behind), behind=dict(behind), until=until)

    async def call_next(self, ended_ids: Sequence[str], now: datetime) -> set[str]:
        """Make due what stood back behind operations that have ended; return the incidents it belongs to."""
        rows = await self._session.fetch(_CALL_NEXT, ids=list(ended_ids), now=now)
        return {row["incident_id"] for row in rows}

    async def behind(self, incident_id: str) -> str | None:
        """Return why an operation of the incident stands back, None when none does."""
        row = await self._session.one(_BEHIND, incident=incident_id)
        return row["last_error"] if row else None

    async def next_due(self, incident_id: str) -> datetime | None:
        """Return when the next waiting operation is due; None when none has a time."""
        row = await self._session.one(_NEXT_DUE, incident=incident_id)
        return row["due_at"] if row else None

    async def tally(self, incident_id: str) -> dict[str, int]:
        """Count an incident's operations by state; from `MANY` that wait on only so far, and none of what is done."""
        some = {row["state"]: row["count"] for row in await self._session.fetch(_WAITING_TALLY, incident=incident_id)}
        if some["waiting"] >= MANY:
            return {state: count for state, count in some.items() if count}
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
        await self.save_all([operation], was)

    async def save_all(self, operations: Sequence[Operation], was: OperationState) -> None:
        """Save several, one statement for those that ended alike; `Conflict` when one is no longer in `was`."""
        endings = {one.id: _ending(one) for one in operations}
        lost = endings.keys() - await self._session.change_alike(_SAVE, endings, was=was.value)
        if lost:
            raise Conflict(f"{min(lost)}: an operation is no longer {was.value}; read it again and decide anew")

    async def died_over(self, incident_id: str) -> bool:
        """Tell whether an operation rests because workers died over it, so that nobody knows what the service says."""
        return await self._session.one(_DIED_OVER, incident=incident_id, died=DIED) is not None

    async def wake(self, incident_id: str, now: datetime) -> int:
        """Make the resting operations of an incident due."""
        return await self._session.change(_WAKE_RESTING, incident=incident_id, now=now)

    async def hasten(self, incident_id: str, now: datetime) -> None:
        """Make every waiting operation due now: what they failed over was repaired."""
        await self._session.change(_HASTEN, incident=incident_id, now=now)

    async def wake_all(self, service: str, now: datetime) -> None:
        """Make due what rests in a service's lane and is no person's, whoever works on its incident just now."""
        await self._session.change(_WAKE_ALL, service_=service, now=now)

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


def _ending(operation: Operation) -> Row:
    return {
        "state": operation.state.value,
        "attempts": operation.attempts,
        "due": operation.due_at,
        "error": operation.last_error,
        "kind": operation.last_kind,
        "token": operation.token_version,
    }
