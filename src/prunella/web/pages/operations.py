"""The pages of waiting work: a list with filters, one operation, and many at once after an estimate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core import redact
from prunella.core.errors import InvalidInput
from prunella.core.records import Operation
from prunella.core.states import OperationState
from prunella.engine import bulk, operations
from prunella.engine.bulk import Carried, Estimate
from prunella.store.backlog import DUE, Wanted
from prunella.web import filters
from prunella.web.access import Acts
from prunella.web.api.operations import page_of
from prunella.web.auth import Caller, form_of
from prunella.web.filters import OperationFilter
from prunella.web.pages.forms import Missing, Refusal, back_saying, estimated_at, reason_of, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

_ROWS = 50
_STATES = tuple(state.value for state in OperationState)
_NAME_MAX = 200
_MOVED = "They have moved since you looked at them, so nothing was done. Here is how they stand now."


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""
    _reading_routes(routes, app, frame)
    _acting_routes(routes, app, frame)


def _reading_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/operations")
    async def operation_list(caller: Acts, request: Request) -> Response:
        return await _list(app, frame, request, caller, filters.chosen(OperationFilter, request.query_params))

    @routes.get("/operations/{operation_id}")
    async def operation(caller: Acts, request: Request, operation_id: str) -> Response:
        return await _page(app, frame, request, caller, operation_id)


def _acting_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.post("/operations/estimate")
    async def estimate(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        chosen, act = filters.chosen(OperationFilter, form), _act(form.get("act", ""))
        came = await tried(_estimated(app, act, chosen, everything="all" in form))
        if isinstance(came, Refusal):
            return await _list(app, frame, request, caller, {}, came)
        return await _estimate_page(frame, request, caller, chosen, came, everything="all" in form)

    @routes.post("/operations/many/{act}")
    async def act_on_many(caller: Acts, request: Request, act: str) -> Response:
        return await _many(app, frame, request, caller, _act(act))

    @routes.post("/operations/{operation_id}/{act}")
    async def act_on_operation(caller: Acts, request: Request, operation_id: str, act: str) -> Response:
        came = await tried(_acted(app, request, caller, operation_id, _act(act)))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, operation_id, came)
        if came is None:
            raise _unknown(operation_id)
        words = f"The operation was {operations.DONE_TO[act]}."
        return back_saying(request, caller, f"/operations/{operation_id}", words)


# One ------------------------------------------------------------------------------------------------------------------


async def _acted(app: App, request: Request, caller: Caller, operation_id: str, act: str) -> Operation | None:
    reason = await reason_of(request, f"{act} an operation", needed=act != "replay")
    return await operations.act(app.parts, operation_id, act, by=caller.name, reason=reason)


async def _page(
    app: App, frame: Frame, request: Request, caller: Caller, operation_id: str, refusal: Refusal | None = None
) -> Response:
    seen = await operations.look(app.parts, operation_id)
    if seen is None:
        raise _unknown(operation_id)
    shape = json.dumps(seen.shape, indent=2, ensure_ascii=False) if seen.shape is not None else None
    return await show(frame, request, "operation.html", caller=caller, refusal=refusal, look=seen, shape=shape)


# Many -----------------------------------------------------------------------------------------------------------------


async def _estimated(app: App, act: str, chosen: Mapping[str, str], *, everything: bool) -> Estimate:
    return await bulk.estimate(app.parts, act, _meant(app, chosen, everything=everything))


def _meant(app: App, chosen: Mapping[str, str], *, everything: bool) -> Wanted:
    """Return whom a person means; nothing named means nobody."""
    if not chosen and not everything:
        raise InvalidInput(
            "nothing is filtered by, and that means nothing; choose a filter, or tick that all are meant"
        )
    return filters.read(OperationFilter, chosen).asked(app.parts.clock.now())


async def _many(app: App, frame: Frame, request: Request, caller: Caller, act: str) -> Response:
    """Do what was estimated; where the operations have moved, the new estimate is the answer."""
    form = await form_of(request)
    chosen, everything = filters.chosen(OperationFilter, form), "all" in form
    try:
        came = await tried(_carried_out(app, request, caller, act, chosen, everything=everything))
    except _Moved as error:
        refusal = Refusal(409, "The operations have moved", _MOVED)
        return await _estimate_page(frame, request, caller, chosen, error.now, everything=everything, refusal=refusal)
    if not isinstance(came, Refusal):
        return back_saying(request, caller, f"/operations{_query(chosen)}", _what_came(act, came))
    again = await tried(_estimated(app, act, chosen, everything=everything))
    if isinstance(again, Refusal):
        return await _list(app, frame, request, caller, {}, again)
    return await _estimate_page(frame, request, caller, chosen, again, everything=everything, refusal=came)


class _Moved(Exception):
    """What was estimated is not what is there; `now` is."""

    def __init__(self, now: Estimate) -> None:
        super().__init__("the operations have moved")
        self.now = now


async def _carried_out(
    app: App, request: Request, caller: Caller, act: str, chosen: Mapping[str, str], *, everything: bool
) -> Carried:
    form = await form_of(request)
    reason = await reason_of(request, f"{act} many operations", needed=act != "replay")
    name = redact.scrub(form.get("name", "").strip())
    if not name or len(name) > _NAME_MAX:
        raise Missing(f"a name of at most {_NAME_MAX} characters is needed, under which this is found in the audit")
    try:
        return await bulk.carry_out(
            app.parts,
            act,
            _meant(app, chosen, everything=everything),
            made_at=estimated_at(form),
            digest=form.get("digest", ""),
            name=name,
            by=caller.name,
            reason=reason,
        )
    except bulk.EstimateChanged as error:
        raise _Moved(error.now) from None


def _what_came(act: str, carried: Carried) -> str:
    left = "".join(f"; {count} {why}" for why, count in carried.left.items())
    return f"{carried.name}: {carried.done} operations {operations.DONE_TO[act]}{left}."


async def _estimate_page(
    frame: Frame,
    request: Request,
    caller: Caller,
    chosen: Mapping[str, str],
    found: Estimate,
    *,
    everything: bool,
    refusal: Refusal | None = None,
) -> Response:
    return await show(
        frame,
        request,
        "estimate.html",
        caller=caller,
        refusal=refusal,
        found=found,
        chosen=chosen,
        everything=everything,
        listed=_query(chosen),
    )


# The list -------------------------------------------------------------------------------------------------------------


async def _list(
    app: App,
    frame: Frame,
    request: Request,
    caller: Caller,
    chosen: Mapping[str, str],
    refusal: Refusal | None = None,
) -> Response:
    wanted = filters.read(OperationFilter, chosen).asked(app.parts.clock.now())
    found, cursor = await page_of(app, wanted, _ROWS, request.query_params.get("cursor"))
    return await show(
        frame,
        request,
        "operations.html",
        caller=caller,
        refusal=refusal,
        operations=found,
        chosen=chosen,
        choices={"service": sorted(app.settings.services), "state": _STATES, "due": DUE},
        more=_query({**chosen, "cursor": cursor}) if cursor else None,
        newest="cursor" not in request.query_params,
    )


def _query(chosen: Mapping[str, str]) -> str:
    return f"?{urlencode(chosen)}" if chosen else ""


def _act(word: str) -> str:
    if word not in operations.ALLOWED:
        raise Problem(404, "Unknown act", f"there is no {word[:50]!r}; known: {', '.join(operations.ALLOWED)}")
    return word


def _unknown(operation_id: str) -> Problem:
    return Problem(404, "Unknown operation", f"there is no operation {operation_id[:100]!r}")
