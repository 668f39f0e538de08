"""The dashboard: pages rendered on the server, one room per resource."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, Response

from prunella.app import App
from prunella.core.states import ApprovalState
from prunella.web.access import Acts
from prunella.web.auth import Gatehouse
from prunella.web.pages import entities, entrance, incidents, live, operations, overview, settings, sidelines
from prunella.web.pages.frame import STATIC, Frame, back_to
from prunella.web.problems import Problem

_PLANS_MAX = 50
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def router(app: App, gatehouse: Gatehouse, frame: Frame) -> APIRouter:
    """Return the pages."""
    doors = APIRouter(include_in_schema=False)
    entrance.add_routes(doors, app, gatehouse, frame)
    _add_static(doors)
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(frame.look)])
    sidelines.add_routes(routes, app, frame)
    for room in (overview, live, incidents, entities, operations, settings):
        room.add_routes(routes, app, frame)

    @routes.get("/approvals")
    async def approvals(caller: Acts, request: Request) -> Response:
        async with app.store.transaction() as tx:
            latest = await tx.approvals.list(most=_PLANS_MAX)
            waiting = await tx.approvals.list(most=_PLANS_MAX, state=ApprovalState.WAITING)
        answered = [one for one in latest if one.state is not ApprovalState.WAITING]
        return frame.page(request, "approvals.html", caller=caller, waiting=waiting, answered=answered)

    @routes.get("/approvals/{approval_id}")
    async def approval(caller: Acts, request: Request, approval_id: str) -> Response:
        async with app.store.transaction() as tx:
            found = await tx.approvals.get(approval_id)
        if found is None:
            raise Problem(404, "Unknown approval", f"there is no approval {approval_id[:100]!r}")
        return frame.page(request, "approval.html", caller=caller, approval=found)

    @routes.get("/services/{name}")
    async def service(request: Request, name: str) -> Response:
        return back_to(request, "/")

    doors.include_router(routes)
    return doors


def _add_static(doors: APIRouter) -> None:
    @doors.get("/static/{file:path}")
    async def static(file: str) -> Response:
        found = (STATIC / file).resolve()
        if not (found.is_file() and found.is_relative_to(STATIC) and found.suffix in _KINDS):
            raise Problem(404, "Unknown file", f"there is no file {file[:100]!r}")
        headers = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return FileResponse(found, media_type=_KINDS[found.suffix], headers=headers)
