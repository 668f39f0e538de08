"""/api/v1/pause and /resume: the kill switch; nothing begins while it is thrown."""

from __future__ import annotations

from prunella.app import App
from prunella.engine import orders
from prunella.engine.pauses import KILL_SWITCH
from prunella.web.access import Acts, Reads, Why
from prunella.web.api.paging import Out, Time, spell_time
from prunella.web.api.routing import Rooms


class SwitchOut(Out):
    """Whether everything rests."""

    paused: bool
    by: str | None = None
    reason: str | None = None
    since: Time | None = None


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1", tags=["pause"])

    @routes.get("/pause", summary="Tell whether the kill switch is thrown")
    async def read_switch(_: Reads) -> SwitchOut:
        return await _switch(app)

    @routes.post("/pause", summary="Throw the kill switch")
    async def pause(caller: Acts, why: Why) -> SwitchOut:
        await orders.pause(app.parts, None, by=caller.name, reason=why.reason)
        return await _switch(app)

    @routes.post("/resume", summary="Let everything go on")
    async def resume(caller: Acts, why: Why) -> SwitchOut:
        await orders.resume(app.parts, None, by=caller.name, reason=why.reason)
        return await _switch(app)

    return routes


async def _switch(app: App) -> SwitchOut:
    async with app.store.transaction() as tx:
        thrown = (await tx.switches.all()).get(KILL_SWITCH)
    if thrown is None:
        return SwitchOut(paused=False)
    return SwitchOut(paused=True, by=thrown["by"], reason=thrown["reason"], since=spell_time(thrown["since"]))
