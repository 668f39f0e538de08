"""Send spans where the environment says, by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and others)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Final

import structlog

from prunella import __version__

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def configure_tracing() -> bool:
    """Set a provider that exports spans where an endpoint is named; tell whether one was set.

    A provider that is there already stays: `opentelemetry-instrument`, or a plug-in, knows better.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "") == "true":
        return False
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        advice = 'spans go nowhere: run pip install "prunella[otel]", or unset OTEL_EXPORTER_OTLP_ENDPOINT'
        structlog.get_logger().warning("tracing.missing", advice=advice)
        return False
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return False
    named = Resource({"service.name": os.environ.get("OTEL_SERVICE_NAME", "prunella"), "service.version": __version__})
    provider = TracerProvider(resource=Resource.create().merge(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True
