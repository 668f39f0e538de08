"""Entities: what is stuck now, what was done about it, and the wish to heal one thing, by the engine's rules."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.errors import PrunellaError
from prunella.core.redact import scrub
from prunella.engine import entities, orders
from prunella.engine.ready import MANUAL
from prunella.web.access import Acts
from prunella.web.api.self_healing import must_be_entity
from prunella.web.auth import form_of
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
    async def entity(caller: Acts, request: Request, entity: str, done: str = "") -> Response:
        ready = must_be_entity(app, entity)
        stuck, trouble = [], ""
        try:
            stuck = await entities.stuck(app.parts, ready)
        except PrunellaError as error:  # the user's database is away: what was done is shown all the same
            trouble = scrub(str(error))
        async with app.store.transaction() as tx:
            history = await tx.runs.list(most=_HISTORY_MAX, procedure=ready.name)
        assert ready.entity is not None  # must_be_entity returned it
        return frame.page(
            request,
            "entity.html",
            caller=caller,
            ready=ready,
            entity=ready.entity,
            named=_named(app),
            stuck=stuck[:_SHOWN_MAX],
            total=len(stuck),
            rules=Counter((one.issue, one.remedy) for one in stuck),
            remedies=[*ready.remedies, MANUAL],
            history=history,
            trouble=trouble,
            done=done[:300],
        )

    @routes.post("/entities/{entity}/heal")
    async def heal(caller: Acts, request: Request, entity: str) -> Response:
        ready, form = must_be_entity(app, entity), await form_of(request)
        key, action = form.get("key", ""), form.get("action", "").upper() or None
        healing = await entities.heal(app.parts, ready, key, issue=None, action=action, by=caller.name)
        if healing is None:
            raise Problem(404, f"Unknown {entity}", f"there is no {entity} {key[:100]!r}")
        words = f"{entity} {healing.key}: {healing.message}"
        return back_to(request, f"/entities/{entity}?{urlencode({'done': words})}")

    @routes.post("/entities/{entity}/run")
    async def run(caller: Acts, request: Request, entity: str) -> Response:
        swept = await orders.run_now(app.parts, must_be_entity(app, entity).name, by=caller.name)
        words = f"{swept.healed} healed, {swept.failed} failed"
        return back_to(request, f"/entities/{entity}?{urlencode({'done': words})}")


def _named(app: App) -> list[str]:
    return sorted(one.entity.name for one in app.parts.procedures.values() if one.entity is not None)
