"""Incidents: a list with the filters of the API, many at once after an estimate, and the whole story of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.errors import InvalidInput
from prunella.core.records import Category, Run
from prunella.core.states import IncidentState, RunState
from prunella.engine import bulk_incidents, orders, people, report
from prunella.store.backlog import Wanted
from prunella.web.access import Acts, Reads
from prunella.web.api.paging import before, cursor_of
from prunella.web.auth import form_of
from prunella.web.pages.frame import Frame, back_to
from prunella.web.pages.story import steps_of
from prunella.web.problems import Problem

_ROWS = 50
_OPERATIONS_MAX = 20
_REASON_CHARS_MAX = 500
OPEN = "open_any"
STATES = (OPEN, *(state.value for state in IncidentState))
CATEGORIES = tuple(one.value for one in Category)
_FILTERS = ("state", "service", "category", "procedure")


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""
    _add_list(routes, app, frame)
    _add_many(routes, app, frame)
    _add_one(routes, app, frame)


def _add_list(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/incidents")
    async def incident_list(caller: Reads, request: Request, cursor: str | None = None, done: str = "") -> Response:
        chosen = chosen_of(request.query_params)
        async with app.store.transaction() as tx:
            found = await tx.incidents.list(most=_ROWS + 1, before=before(cursor), **equal_of(chosen))
        last = found[_ROWS - 1] if len(found) > _ROWS else None
        following = {**chosen, "cursor": cursor_of(last.first_seen, last.id)} if last else None
        return frame.page(
            request,
            "incidents.html",
            caller=caller,
            incidents=found[:_ROWS],
            chosen=chosen,
            done=done[:200],
            first=cursor is None,
            choices={
                "state": STATES,
                "category": CATEGORIES,
                "service": sorted(app.settings.services),
                "procedure": sorted(app.parts.procedures),
            },
            more=f"?{urlencode(following)}" if following else None,
        )


def _add_many(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/incidents/many")
    async def estimate(caller: Acts, request: Request, act: Literal["ack", "retry"] = "retry") -> Response:
        chosen = chosen_of(request.query_params)
        found = await bulk_incidents.estimate(app.parts, act, equal_of(chosen))
        return frame.page(request, "incidents_many.html", caller=caller, estimate=found, chosen=chosen)

    @routes.post("/incidents/many")
    async def carry_out(caller: Acts, request: Request) -> Response:
        form = await form_of(request)
        chosen = chosen_of(form)
        try:
            made_at = datetime.fromisoformat(form.get("made_at", ""))
        except ValueError:
            raise InvalidInput("made_at names no moment; go back and look at a new estimate") from None
        act = form.get("act", "")
        carried = await bulk_incidents.carry_out(
            app.parts,
            act,
            equal_of(chosen),
            made_at=made_at,
            digest=form.get("digest", ""),
            by=caller.name,
            reason=reason_of(form),
        )
        left = "".join(f", {count} {why}" for why, count in carried.left.items())
        words = {"ack": "acknowledged", "retry": "set going again"}[act]
        return back_to(request, f"/incidents?{urlencode({**chosen, 'done': f'{carried.done} {words}{left}'})}")


def _add_one(routes: APIRouter, app: App, frame: Frame) -> None:
    @routes.get("/incidents/{incident_id}")
    async def incident(caller: Reads, request: Request, incident_id: str, done: str = "") -> Response:
        story = await report.story(app.parts, incident_id)
        if story is None:
            raise Problem(404, "Unknown incident", f"there is no incident {incident_id[:100]!r}")
        async with app.store.transaction() as tx:
            waiting = await tx.backlog.oldest(Wanted(incident=incident_id, now=app.parts.clock.now()), _OPERATIONS_MAX)
        failure = (story.evidence or {}).get("failure")
        shape = (story.evidence or {}).get("payload_shape")
        return frame.page(
            request,
            "incident.html",
            caller=caller,
            story=story,
            steps=steps_of(story),
            failure={name: value for name, value in (failure or {}).items() if value not in (None, "", [], {})},
            shape=json.dumps(shape, indent=2, ensure_ascii=False) if shape is not None else None,
            operations=waiting,
            undoable={run.id for run in story.runs if can_be_undone(app, run)},
            done=done[:200],
        )

    @routes.post("/incidents/{incident_id}/{act}")
    async def act_on_incident(
        caller: Acts, request: Request, incident_id: str, act: Literal["ack", "retry", "suppress", "escalate"]
    ) -> Response:
        reason = reason_of(await form_of(request))
        changed = await people.act_on_incident(app.parts, incident_id, act, by=caller.name, reason=reason)
        if changed is None:
            raise Problem(404, "Unknown incident", f"there is no incident {incident_id[:100]!r}")
        return back_to(request, f"/incidents/{changed.id}")

    @routes.post("/runs/{run_id}/undo")
    async def undo(caller: Acts, request: Request, run_id: str) -> Response:
        undone = await orders.undo(app.parts, run_id, by=caller.name)
        if undone is None:
            raise Problem(404, "Unknown run", f"there is no run {run_id[:100]!r}")
        async with app.store.transaction() as tx:
            run = await tx.runs.get(run_id)
        assert run is not None  # it was there a moment ago, and runs outlive their undoing
        refused = f", {len(undone.refused)} refused" if undone.refused else ""
        words = urlencode({"done": f"{undone.restored} rows put back{refused}"})
        return back_to(request, f"/incidents/{run.incident_id}?{words}")


def chosen_of(given: Mapping[str, str]) -> dict[str, str]:
    """Return the filters that were chosen; a word that the form does not offer is refused."""
    chosen = {name: value for name in _FILTERS if (value := given.get(name, "").strip())}
    for name, allowed in (("state", STATES), ("category", CATEGORIES)):
        if name in chosen and chosen[name] not in allowed:
            raise Problem(422, f"Unknown {name}", f"got {chosen[name][:50]!r}; allowed: {', '.join(allowed)}")
    return chosen


def equal_of(chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return what the rows have to equal."""
    equal: dict[str, Any] = dict(chosen)
    if equal.get("state") == OPEN:
        equal["state"] = [one.value for one in IncidentState if one is not IncidentState.RESOLVED]
    return equal


def reason_of(form: Mapping[str, str]) -> str:
    """Return why a person does something."""
    return form.get("reason", "").strip()[:_REASON_CHARS_MAX]


def can_be_undone(app: App, run: Run) -> bool:
    """Tell whether a machine can put back what a run did."""
    ready = app.parts.procedures.get(run.procedure)
    remedy = ready.remedies.get(run.remedy) if ready is not None else None
    over = run.state not in (RunState.PLANNED, RunState.RUNNING, RunState.UNDONE, RunState.FAILED)
    return over and bool(run.touched) and remedy is not None and remedy.reversible
