"""The pages of services: how each stands at a glance, one with its story, and what a person does about it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.procedures import PoolCheck
from prunella.core.records import Gate
from prunella.engine import people, vitals
from prunella.store.sql import Row
from prunella.web.access import Acts, Reads
from prunella.web.auth import Caller
from prunella.web.pages.forms import Refusal, back_saying, reason_of, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

DONE = {
    "disable": "{} is disabled. What arrives for it waits; only a person enables it.",
    "enable": "{} is enabled. What waited is tried again, in its order.",
    "pause": "{} is paused. What arrives for it waits until somebody resumes it.",
    "resume": "{} is resumed. What waited is tried again, in its order.",
    "probe": "{} was asked how it is; its answer stands below, under what happened.",
}
_MUST_SAY_WHY = frozenset({"disable", "pause"})


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.get("/services")
    async def services(caller: Reads, request: Request) -> Response:
        known, pools = await vitals.all_of(app.parts), await _pools(app)
        return await show(frame, request, "services.html", caller=caller, services=known, pools=pools)

    @routes.get("/services/{name}")
    async def service(caller: Reads, request: Request, name: str) -> Response:
        return await _page(app, frame, request, caller, name)

    @routes.post("/services/{name}/{act}")
    async def act_on_service(caller: Acts, request: Request, name: str, act: str) -> Response:
        if act not in DONE:
            raise Problem(404, "Unknown act", f"there is no {act[:50]!r}; known: {', '.join(DONE)}")
        came = await tried(_acted(app, request, caller, name, act))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, name, came)
        return back_saying(request, caller, f"/services/{name}", DONE[act].format(name))


async def _acted(app: App, request: Request, caller: Caller, name: str, act: str) -> Gate:
    reason = await reason_of(request, f"{act} a service", needed=act in _MUST_SAY_WHY)
    gate = await people.act_on_service(app.parts, name, act, by=caller.name, reason=reason)
    if gate is None:
        raise Problem(404, "Unknown service", f"there is no service {name[:100]!r}")
    return gate


async def _page(
    app: App, frame: Frame, request: Request, caller: Caller, name: str, refusal: Refusal | None = None
) -> Response:
    story = await vitals.of(app.parts, name)
    if story is None:
        known = ", ".join(sorted(app.settings.services)) or "none"
        raise Problem(404, "Unknown service", f"there is no service {name[:100]!r}; known: {known}")
    values = {"story": story, "vitals": story.vitals}
    return await show(frame, request, "service.html", caller=caller, refusal=refusal, **values)


async def _pools(app: App) -> list[tuple[str, Row]]:
    """Return the databases whose connections are counted, with what the last look came to."""
    async with app.store.transaction() as tx:
        rows = {row["name"]: row for row in await tx.procedures.all()}
    return [
        (ready.scope, rows[name])
        for name, ready in sorted(app.parts.procedures.items())
        if isinstance(ready.policy.check, PoolCheck) and name in rows
    ]
