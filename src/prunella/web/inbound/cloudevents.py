"""CloudEvents 1.0 over HTTP: structured, batched and binary content mode (HTTP protocol binding, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from prunella.web.bodies import mended
from prunella.web.inbound.told import Aside, Reading, Told, event_id_of, text_at, word
from prunella.web.problems import Problem

SERVICE_AT = "data.service_name"
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
_NEEDED: Final = ("specversion", "id", "source", "type")
HEADER: Final = "ce-"


def is_cloudevent(headers: Mapping[str, str]) -> bool:
    """Tell whether a request says that it carries CloudEvents."""
    return media_type(headers) in (STRUCTURED, BATCH) or f"{HEADER}specversion" in headers


def media_type(headers: Mapping[str, str]) -> str:
    """Return the Content-Type without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def read(body: Any, headers: Mapping[str, str], raw: bytes) -> Reading:
    """Read one event, or a batch of them; what lacks a required attribute is answered with 422."""
    if media_type(headers) == BATCH:
        if not isinstance(body, list):
            raise Problem(422, "A batch is a list of events", f"{BATCH} holds a JSON array")
        return [_told(_checked(one, f"/{at}")) for at, one in enumerate(body)] or [Aside("", "holds no events")]
    event = body if f"{HEADER}specversion" not in headers else _binary(body, headers)
    return [_told(_checked(event, ""))]


def _binary(body: Any, headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Put together what binary mode spreads over headers (attributes, percent-encoded) and body (the data)."""
    attributes = {
        name.removeprefix(HEADER): unquote(value) for name, value in headers.items() if name.startswith(HEADER)
    }
    return {**attributes, "data": body}


def _checked(event: Any, pointer: str) -> Mapping[str, Any]:
    if not isinstance(event, Mapping):
        raise Problem(
            422, "A CloudEvent is a JSON object", errors=[{"pointer": pointer, "detail": "an object is needed"}]
        )
    errors = [
        {"pointer": f"{pointer}/{name}", "detail": "is required, as a text that is not empty"}
        for name in _NEEDED
        if not (isinstance(event.get(name), str) and event[name])
    ]
    if not errors and event["specversion"] != "1.0":
        detail = f"{word(event['specversion'])!r} is not understood; send 1.0"
        errors = [{"pointer": f"{pointer}/specversion", "detail": detail}]
    if errors:
        raise Problem(422, "This is no CloudEvent", f"{len(errors)} wrong; see errors", errors=errors)
    return event


def _told(event: Mapping[str, Any]) -> Told:
    """Read an event: source and id together are unique, and its data hold the facts."""
    data = event.get("data")
    if isinstance(data, str):
        try:
            data = mended(data.encode("utf-8", "replace"))
        except Problem:
            data = {"error_message": data}
    facts = dict(data) if isinstance(data, Mapping) else {}
    return Told(
        event_id=event_id_of(event["source"], event["id"]),
        outcome=str(facts.get("outcome") or "failure"),
        item={**event, "data": data},
        facts={"occurred_at": text_at(event, "time") or None, **facts},
    )
