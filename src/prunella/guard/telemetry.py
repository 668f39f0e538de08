"""Listeners that count what guards decide, for Prometheus and OpenTelemetry; neither is loaded before it is asked for.

Labels are the policy and the event: never a text of an error, a header or an argument.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from prunella.core.errors import InvalidInput
from prunella.core.events import Event, Listener

_STATES = ("closed", "half_open", "open")
_EVENTS = ("prunella_guard_events_total", "decisions of guards, by policy and event")
_WAITS = ("prunella_guard_retry_wait_seconds", "waits before another attempt")
_BREAKER = ("prunella_guard_breaker_state", "1 for the state the breaker is in")
_RATE = ("prunella_guard_rate_per_second", "rate that the limiter has learned")


def prometheus_listener(registry: Any = None) -> Listener:
    """Return a listener for `policy(listeners=[…])` or `policy.subscribe` that counts with prometheus_client.

    Args:
        registry: a CollectorRegistry; None takes the default one.

    Raises:
        InvalidInput: prometheus_client is not installed.
    """
    client = _load("prometheus_client")
    where = {} if registry is None else {"registry": registry}
    events = client.Counter(*_EVENTS, ["policy", "event"], **where)
    waits = client.Histogram(*_WAITS, ["policy"], **where)
    breaker = client.Gauge(*_BREAKER, ["policy", "state"], **where)
    rate = client.Gauge(*_RATE, ["policy"], **where)

    def state_changed(policy: str, after: object) -> None:
        for state in _STATES:
            breaker.labels(policy, state).set(1 if state == after else 0)

    return _listener(
        count=lambda policy, event: events.labels(policy, event).inc(),
        waited=lambda policy, wait_s: waits.labels(policy).observe(wait_s),
        state_changed=state_changed,
        rate_changed=lambda policy, value: rate.labels(policy).set(value),
    )


def opentelemetry_listener(meter: Any = None) -> Listener:
    """Return a listener that counts with OpenTelemetry's metrics.

    Args:
        meter: what `opentelemetry.metrics.get_meter` returns; None asks for the meter `prunella`.

    Raises:
        InvalidInput: opentelemetry-api is not installed, and no meter was given.
    """
    meter = meter if meter is not None else _load("opentelemetry.metrics").get_meter("prunella")
    events = meter.create_counter("prunella.guard.events", description=_EVENTS[1])
    waits = meter.create_histogram("prunella.guard.retry.wait", unit="s", description=_WAITS[1])
    changes = meter.create_counter("prunella.guard.breaker.changes", description="changes of state, by new state")
    rate = meter.create_histogram("prunella.guard.rate", unit="1/s", description=_RATE[1])
    return _listener(
        count=lambda policy, event: events.add(1, {"policy": policy, "event": event}),
        waited=lambda policy, wait_s: waits.record(wait_s, {"policy": policy}),
        state_changed=lambda policy, after: changes.add(1, {"policy": policy, "state": str(after)}),
        rate_changed=lambda policy, value: rate.record(value, {"policy": policy}),
    )


def _listener(
    *,
    count: Callable[[str, str], object],
    waited: Callable[[str, float], object],
    state_changed: Callable[[str, object], object],
    rate_changed: Callable[[str, float], object],
) -> Listener:
    def listen(event: Event) -> None:
        policy = str(event.fields.get("policy", ""))
        count(policy, event.name)
        if event.name == "call.retrying":
            waited(policy, float(str(event.fields["wait_s"])))
        elif event.name == "breaker.changed":
            state_changed(policy, event.fields["after"])
        elif event.name == "limiter.changed":
            rate_changed(policy, float(str(event.fields["after"])))

    return listen


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise InvalidInput(f"telemetry: {name} is not installed; install {package}, or pass your own object") from error
