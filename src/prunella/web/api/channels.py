"""/api/v1/channels: how the ways to people do, a test message, and a notice's messages with their tries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.core.errors import Undelivered
from prunella.core.records import Notification
from prunella.engine import inbox, trail
from prunella.engine.notices import DASHBOARD
from prunella.notify.heartbeat import HEARTBEAT
from prunella.web.access import Acts, Reads
from prunella.web.problems import Problem


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1", tags=["notifications"])

    @routes.get("/channels")
    async def channels(_: Reads) -> JSONResponse:
        """List channels, and whether what is sent arrives."""
        found = await inbox.health(app.parts, kinds_of(app))
        return JSONResponse({"items": [channel_json(one) for one in found], "next_cursor": None})

    @routes.post("/channels/{name}/test")
    async def test(caller: Acts, name: str) -> JSONResponse:
        """Send a test message to one channel, at once."""
        if name not in app.settings.channels:
            known = ", ".join(app.settings.channels) or "none"
            raise Problem(404, "Unknown channel", f"there is no channel {name[:100]!r}; channels: {known}")
        try:
            remark = await app.delivery.test(name, app.parts.public_url or None)
        except Undelivered as error:
            await _note(app, name, f"did not arrive: {error.reason}", caller.name)
            raise Problem(502, "The test message did not arrive", error.reason) from None
        await _note(app, name, "arrived", caller.name)
        return JSONResponse({"channel": name, "delivered": True, "remark": remark})

    @routes.get("/notifications/{notification_id}/messages")
    async def messages(_: Acts, notification_id: str) -> JSONResponse:
        """List a notice's messages: one per channel and tier, each with every try to deliver it."""
        rows = await inbox.rows_of(app.parts, notification_id)
        if not rows:
            raise _unknown(notification_id)
        return JSONResponse({"items": [message_json(one) for one in rows], "next_cursor": None})

    @routes.post("/notifications/{notification_id}/resend")
    async def resend(caller: Acts, notification_id: str) -> JSONResponse:
        """Send a notice once more: on all its channels, or by the id of one message on its channel alone."""
        rows = await inbox.resend(app.parts, notification_id, by=caller.name)
        if rows is None:
            raise _unknown(notification_id)
        return JSONResponse({"items": [message_json(one) for one in rows], "next_cursor": None})

    return routes


def _unknown(notification_id: str) -> Problem:
    return Problem(404, "Unknown notification", f"there is no notification {notification_id[:100]!r}")


def message_json(row: Notification) -> dict[str, Any]:
    """Return one message as the API shows it."""
    return {
        "id": row.id,
        "channel": row.channel,
        "tier": row.tier if row.channel != DASHBOARD else 0,
        "state": row.state,
        "attempts": row.attempts,
        "next_at": _moment(row.next_at),
        "sent_at": _moment(row.sent_at),
        "last_error": row.last_error,
        "tries": [dict(one) for one in row.tries],
        "escalates_at": _moment(row.escalates_at),
        "acknowledged_at": _moment(row.acknowledged_at),
        "acknowledged_by": row.acknowledged_by,
    }


def kinds_of(app: App) -> dict[str, str]:
    """Return the configured channels with their kinds, and the sign of life where there is one."""
    kinds = {name: one.kind for name, one in app.settings.channels.items()}
    return kinds | ({HEARTBEAT: HEARTBEAT} if app.settings.heartbeat is not None else {})


def channel_json(one: inbox.Health) -> dict[str, Any]:
    """Return how a channel does as the API shows it."""
    return {
        "name": one.name,
        "kind": one.kind,
        "state": "failing" if one.failing_since else "ok" if one.succeeded_at else "unused",
        "last_success_at": _moment(one.succeeded_at),
        "last_failure_at": _moment(one.failed_at),
        "failing_since": _moment(one.failing_since),
        "failures": one.failures,
        "last_error": one.last_error,
        "waiting": one.waiting,
        "next_at": _moment(one.next_at),
    }


async def _note(app: App, name: str, came: str, by: str) -> None:
    async with app.store.transaction() as tx:
        await trail.note(app.parts, tx, "channel.tested", name, reason=came, by=by)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
