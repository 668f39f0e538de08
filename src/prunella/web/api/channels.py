"""/api/v1/channels: how the ways to people do, a test message, and a notice's messages with their tries."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from prunella.app import App
from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.engine import inbox, trail
from prunella.engine.notices import DASHBOARD
from prunella.notify.heartbeat import HEARTBEAT
from prunella.web.access import Acts, Reads
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Time, before, cut, from_list, spell_time, unknown
from prunella.web.api.routing import ASKS_YOURS, Rooms
from prunella.web.problems import Problem


class MessageOut(Out):
    """One message of a notice: its channel, and each try to deliver it."""

    id: str
    channel: str
    tier: int
    state: str
    attempts: int
    next_at: Time | None
    sent_at: Time | None
    last_error: str | None
    tries: list[dict[str, Any]]
    escalates_at: Time | None
    acknowledged_at: Time | None
    acknowledged_by: str | None

    @classmethod
    def of(cls, row: Notification) -> MessageOut:
        """Spell a message."""
        return cls(
            id=row.id,
            channel=row.channel,
            tier=row.tier if row.channel != DASHBOARD else 0,
            state=row.state,
            attempts=row.attempts,
            next_at=spell_time(row.next_at),
            sent_at=spell_time(row.sent_at),
            last_error=row.last_error,
            tries=[dict(one) for one in row.tries],
            escalates_at=spell_time(row.escalates_at),
            acknowledged_at=spell_time(row.acknowledged_at),
            acknowledged_by=row.acknowledged_by,
        )


class ChannelOut(Out):
    """How a channel does."""

    name: str
    kind: str
    state: Literal["ok", "failing", "unused"]
    last_success_at: Time | None
    last_failure_at: Time | None
    failing_since: Time | None
    failures: int
    last_error: str | None
    waiting: int
    next_at: Time | None

    @classmethod
    def of(cls, one: inbox.Health) -> ChannelOut:
        """Spell how a channel does."""
        return cls(
            name=one.name,
            kind=one.kind,
            state="failing" if one.failing_since else "ok" if one.succeeded_at else "unused",
            last_success_at=spell_time(one.succeeded_at),
            last_failure_at=spell_time(one.failed_at),
            failing_since=spell_time(one.failing_since),
            failures=one.failures,
            last_error=one.last_error,
            waiting=one.waiting,
            next_at=spell_time(one.next_at),
        )


class DeliveredOut(Out):
    """A test message that arrived."""

    channel: str
    delivered: bool
    remark: str | None


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1", tags=["notifications"])

    @routes.get("/channels", summary="List channels, and whether what is sent arrives")
    async def channels(_: Reads, limit: Limit = PAGE, cursor: Cursor = None) -> Page[ChannelOut]:
        found = await inbox.health(app.parts, kinds_of(app))
        page, next_cursor = from_list(found, limit, cursor, lambda one: one.name)
        return Page(items=[ChannelOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.post("/channels/{name}/test", summary="Send a test message to one channel, at once", responses=ASKS_YOURS)
    async def test(caller: Acts, name: str) -> DeliveredOut:
        if name not in app.settings.channels:
            known = ", ".join(app.settings.channels) or "none"
            raise Problem(404, "Unknown channel", f"there is no channel {name[:100]!r}; channels: {known}")
        try:
            remark = await app.delivery.test(name, app.parts.public_url or None)
        except Undelivered as error:
            await _note(app, name, f"did not arrive: {error.reason}", caller.name)
            raise Problem(502, "The test message did not arrive", error.reason) from None
        await _note(app, name, "arrived", caller.name)
        return DeliveredOut(channel=name, delivered=True, remark=remark)

    @routes.get("/notifications/{notification_id}/messages", summary="List a notice's messages with every try")
    async def messages(_: Acts, notification_id: str, limit: Limit = PAGE, cursor: Cursor = None) -> Page[MessageOut]:
        rows = await inbox.rows_of(app.parts, notification_id)
        if not rows:
            raise unknown("notification", notification_id)
        last = before(cursor)
        rest = [one for one in rows if last is None or _mark(one) > last]
        page, next_cursor = cut(rest, limit, _mark)
        return Page(items=[MessageOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.post("/notifications/{notification_id}/resend", summary="Send a notice, or one message of it, once more")
    async def resend(caller: Acts, notification_id: str) -> Page[MessageOut]:
        rows = await inbox.resend(app.parts, notification_id, by=caller.name)
        if rows is None:
            raise unknown("notification", notification_id)
        return Page(items=[MessageOut.of(one) for one in rows])

    return routes


def _mark(row: Notification) -> tuple[datetime, str]:
    return row.created_at, row.id


def kinds_of(app: App) -> dict[str, str]:
    """Return the configured channels with their kinds, and the sign of life where there is one."""
    kinds = {name: one.kind for name, one in app.settings.channels.items()}
    return kinds | ({HEARTBEAT: HEARTBEAT} if app.settings.heartbeat is not None else {})


async def _note(app: App, name: str, came: str, by: str) -> None:
    async with app.store.transaction() as tx:
        await trail.note(app.parts, tx, "channel.tested", name, reason=came, by=by)
