"""POST /integration-self-heal: document B's one door, for events and for scans."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from prunella.app import App
from prunella.core.records import Category, Incident
from prunella.engine import patrol, report
from prunella.web.access import Reports, parsed, read_json
from prunella.web.api.events import FORCED, FailureEvent, ScanRequest, echo_of, to_signal
from prunella.web.api.paging import Out, Status, Time, spell_time
from prunella.web.problems import Problem

ANSWER_WITHIN_S = 8.0
"""An answer comes within 8 s, settled or not, so that no request lasts 10 s (document B)."""


class TakenOut(Out):
    """What became of an event."""

    success: Literal[True] = True
    recovery_id: str
    category: Category
    action_taken: str
    status: Status
    retry_scheduled: bool | None = None
    next_retry_at: Annotated[Time | None, Field(description="Only where a retry is scheduled.")] = None


class DecidedOut(Out):
    """What a scan decided on one incident."""

    event_id: str
    service_name: str
    category: Category
    action_taken: str
    status: Status


class ScannedOut(Out):
    """What a scan decided."""

    success: Literal[True] = True
    processed_count: int
    resolved_count: int
    pending_count: int
    disabled_count: int
    events: list[DecidedOut]


class Posted:
    """Tell the document what may be sent: an event, or a wish for a scan."""

    models = (FailureEvent, ScanRequest)

    async def __call__(self, request: Request) -> dict[str, Any]:
        return await read_json(request)


def router(app: App) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post(
        "/integration-self-heal",
        tags=["self-healing"],
        summary="Report a failed call, or ask for a scan",
        response_model=TakenOut | ScannedOut,
        responses={202: {"model": TakenOut, "description": "Taken; ask for its incident later"}},
    )
    async def integration_self_heal(
        _: Reports,
        request: Request,
        body: Annotated[dict[str, Any], Depends(Posted())],
        mode: Annotated[Literal["webhook", "scan"] | None, Query(description="Stands before the body's.")] = None,
    ) -> Response:
        if (mode or body.get("mode", "webhook")) == "scan":
            return await _scan(app, body)
        return await _take_event(app, request, body)

    return routes


async def _take_event(app: App, request: Request, body: dict[str, Any]) -> Response:
    event = parsed(FailureEvent, body)
    parts = app.parts
    forced = _forced(app, request)
    signal = to_signal(event, parts.services.get(event.service_name), parts.ids, parts.clock, forced)
    receipt = await app.intake.accept(signal, echo_of=echo_of(event, request.headers.get("x-prunella-recovery")))
    at_once = "respond-async" in request.headers.get("prefer", "")
    standing = (
        await report.first_standing(parts, receipt)
        if at_once or receipt.duplicate
        else await report.settled(parts, receipt, within_s=ANSWER_WITHIN_S)
    )
    headers = {"preference-applied": "respond-async"} if at_once else {}
    return JSONResponse(_answer(standing, signal.id), status_code=202 if at_once else 200, headers=headers)


def _forced(app: App, request: Request) -> str | None:
    """Return the failure to pretend; outside development the header does not exist."""
    wanted = request.headers.get("x-force-failure")
    if wanted is None or not app.settings.development:
        return None
    if wanted not in FORCED:
        raise Problem(422, "Unknown X-Force-Failure", f"got {wanted!r}; allowed: {', '.join(FORCED)}")
    return wanted


def _answer(standing: report.Standing | None, signal_id: str) -> dict[str, Any]:
    """Spell document B's answer; what is not said is left out."""
    if standing is None:
        said = "success recorded"
        taken = TakenOut(recovery_id=signal_id, category=Category.UNKNOWN, action_taken=said, status="resolved")
        return taken.model_dump(mode="json", exclude_none=True)
    incident, next_at = standing.incident, standing.next_at
    taken = TakenOut(
        recovery_id=incident.id,
        category=incident.category,
        action_taken=incident.action_taken,
        status=standing.status,
        retry_scheduled=next_at is not None,
        next_retry_at=spell_time(next_at),
    )
    return taken.model_dump(mode="json", exclude_none=True)


async def _scan(app: App, body: dict[str, Any]) -> Response:
    wanted = parsed(ScanRequest, body)
    decided = await patrol.scan(app.parts, window_minutes=wanted.window_minutes, limit=wanted.limit)
    return JSONResponse(await scan_answer(app, decided))


async def scan_answer(app: App, decided: list[Incident]) -> dict[str, Any]:
    """Spell document B's answer to a scan."""
    async with app.store.transaction() as tx:
        gates = {gate.service: gate for gate in await tx.gates.all()}
        event_ids = await tx.signals.event_ids([incident.signal_id for incident in decided])
    events = [
        DecidedOut(
            event_id=event_ids.get(incident.signal_id, ""),
            service_name=incident.service,
            category=incident.category,
            action_taken=incident.action_taken,
            status=report.outward_status(incident, gates.get(incident.service)),
        )
        for incident in decided
    ]

    def count(status: Status) -> int:
        return sum(event.status == status for event in events)

    scanned = ScannedOut(
        processed_count=len(events),
        resolved_count=count("resolved"),
        pending_count=count("pending"),
        disabled_count=count("disabled"),
        events=events,
    )
    return scanned.model_dump(mode="json")
