"""/api/v1/notifications: what people were told, and how far it came."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from prunella.app import App
from prunella.core.records import Severity
from prunella.engine import inbox
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Cursor, Limit, Page, Text, before, cut
from prunella.web.api.routing import Rooms
from prunella.web.api.self_healing import AcknowledgedOut, NotificationOut, acknowledged


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/notifications", tags=["notifications"])

    @routes.get("", summary="List what waits for somebody's eyes, or all that was told")
    async def list_notifications(
        _: Acts,
        everything: Annotated[bool, Query(alias="all", description="The acknowledged ones, too.")] = False,
        kind: Annotated[Text | None, Query(alias="type")] = None,
        severity: Severity | None = None,
        limit: Limit = PAGE,
        cursor: Cursor = None,
    ) -> Page[NotificationOut]:
        told = await inbox.pending(
            app.parts,
            kinds=(kind,) if kind else (),
            everything=everything,
            most=limit + 1,
            severity=severity,
            before=before(cursor),
        )
        page, next_cursor = cut(told, limit, lambda one: (one.notification.created_at, one.notification.id))
        return Page(items=[NotificationOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.post("/{notification_id}/acknowledge", summary="Note that somebody has seen it")
    async def acknowledge_notification(caller: Acts, notification_id: str) -> AcknowledgedOut:
        return await acknowledged(app, notification_id, by=caller.name)

    return routes
