"""The page of notifications: what nobody has acknowledged yet, or all that was told, and how far each message came."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.records import Notification, Severity
from prunella.engine import inbox
from prunella.engine.inbox import Told
from prunella.engine.notices import DASHBOARD, tier_key
from prunella.web.access import Acts
from prunella.web.api.paging import before, cut
from prunella.web.auth import Caller
from prunella.web.pages.forms import Refusal, back_saying, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

_ROWS = 50
_CHANNELS_MAX = 20
_FILTERS = ("all", "type", "severity")
SEVERITIES = tuple(one.value for one in Severity)


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

    @routes.post("/notifications/{notification_id}/resend")
    async def resend(caller: Acts, request: Request, notification_id: str) -> Response:
        came = await tried(inbox.resend(app.parts, notification_id, by=caller.name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, came)
        if came is None:
            raise Problem(404, "Unknown notification", f"there is no notification {notification_id[:100]!r}")
        channels = ", ".join(sorted({one.channel for one in came}))
        return back_saying(request, caller, "/notifications", f"On its way once more, to {channels}.")


async def _page(app: App, frame: Frame, request: Request, caller: Caller, refusal: Refusal | None = None) -> Response:
    chosen = {name: value for name in _FILTERS if (value := request.query_params.get(name, "").strip())}
    severity = chosen.get("severity")
    if severity is not None and severity not in SEVERITIES:
        raise Problem(422, "Unknown severity", f"got {severity[:50]!r}; allowed: {', '.join(SEVERITIES)}")
    cursor = request.query_params.get("cursor")
    found = await inbox.pending(
        app.parts,
        kinds=(chosen["type"],) if "type" in chosen else (),
        everything="all" in chosen,
        most=_ROWS + 1,
        severity=Severity(severity) if severity else None,
        before=before(cursor),
    )
    told, following = cut(found, _ROWS, lambda one: (one.notification.created_at, one.notification.id))
    return await show(
        frame,
        request,
        "notifications.html",
        caller=caller,
        refusal=refusal,
        told=told,
        chosen=chosen,
        severities=SEVERITIES,
        first=cursor is None,
        more=f"?{urlencode({**chosen, 'cursor': following})}" if following else None,
        rows=await _rows(app, told),
        health=await inbox.health(app.parts, {name: one.kind for name, one in app.settings.channels.items()}),
    )


async def _rows(app: App, told: list[Told]) -> dict[str, list[Notification]]:
    """Return each notice's messages by its key: one row per channel beside the dashboard, tier by tier."""
    keys = {tier_key(one.notification.key, n): one.notification.key for one in told for n in _tiers(one)}
    if not keys:
        return {}
    async with app.store.transaction() as tx:
        found = await tx.outbox.list(most=len(keys) * _CHANNELS_MAX, key=list(keys))
    by_key: dict[str, list[Notification]] = {key: [] for key in keys.values()}
    for row in reversed(found):
        if row.channel != DASHBOARD:
            by_key[keys[row.key]].append(row)
    return by_key


def _tiers(told: Told) -> range:
    return range(told.notification.tier + 1)
