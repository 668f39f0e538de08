"""The dashboard: pages rendered on the server, one room per resource."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, Response

from prunella.app import App
from prunella.web.auth import Gatehouse
from prunella.web.pages import (
    approvals,
    audit,
    entities,
    entrance,
    incidents,
    known_issue,
    known_issues,
    live,
    notifications,
    operations,
    overview,
    procedures,
    services,
    settings,
    sidelines,
    statistics,
)
from prunella.web.pages.frame import STATIC, Frame
from prunella.web.problems import Problem

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def router(app: App, gatehouse: Gatehouse, frame: Frame) -> APIRouter:
    """Return the pages."""
    doors = APIRouter(include_in_schema=False)
    entrance.add_routes(doors, app, gatehouse, frame)
    _add_static(doors)
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(frame.look)])
    sidelines.add_routes(routes, app, frame)
    for room in (overview, statistics, live, incidents, entities, settings):
        room.add_routes(routes, app, frame)
    for room in (approvals, audit, known_issues, known_issue, notifications, operations, procedures, services):
        room.add_routes(routes, app, frame)
    doors.routes.extend(routes.routes)
    return doors


def _add_static(doors: APIRouter) -> None:
    """Serve the files that are there at the start: what somebody asks for is never a path on our disk."""
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _KINDS}

    @doors.get("/static/{file:path}")
    async def static(file: str) -> Response:
        found = files.get(file)
        if found is None:
            raise Problem(404, "Unknown file", f"there is no file {file[:100]!r}")
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return FileResponse(found, media_type=_KINDS[found.suffix], headers=headers)
