"""Spans over what the engine does, by the API of OpenTelemetry; without a provider they record nothing.

A span says which incident, service and remedy, and how it ended: never a text of an error, a body or an address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from prunella import __version__
from prunella.core.events import Event
from prunella.egress import Caller, Reply
from prunella.remedies.contract import Outcome, Target
from prunella.runner.contract import Handler

_TOLD: Final[Mapping[str, str]] = {
    "incident": "prunella.incident.id",
    "service": "prunella.service",
    "remedy": "prunella.remedy",
    "state": "prunella.state",
    "category": "prunella.category",
    "channel": "prunella.channel",
    "handler": "prunella.handler",
}
"""Which fields of an event a span shows; all of them are names of ours."""
_CONTEXT: Final = TraceContextTextMapPropagator()  # and no baggage, which may hold anything
_tracer: Final = trace.get_tracer("prunella", __version__)  # follows a provider that is set later


def traced(name: str, handler: Handler, id_attribute: str) -> Handler:
    """Return `handler` with a span around each call; `id_attribute` names what its first id is."""

    async def run(*ids: str) -> None:
        with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            if span.is_recording() and ids:
                span.set_attribute(id_attribute, ids[0])
            try:
                await handler(*ids)
            except Exception as error:
                _failed(span, type(error).__qualname__)
                raise

    return run


Act = Callable[[str, Target], Awaitable[Outcome]]


def acting(act: Act) -> Act:
    """Return `act` with a span around each attempt: this is where the world outside is touched."""

    async def run(remedy: str, target: Target) -> Outcome:
        with _tracer.start_as_current_span(
            "prunella.run", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            if span.is_recording():
                span.set_attributes(_attributes_of(remedy, target))
            try:
                outcome = await act(remedy, target)
            except Exception as error:
                _failed(span, type(error).__qualname__)
                raise
            if span.is_recording():
                _ended(span, outcome)
            return outcome

    return run


class Carrying:
    """Call as a caller does, and say of which span the call is a part (W3C Trace Context).

    For calls to configured services alone: chats, watchers and models have no use for it.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **request: Any
    ) -> Reply:
        """Send one request; a `traceparent` of its own stays."""
        carried: dict[str, str] = {}
        _CONTEXT.inject(carried)
        return await self._caller.request(method, url, headers={**carried, **(headers or {})}, **request)


def listen(event: Event) -> None:
    """Note an event on the span under way, and what it says about the whole of it."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    told = {name: event.fields.get(field) for field, name in _TOLD.items()}
    attributes: dict[str, Any] = {name: str(value) for name, value in told.items() if value is not None}
    span.add_event(event.name, attributes)


def _attributes_of(remedy: str, target: Target) -> dict[str, str]:
    return {
        "prunella.remedy": remedy,
        "prunella.service": target.service.name,
        "prunella.incident.id": target.incident_id,
    }


def _ended(span: Span, outcome: Outcome) -> None:
    if outcome.status is not None:
        span.set_attribute("http.response.status_code", outcome.status)
    if not outcome.ok:
        _failed(span, str(outcome.status or ("timeout" if outcome.timed_out else "failed")))


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
