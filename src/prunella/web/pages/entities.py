"""Entities: what is stuck now, what was done about it, and the wish to heal one thing, by the engine's rules."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.errors import PrunellaError
from prunella.core.redact import scrub
from prunella.engine import entities, orders
from prunella.engine.ready import MANUAL, Ready
from prunella.web.access import Acts
from prunella.web.api.self_healing import must_be_entity
from prunella.web.auth import Caller, form_of
from prunella.web.pages.forms import Refusal, back_saying, show, tried
from prunella.web.pages.frame import Frame, back_to
from prunella.web.problems import Problem

_HISTORY_MAX = 30
_SHOWN_MAX = 200


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.get("/entities")
    async def entity_list(caller: Acts, request: Request) -> Response:
        named = _named(app)
        if len(named) == 1:
            return back_to(request, f"/entities/{named[0]}")
        return frame.page(request, "entities.html", caller=caller, named=named)

    @routes.get("/entities/{entity}")
    async def entity(caller: Acts, request: Request, entity: str) -> Response:
        return await _page(app, frame, request, caller, must_be_entity(app, entity))

    @routes.post("/entities/{entity}/heal")
    async def heal(caller: Acts, request: Request, entity: str) -> Response:
        ready, form = must_be_entity(app, entity), await form_of(request)
        key, action = form.get("key", ""), form.get("action", "").upper() or None
        came = await tried(entities.heal(app.parts, ready, key, issue=None, action=action, by=caller.name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, ready, came)
        if came is None:
            raise Problem(404, f"Unknown {entity}", f"there is no {entity} {key[:100]!r}")
        return back_saying(request, caller, f"/entities/{entity}", f"{entity} {came.key}: {came.message}")

    @routes.post("/entities/{entity}/run")
    async def run(caller: Acts, request: Request, entity: str) -> Response:
        ready = must_be_entity(app, entity)
        came = await tried(orders.run_now(app.parts, ready.name, by=caller.name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, ready, came)
        return back_saying(request, caller, f"/entities/{entity}", f"{came.healed} healed, {came.failed} failed.")


async def _page(
    app: App, frame: Frame, request: Request, caller: Caller, ready: Ready, refusal: Refusal | None = None
) -> Response:
    stuck, trouble = [], ""
    try:
        stuck = await entities.stuck(app.parts, ready)
    except PrunellaError as error:  # the user's database is away: what was done is shown all the same
        trouble = scrub(str(error))
    async with app.store.transaction() as tx:
        history = await tx.runs.list(most=_HISTORY_MAX, procedure=ready.name)
    return await show(
        frame,
        request,
        "entity.html",
        caller=caller,
        refusal=refusal,
        entity=ready.entity,
        named=_named(app),
        stuck=stuck[:_SHOWN_MAX],
        total=len(stuck),
        rules=Counter((one.issue, one.remedy) for one in stuck),
        remedies=[*ready.remedies, MANUAL],
        history=history,
        trouble=trouble,
    )


def _named(app: App) -> list[str]:
    return sorted(one.entity.name for one in app.parts.procedures.values() if one.entity is not None)
