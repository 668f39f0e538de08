"""/api/v1/pause and /resume: the kill switch; nothing begins while it is thrown."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.engine import orders
from prunella.engine.pauses import KILL_SWITCH
from prunella.web.access import Acts, Reads, Why
from prunella.web.api.paging import spell_time


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1", tags=["pause"])

    @routes.get("/pause")
    async def read_switch(_: Reads) -> JSONResponse:
        return JSONResponse(await _switch(app))

    @routes.post("/pause")
    async def pause(caller: Acts, why: Why) -> JSONResponse:
        await orders.pause(app.parts, None, by=caller.name, reason=why.reason)
        return JSONResponse(await _switch(app))

    @routes.post("/resume")
    async def resume(caller: Acts, why: Why) -> JSONResponse:
        await orders.resume(app.parts, None, by=caller.name, reason=why.reason)
        return JSONResponse(await _switch(app))

    return routes


async def _switch(app: App) -> dict[str, Any]:
    async with app.store.transaction() as tx:
        thrown = (await tx.switches.all()).get(KILL_SWITCH)
    if thrown is None:
        return {"paused": False, "by": None, "reason": None, "since": None}
    since = spell_time(thrown["since"])
    return {"paused": True, "by": thrown["by"], "reason": thrown["reason"], "since": since}
