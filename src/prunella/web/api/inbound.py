"""Events from others: /api/v1/signals with a token, /api/v1/inbound/{source} with a signature in place of one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.engine import patrol
from prunella.web.access import Reports, parsed, read_json
from prunella.web.api.events import FailureEvent, ScanRequest, echo_of, to_signal
from prunella.web.api.paging import Out
from prunella.web.api.self_heal import ScannedOut, scan_answer
from prunella.web.inbound import cloudevents, taking
from prunella.web.inbound.door import BySignature, Delivered
from prunella.web.inbound.door import parsed as as_json
from prunella.web.inbound.told import EVENTS_MAX, Aside, Told, text_at, word
from prunella.web.problems import Problem


class ReceiptOut(Out):
    """An event that was taken, now or before."""

    event_id: str
    signal_id: str
    incident_id: str | None
    duplicate: bool


class AsideOut(Out):
    """An event that is none of ours, or that can't be taken."""

    event_id: str
    why: str


class DeliveryOut(Out):
    """What came of a delivery."""

    items: list[ReceiptOut]
    aside: list[AsideOut]
    refused: list[AsideOut]


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1", tags=["signals"])

    @routes.post("/signals", status_code=202, summary="Report failures and successes, in our words or as CloudEvents")
    async def report_signals(_: Reports, request: Request) -> DeliveryOut:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if cloudevents.is_cloudevent(headers):
            taken = await taking.accept(app, await _of_cloudevents(app, request, headers))
        else:
            taken = await taking.accept(app, [_own(app, await read_json(request), headers)])
        return DeliveryOut.model_validate(taken.answer())

    @routes.post(
        "/inbound/{source}",
        status_code=202,
        summary="Take what a configured sender signed",
        responses={200: {"model": ScannedOut, "description": "What a scan came to, where the sender may ask for one"}},
    )
    async def take_inbound(delivered: BySignature, source: str, response: Response) -> DeliveryOut | ScannedOut:
        if _asks_for_scan(delivered):
            response.status_code = 200
            return ScannedOut.model_validate(await _scan(app, delivered.body))
        return DeliveryOut.model_validate((await taking.take(app, delivered)).answer())

    return routes


def _own(app: App, body: dict[str, Any], headers: dict[str, str]) -> taking.Readied:
    event = parsed(FailureEvent, body)
    parts = app.parts
    signal = to_signal(event, parts.services.get(event.service_name), parts.ids, parts.clock, None)
    return signal, echo_of(event, headers.get("x-prunella-recovery"))


async def _of_cloudevents(app: App, request: Request, headers: dict[str, str]) -> list[taking.Readied]:
    body = as_json(await request.body(), headers)
    reading = cloudevents.read(body, headers, b"")
    if len(reading) > EVENTS_MAX:
        raise Problem(422, "The batch is too long", f"at most {EVENTS_MAX} events are taken in one request")
    return [_of_cloudevent(app, one, headers) for one in reading]


def _of_cloudevent(app: App, told: Told | Aside, headers: dict[str, str]) -> taking.Readied:
    if isinstance(told, Aside):
        return told
    service = text_at(told.item, cloudevents.SERVICE_AT) or text_at(told.item, "subject")
    if not service:
        return taking.Refused(told.event_id, "names no service; put service_name into data, or set subject", "/subject")
    return taking.readied(app, told, word(service), "cloudevents", headers)


def _asks_for_scan(delivered: Delivered) -> bool:
    return delivered.sender.scan and isinstance(delivered.body, dict) and delivered.body.get("mode") == "scan"


async def _scan(app: App, body: dict[str, Any]) -> dict[str, Any]:
    wanted = parsed(ScanRequest, body)
    decided = await patrol.scan(app.parts, window_minutes=wanted.window_minutes, limit=wanted.limit)
    return await scan_answer(app, decided)
