"""Spans say what the engine did and how it ended; without a provider they cost next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from prunella.app import tracing
from prunella.core.events import Event
from prunella.core.services import Service
from prunella.egress import Egress, EgressPolicy
from prunella.remedies.contract import Outcome, Target
from prunella.testing import FaultyServer
from web.conftest import INGEST, Web
from web.conftest import web as _web

pytestmark = pytest.mark.anyio
web = _web
TARGET = Target(service=Service(name="crm"), account="", incident_id="i-1", idempotency_key="k")


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Record spans in memory."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("prunella"))
    return kept


@asynccontextmanager
async def closing_egress() -> AsyncIterator[Egress]:
    """Call loopback."""
    egress = Egress(EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}), allow_http=True))
    try:
        yield egress
    finally:
        await egress.close()


def told(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_recovery_is_a_span_with_its_attempt_inside(web: Web, exporter: InMemorySpanExporter) -> None:
    """prunella.recover names the incident and holds prunella.run with remedy, service and how it ended; no secret, no text."""
    event = {
        "event_id": "e-1", "service_name": "crm", "http_status": 503, "endpoint": "/orders", "payload": {"a": "canary"},
        "error_message": "canary",
    }  # fmt: skip
    answer = await web.ask("POST", "/api/v1/signals", INGEST, json=event)
    incident = answer.json()["items"][0]["incident_id"]
    await web.app.runner._handlers["heal"](incident)  # type: ignore[attr-defined]  # it is a LocalRunner
    web.clock.advance(5)
    await web.app.runner._handlers["heal"](incident)  # type: ignore[attr-defined]
    spans = exporter.get_finished_spans()
    outer = [one for one in spans if one.name == "prunella.recover"]
    (inner,) = [one for one in spans if one.name == "prunella.run"]
    assert {told(one)["prunella.incident.id"] for one in outer} == {incident}
    assert inner.parent is not None
    assert inner.parent.span_id in {one.context.span_id for one in outer if one.context is not None}
    assert (inner.kind, inner.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert told(inner) == {
        "prunella.remedy": "replay", "prunella.service": "crm", "prunella.incident.id": incident, "error.type": "failed",
    }  # fmt: skip
    assert {event.name for one in spans for event in one.events} >= {"run.started", "run.finished"}
    assert "canary" not in " ".join(one.to_json() for one in spans)


async def test_outcome_stands_on_its_span(exporter: InMemorySpanExporter) -> None:
    """A status is told by its standard name; a failure has error.type, a success has none."""
    outcomes = [Outcome(ok=True, status=200), Outcome(ok=False, status=503), Outcome(ok=False, timed_out=True)]

    async def act(remedy: str, target: Target) -> Outcome:
        return outcomes[int(remedy)]

    for number in range(3):
        assert await tracing.acting(act)(str(number), TARGET) is outcomes[number]
    found = [told(one) for one in exporter.get_finished_spans()]
    assert [one.get("http.response.status_code") for one in found] == [200, 503, None]
    assert [one.get("error.type") for one in found] == [None, "503", "timeout"]


async def test_calls_to_services_say_of_which_span_they_are(exporter: InMemorySpanExporter) -> None:
    """W3C Trace Context of the attempt, beside what the call says itself; without a span there is nothing to say."""
    with FaultyServer() as crm:
        async with closing_egress() as caller:
            carrying = tracing.Carrying(caller)

            async def act(remedy: str, target: Target) -> Outcome:
                reply = await carrying.request("POST", f"{crm.url}/x", headers={"idempotency-key": "k"}, json={"a": 1})
                return Outcome(ok=True, status=reply.status)

            await tracing.acting(act)("replay", TARGET)
            await carrying.request("GET", f"{crm.url}/y")
        inside, outside = crm.ledger.requests
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    shown = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    assert inside.headers["traceparent"].startswith(shown)
    assert inside.headers["idempotency-key"] == "k"
    assert inside.json() == {"a": 1}
    assert "traceparent" not in outside.headers
    assert "baggage" not in inside.headers


async def test_attempts_carry_and_messages_do_not(web: Web) -> None:
    """What calls services is wired to carry; the way to chats and watchers is not."""
    assert not isinstance(web.app.caller, tracing.Carrying)
    assert not isinstance(web.app.delivery.caller, tracing.Carrying)


async def test_failure_of_ours_shows_its_class_and_no_word_of_it(exporter: InMemorySpanExporter) -> None:
    """What raises ends the span as an error, is raised on, and leaves neither message nor stack behind."""

    async def handler(*ids: str) -> None:
        raise ValueError("canary")

    async def act(remedy: str, target: Target) -> Outcome:
        raise KeyError("canary")

    with pytest.raises(ValueError, match="canary"):
        await tracing.traced("prunella.notify", handler, "prunella.channel")("ops")
    with pytest.raises(KeyError):
        await tracing.acting(act)("replay", TARGET)
    first, second = exporter.get_finished_spans()
    assert told(first) == {"prunella.channel": "ops", "error.type": "ValueError"}
    assert (told(second)["error.type"], second.status.status_code) == ("KeyError", StatusCode.ERROR)
    assert "canary" not in first.to_json() + second.to_json()


def test_events_outside_of_any_span_are_left_alone() -> None:
    """Nobody records, nothing is noted, nothing fails."""
    tracing.listen(Event("run.finished", {"incident": "i", "state": "failed"}))
    assert not trace.get_current_span().is_recording()


async def test_spans_cost_next_to_nothing_without_a_provider() -> None:
    """A pass of a handler takes milliseconds; a span that nobody records takes less than 0.1 ms of it."""

    async def handler(*ids: str) -> None:
        return None

    traced = tracing.traced("prunella.recover", handler, "prunella.incident.id")
    began = time.thread_time()
    for _ in range(2000):
        await traced("i")
    each_us = (time.thread_time() - began) / 2000 * 1e6
    print(f"{each_us:.1f} us per unrecorded span")
    assert each_us < 100


@pytest.mark.slow
def test_environment_decides_whether_spans_are_sent() -> None:
    """Without an endpoint no provider is set and no SDK is loaded; with one there is, unless the SDK is switched off."""
    code = (
        "import json, sys; from prunella.cli.tracing import configure_tracing; said = configure_tracing();"
        "print(json.dumps([said, 'opentelemetry.sdk.trace' in sys.modules]))"
    )
    found = {}
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    for name, given in (("none", {}), ("endpoint", endpoint), ("off", {**endpoint, "OTEL_SDK_DISABLED": "true"})):
        environ = {"PYTHONPATH": ":".join(sys.path), "OTEL_BSP_SCHEDULE_DELAY": "60000", **given}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout)
    assert found == {"none": [False, False], "endpoint": [True, True], "off": [False, False]}
