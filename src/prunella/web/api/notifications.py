"""/api/v1/notifications: what people were told, and how far it came."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.engine import inbox
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Limit
from prunella.web.api.self_healing import notification_json


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])

    @routes.get("")
    async def notifications(
        _: Acts, everything: Annotated[bool, Query(alias="all")] = False, limit: Limit = PAGE
    ) -> JSONResponse:
        told = await inbox.pending(app.parts, everything=everything, most=limit)
        return JSONResponse({"items": [notification_json(one) for one in told], "next_cursor": None})

    return routes
