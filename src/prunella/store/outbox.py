"""Rows of the outbox: notifications on their way, one per (notice, channel), delivered in the order they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, func, or_, select, update

from prunella.core.records import Notification
from prunella.store.session import Session, behind, record, records, row_of
from prunella.store.sql import Row, Sql, appended, member_of, param, prepare
from prunella.store.tables import notifications as t

_CLAIM = Sql(
    update(t)
    .where(
        member_of(t.c.id, "ids"),
        or_(t.c.state == "waiting", t.c.state == "sending"),
        t.c.next_at <= param("now"),
    )
    .values(state="sending", attempts=t.c.attempts + 1, next_at=param("until"))
    .returning(*t.c)
)
_DUE = Sql(
    select(t.c.id)
    .where(t.c.channel == param("channel_"), t.c.state.in_(["waiting", "sending"]), t.c.next_at <= param("now"))
    .order_by(t.c.created_at, t.c.id)
    .limit(param("most"))
)
_SETTLE = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), t.c.state != "sent")
    .values(
        state=param("state_"),
        next_at=param("next"),
        last_error=param("error"),
        sent_at=param("sent"),
        tries=appended(t.c.tries, "tried"),
    )
)
_CLIMB = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.tier == param("tier_"), t.c.acknowledged_at.is_(None))
    .values(tier=t.c.tier + 1, escalates_at=param("next"))
)
_STAY = Sql(update(t).where(t.c.id == param("id_")).values(escalates_at=None))
_TO_CLIMB = Sql(select(t.c.id, t.c.escalates_at).where(t.c.escalates_at.is_not(None), t.c.acknowledged_at.is_(None)))
_AGAIN = Sql(
    update(t)
    .where(member_of(t.c.id, "ids"), t.c.state.in_(["sent", "dead"]))
    .values(state="waiting", attempts=0, next_at=param("now"), last_error=None, sent_at=None)
    .returning(t.c.id)
)
_NEXT = Sql(
    select(t.c.channel, func.min(t.c.next_at).label("next_at"), func.count().label("waiting"))
    .where(t.c.state.in_(["waiting", "sending"]))
    .group_by(t.c.channel)
)
_POSTPONE = Sql(
    update(t)
    .where(
        t.c.channel == param("channel_"),
        or_(t.c.state == "sending", and_(t.c.state == "waiting", t.c.next_at < param("until"))),
    )
    .values(
        state="waiting",
        next_at=param("until"),
        attempts=case((t.c.state == "sending", t.c.attempts - 1), else_=t.c.attempts),
    )
)

_RELEASE_ALL = Sql(update(t).where(t.c.state == "sending").values(state="waiting", next_at=param("now")))
_RETRY = Sql(
    select(func.min(t.c.next_at).label("until")).where(
        t.c.channel == param("channel_"), t.c.state == "waiting", t.c.attempts > 0, t.c.next_at > param("now")
    )
)
_SENT_SINCE = Sql(
    select(func.count(t.c.sent_at.distinct()).label("count"), func.min(t.c.sent_at).label("first")).where(
        t.c.channel == param("channel_"), t.c.sent_at > param("since")
    )
)


_ACKNOWLEDGE = Sql(
    update(t)
    .where(t.c.id == param("id_"), t.c.acknowledged_at.is_(None))
    .values(acknowledged_at=param("now"), acknowledged_by=param("by"))
)
_SETTLE_ALL = Sql(
    update(t)
    .where(t.c.key == param("key_"), t.c.acknowledged_at.is_(None))
    .values(acknowledged_at=param("now"), acknowledged_by=param("by"))
)
_BY_ID = Sql(select(t).where(t.c.id == param("id_")))


class OutboxRows:
    """Read and write notifications."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, notifications: Sequence[Notification]) -> list[str]:
        """Queue notifications; one whose (key, channel) is known is left out; return the ids queued."""
        in_one_order = sorted(notifications, key=lambda one: (one.key, one.channel))  # or two batches deadlock
        return await self._session.insert(
            t,
            [row_of(one) for one in in_one_order],
            conflict="ON CONFLICT (key, channel) DO NOTHING",
            returning="id",
        )

    async def claim(self, channel: str, now: datetime, until: datetime, most: int) -> list[Notification]:
        """Take what is due for a channel until `until`; what a dead sender had taken comes back by itself."""
        ids = [row["id"] for row in await self._session.fetch(_DUE, channel_=channel, now=now, most=most)]
        if not ids:
            return []
        rows = await self._session.fetch(_CLAIM, ids=ids, now=now, until=until)
        return sorted(records(Notification, rows), key=lambda one: (one.created_at, one.id))

    async def settle(
        self,
        ids: Sequence[str],
        state: str,
        *,
        next_at: datetime | None,
        error: str | None,
        sent_at: datetime | None,
        tried: Mapping[str, Any] | None = None,
    ) -> None:
        """Write how a delivery ended; what was sent stays sent, whatever a slower sender of the same has to say.

        Args:
            tried: what is kept of this try, as JSON.
        """
        kept = [dict(tried or {"outcome": state})]
        await self._session.change(
            _SETTLE, ids=list(ids), state_=state, next=next_at, error=error, sent=sent_at, tried=kept
        )

    async def climb(self, notification_id: str, tier: int, next_at: datetime | None) -> bool:
        """Go from `tier` to the next one; False when another worker did, or a person acknowledged."""
        return await self._session.change(_CLIMB, id_=notification_id, tier_=tier, next=next_at) == 1

    async def stay(self, notification_id: str) -> None:
        """Tell no further tier."""
        await self._session.change(_STAY, id_=notification_id)

    async def to_climb(self) -> list[Row]:
        """Return id and due time of all that escalates unless somebody acknowledges."""
        return await self._session.fetch(_TO_CLIMB)

    async def again(self, ids: Sequence[str], now: datetime) -> list[str]:
        """Put what was sent, or given up, in line once more; return which, without those that are on their way."""
        return [row["id"] for row in await self._session.fetch(_AGAIN, ids=list(ids), now=now)]

    async def postpone(self, channel: str, until: datetime) -> None:
        """Let a whole channel be silent until `until`; what was taken and not tried goes back in line, untried."""
        await self._session.change(_POSTPONE, channel_=channel, until=until)

    async def sent_since(self, channel: str, since: datetime) -> tuple[int, datetime | None]:
        """Return how many messages (a digest is one) went out after `since`, and when the first of them did."""
        row = await self._session.one(_SENT_SINCE, channel_=channel, since=since)
        return (row["count"], row["first"]) if row else (0, None)

    async def next_retry(self, channel: str, now: datetime) -> datetime | None:
        """Return when the first of what failed on a channel is tried again; None where nothing is due later."""
        row = await self._session.one(_RETRY, channel_=channel, now=now)
        return row["until"] if row else None

    async def release_all(self, now: datetime) -> int:
        """Put what is being sent back in line: only for a store whose other processes are known to be dead."""
        return await self._session.change(_RELEASE_ALL, now=now)

    async def waiting(self) -> list[Row]:
        """Return channel, earliest due time and number of rows for every channel that has something to send."""
        return await self._session.fetch(_NEXT)

    async def get(self, notification_id: str) -> Notification | None:
        """Return one notification."""
        return record(Notification, await self._session.one(_BY_ID, id_=notification_id))

    async def acknowledge(self, notification_id: str, by: str, now: datetime) -> bool:
        """Note that a person has seen it; False when somebody already had."""
        return await self._session.change(_ACKNOWLEDGE, id_=notification_id, by=by, now=now) == 1

    async def answered(self, key: str, by: str, now: datetime) -> None:
        """Note, on every channel, that what a notice asked for has an answer."""
        await self._session.change(_SETTLE_ALL, key_=key, by=by, now=now)

    async def list(self, *, most: int, before: tuple[datetime, str] | None = None, **equal: Any) -> list[Notification]:
        """Return notifications, newest first, that equal the given columns, or one of several; `before` continues."""
        query = select(t).where(behind(t.c.created_at, t.c.id, before))
        query = query.order_by(t.c.created_at.desc(), t.c.id.desc()).limit(most)
        for name, value in equal.items():
            query = query.where(t.c[name].in_(value) if isinstance(value, (list, tuple)) else t.c[name] == value)
        return records(Notification, await self._session.fetch(prepare(query, self._session.dialect)))
