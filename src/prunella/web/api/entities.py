"""/api/v1/entities: what is stuck."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.engine import entities
from prunella.web.access import Acts
from prunella.web.api.self_healing import must_be_entity


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/entities", tags=["entities"])

    @routes.get("/{entity}/stuck")
    async def stuck(_: Acts, entity: str) -> JSONResponse:
        found = await entities.stuck(app.parts, must_be_entity(app, entity))
        items = [
            {
                "key": one.key,
                "issue": one.issue,
                "status": one.status,
                "stuck_minutes": one.minutes,
                "remedy": one.remedy,
                "message": one.message,
            }
            for one in found
        ]
        return JSONResponse({"items": items, "next_cursor": None})

    return routes
