"""The page of notifications: what nobody has acknowledged yet, how far each message came, and the rest."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.records import Notification
from prunella.engine import inbox
from prunella.engine.inbox import Told
from prunella.engine.notices import DASHBOARD
from prunella.web.access import Acts
from prunella.web.auth import Caller
from prunella.web.pages.forms import Refusal, back_saying, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

_UNSEEN_MAX = 100
_SEEN_MAX = 50
_CHANNELS_MAX = 20


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the page to those that are there."""

    @routes.get("/notifications")
    async def notifications(caller: Acts, request: Request) -> Response:
        return await _page(app, frame, request, caller)

    @routes.post("/notifications/{notification_id}/acknowledge")
    async def acknowledge(caller: Acts, request: Request, notification_id: str) -> Response:
        came = await tried(inbox.acknowledge(app.parts, notification_id, by=caller.name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, came)
        if came is None:
            raise Problem(404, "Unknown notification", f"there is no notification {notification_id[:100]!r}")
        return back_saying(request, caller, "/notifications", f"Acknowledged: {came.title}")


async def _page(app: App, frame: Frame, request: Request, caller: Caller, refusal: Refusal | None = None) -> Response:
    unseen = await inbox.pending(app.parts, most=_UNSEEN_MAX)
    latest = await inbox.pending(app.parts, everything=True, most=_SEEN_MAX)
    seen = [one for one in latest if one.notification.acknowledged_at is not None]
    rows = await _rows(app, [*unseen, *seen])
    shown = {"unseen": unseen, "seen": seen, "rows": rows, "health": [], "resends": False}
    return await show(frame, request, "notifications.html", caller=caller, refusal=refusal, **shown)


async def _rows(app: App, told: list[Told]) -> dict[str, list[Notification]]:
    """Return each notice's messages by key: one row per channel beside the dashboard."""
    keys = sorted({one.notification.key for one in told})
    if not keys:
        return {}
    async with app.store.transaction() as tx:
        found = await tx.outbox.list(most=len(keys) * _CHANNELS_MAX, key=keys)
    by_key: dict[str, list[Notification]] = {key: [] for key in keys}
    for row in found:
        if row.channel != DASHBOARD:
            by_key[row.key].append(row)
    return by_key
