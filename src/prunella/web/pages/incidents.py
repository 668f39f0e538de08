"""Incidents: a list with the filters of the API, many at once after an estimate, and the whole story of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.records import Category, Run, Severity
from prunella.core.states import RunState
from prunella.engine import bulk_incidents, orders, people, report
from prunella.engine.bulk_incidents import Carried, Estimate
from prunella.engine.learning import dossier
from prunella.store.backlog import Wanted
from prunella.web import filters
from prunella.web.access import Acts, Reads
from prunella.web.api.paging import before, cut
from prunella.web.auth import Caller, form_of
from prunella.web.filters import IncidentFilter
from prunella.web.pages.forms import Refusal, back_saying, estimated_at, reason_of, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.pages.known_issue import LEVELS
from prunella.web.pages.story import steps_of
from prunella.web.problems import Problem

_ROWS = 50
_OPERATIONS_MAX = 20
_CHOICES = {
    "state": filters.STATES,
    "category": tuple(one.value for one in Category),
    "severity": tuple(one.value for one in Severity),
}
_NOTHING: tuple[object, ...] = (None, "", [], {})
_DONE = {"ack": "acknowledged", "retry": "set going again", "resolve": "resolved, on your word"}


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""
    _add_list(routes, app, frame)
    _add_many(routes, app, frame)
    _add_one(routes, app, frame)


def _add_list(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/incidents")
    async def incident_list(caller: Reads, request: Request, cursor: str | None = None) -> Response:
        chosen = filters.chosen(IncidentFilter, request.query_params)
        async with app.store.transaction() as tx:
            found = await tx.incidents.list(most=_ROWS + 1, before=before(cursor), **_meant(chosen))
        page, following = cut(found, _ROWS, lambda one: (one.first_seen, one.id))
        named = {"service": sorted(app.settings.services), "procedure": sorted(app.parts.procedures)}
        return await show(
            frame,
            request,
            "incidents.html",
            caller=caller,
            incidents=page,
            chosen=chosen,
            first=cursor is None,
            choices={**_CHOICES, **named},
            more=f"?{urlencode({**chosen, 'cursor': following})}" if following else None,
        )


def _add_many(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/incidents/many")
    async def estimate(caller: Acts, request: Request, act: Literal["ack", "retry", "resolve"] = "retry") -> Response:
        return await _estimate_page(
            app, frame, request, caller, act, filters.chosen(IncidentFilter, request.query_params)
        )

    @routes.post("/incidents/many")
    async def carry_out(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        chosen, act = filters.chosen(IncidentFilter, form), form.get("act", "")
        if act not in _DONE:
            raise Problem(404, "Unknown act", f"there is no {act[:50]!r}; known: {', '.join(_DONE)}")
        came = await tried(_carried_out(app, request, caller, act, chosen))
        if isinstance(came, Refusal):
            return await _estimate_page(app, frame, request, caller, act, chosen, came)
        left = "".join(f", {count} {why}" for why, count in came.left.items())
        query = f"?{urlencode(chosen)}" if chosen else ""
        return back_saying(request, caller, f"/incidents{query}", f"{came.done} {_DONE[act]}{left}.")


async def _carried_out(app: App, request: Request, caller: Caller, act: str, chosen: Mapping[str, str]) -> Carried:
    form = await form_of(request)
    return await bulk_incidents.carry_out(
        app.parts,
        act,
        _meant(chosen),
        made_at=estimated_at(form),
        digest=form.get("digest", ""),
        by=caller.name,
        reason=await reason_of(request),
    )


async def _estimate_page(
    app: App,
    frame: Frame,
    request: Request,
    caller: Caller,
    act: str,
    chosen: Mapping[str, str],
    refusal: Refusal | None = None,
) -> Response:
    found: Estimate = await bulk_incidents.estimate(app.parts, act, _meant(chosen))
    values = {"estimate": found, "chosen": chosen}
    return await show(frame, request, "incidents_many.html", caller=caller, refusal=refusal, **values)


def _add_one(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/incidents/{incident_id}")
    async def incident(caller: Reads, request: Request, incident_id: str) -> Response:
        return await _page(app, frame, request, caller, incident_id)

    @routes.post("/incidents/{incident_id}/{act}")
    async def act_on_incident(caller: Acts, request: Request, incident_id: str, act: str) -> Response:
        if act not in people.INCIDENT_ACTS:
            raise Problem(404, "Unknown act", f"there is no {act[:50]!r}; known: {', '.join(people.INCIDENT_ACTS)}")
        came = await tried(_acted(app, request, caller, incident_id, act))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, incident_id, came)
        return back_saying(request, caller, f"/incidents/{incident_id}", _SAID[act])

    @routes.post("/runs/{run_id}/undo")
    async def undo(caller: Acts, request: Request, run_id: str) -> Response:
        async with app.store.transaction() as tx:
            run = await tx.runs.get(run_id)
        if run is None:
            raise Problem(404, "Unknown run", f"there is no run {run_id[:100]!r}")
        came = await tried(orders.undo(app.parts, run_id, by=caller.name))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, run.incident_id, came)
        assert came is not None  # it was there a moment ago, and runs outlive their undoing
        refused = "".join(f"; {key} was left as it is: {why}" for key, why in came.refused.items())
        words = f"{came.restored} row{'' if came.restored == 1 else 's'} put back{refused}."
        return back_saying(request, caller, f"/incidents/{run.incident_id}", words)


_SAID = {
    "ack": "Acknowledged: everybody sees that you know of it.",
    "retry": "It is tried again now.",
    "suppress": "Suppressed: nothing more is tried until somebody retries it.",
    "escalate": "Escalated: the machine leaves it to a person.",
    "resolve": "Resolved, on your word.",
}


async def _acted(app: App, request: Request, caller: Caller, incident_id: str, act: str) -> None:
    reason = await reason_of(request)
    if await people.act_on_incident(app.parts, incident_id, act, by=caller.name, reason=reason) is None:
        raise _unknown(incident_id)


async def _page(
    app: App, frame: Frame, request: Request, caller: Caller, incident_id: str, refusal: Refusal | None = None
) -> Response:
    story = await report.story(app.parts, incident_id)
    if story is None:
        raise _unknown(incident_id)
    async with app.store.transaction() as tx:
        waiting = await tx.backlog.oldest(Wanted(incident=incident_id, now=app.parts.clock.now()), _OPERATIONS_MAX)
        known = await dossier.of(app.parts, tx, story.incident.issue_id) if story.incident.issue_id else None
    evidence = story.evidence or {}
    shape = evidence.get("payload_shape")
    return await show(
        frame,
        request,
        "incident.html",
        caller=caller,
        refusal=refusal,
        story=story,
        steps=steps_of(story),
        failure={name: value for name, value in (evidence.get("failure") or {}).items() if value not in _NOTHING},
        shape=json.dumps(shape, indent=2, ensure_ascii=False) if shape is not None else None,
        operations=waiting,
        known=known,
        levels=LEVELS,
        undoable={run.id for run in story.runs if can_be_undone(app, run)},
    )


def _unknown(incident_id: str) -> Problem:
    return Problem(404, "Unknown incident", f"there is no incident {incident_id[:100]!r}")


def _meant(chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return what the rows of a list have to fulfil."""
    return filters.read(IncidentFilter, chosen).asked()


def can_be_undone(app: App, run: Run) -> bool:
    """Tell whether a machine can put back what a run did."""
    ready = app.parts.procedures.get(run.procedure)
    remedy = ready.remedies.get(run.remedy) if ready is not None else None
    over = run.state not in (RunState.PLANNED, RunState.RUNNING, RunState.UNDONE, RunState.FAILED)
    return over and bool(run.touched) and remedy is not None and remedy.reversible
