"""The pages of waiting work: a list with filters, and one operation. They show; commands to copy do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.states import OperationState
from prunella.engine import operations
from prunella.store.backlog import DUE, Wanted
from prunella.web.access import Acts
from prunella.web.api.operations import page_of
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

_ROWS = 50
_STATES = tuple(state.value for state in OperationState)
_FILTERS = ("service", "state", "due", "incident", "account", "idempotency_key")


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.get("/operations")
    async def operation_list(caller: Acts, request: Request) -> Response:
        chosen = {name: value for name in _FILTERS if (value := request.query_params.get(name, "").strip())}
        wanted = _wanted(chosen, app.parts.clock.now())
        found, cursor = await page_of(app, wanted, _ROWS, request.query_params.get("cursor"))
        return frame.page(
            request,
            "operations.html",
            caller=caller,
            operations=found,
            chosen=chosen,
            choices={"service": sorted(app.settings.services), "state": _STATES, "due": DUE},
            more=f"?{urlencode({**chosen, 'cursor': cursor})}" if cursor else None,
        )

    @routes.get("/operations/{operation_id}")
    async def operation(caller: Acts, request: Request, operation_id: str) -> Response:
        seen = await operations.look(app.parts, operation_id)
        if seen is None:
            raise Problem(404, "Unknown operation", f"there is no operation {operation_id[:100]!r}")
        shape = json.dumps(seen.shape, indent=2, ensure_ascii=False) if seen.shape is not None else None
        return frame.page(request, "operation.html", caller=caller, look=seen, shape=shape)


def _wanted(chosen: Mapping[str, str], now: datetime) -> Wanted:
    """Read the filters of the form; a word that it does not offer is refused."""
    for name, allowed in (("state", _STATES), ("due", DUE)):
        if chosen.get(name, allowed[0]) not in allowed:
            raise Problem(422, f"Unknown {name}", f"got {chosen[name][:50]!r}; allowed: {', '.join(allowed)}")
    return Wanted(
        service=chosen.get("service"),
        states=(OperationState(chosen["state"]),) if "state" in chosen else None,
        due=chosen.get("due"),
        incident=chosen.get("incident"),
        account=chosen.get("account"),
        idempotency_key=chosen.get("idempotency_key"),
        now=now,
    )
