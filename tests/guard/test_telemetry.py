"""What guards decide can be counted, and nothing that an error or an argument says becomes a label."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import prunella as pr
from prunella.core.errors import InvalidInput
from prunella.testing import faults, virtual_time


@contextmanager
def troubled(listener: Any) -> Iterator[None]:
    """Retry, open, give up and change a rate under one policy that `listener` hears."""
    crm = pr.policy(
        "crm",
        retry=pr.Retry(attempts=2, base_s=1.0, jitter="none"),
        breaker=pr.Breaker(failures=20),
        limiter=pr.AdaptiveLimiter(rate_per_s=1000.0),
        listeners=[listener],
    )
    push = crm(lambda secret: secret)
    with virtual_time(), faults(crm, [ConnectionError("Bearer sk_live_51HunterHunter")] * 40):
        for _ in range(12):
            with pytest.raises((ConnectionError, pr.CircuitOpen)):
                push("sk_live_51HunterHunterHunter2")
        yield


def test_prometheus_counts_decisions_by_policy_and_event() -> None:
    """Events, waits, the breaker's state and the learned rate stand in the registry, and no text of an error."""
    registry = CollectorRegistry()
    value = registry.get_sample_value
    with troubled(pr.prometheus_listener(registry)):
        assert value("prunella_guard_breaker_state", {"policy": "crm", "state": "open"}) == 1
        assert value("prunella_guard_breaker_state", {"policy": "crm", "state": "closed"}) == 0
    text = generate_latest(registry).decode()
    assert value("prunella_guard_events_total", {"policy": "crm", "event": "call.gave_up"}) == 12
    assert value("prunella_guard_retry_wait_seconds_count", {"policy": "crm"}) == 10
    assert value("prunella_guard_retry_wait_seconds_sum", {"policy": "crm"}) == 10.0
    assert value("prunella_guard_rate_per_second", {"policy": "crm"}) == 800.0
    assert "Hunter" not in text


class Meter:
    """Stands for OpenTelemetry's meter: keeps what its instruments were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, dict[str, str]]] = []

    def create_counter(self, name: str, **_: str) -> Any:
        return self._instrument("add", name)

    def create_histogram(self, name: str, **_: str) -> Any:
        return self._instrument("record", name)

    def _instrument(self, verb: str, name: str) -> Any:
        return type("Instrument", (), {verb: lambda _, value, labels: self.told.append((name, value, labels))})()


def test_opentelemetry_is_told_the_same() -> None:
    """A meter is told of decisions, waits, states and rates."""
    meter = Meter()
    with troubled(pr.opentelemetry_listener(meter)):
        pass
    assert ("prunella.guard.retry.wait", 1.0, {"policy": "crm"}) in meter.told
    assert ("prunella.guard.breaker.changes", 1, {"policy": "crm", "state": "open"}) in meter.told
    assert ("prunella.guard.rate", 800.0, {"policy": "crm"}) in meter.told
    assert "Hunter" not in repr(meter.told)


@pytest.mark.parametrize("make", [pr.prometheus_listener, pr.opentelemetry_listener])
def test_missing_package_is_told(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the message says what to install."""
    for name in ("prometheus_client", "opentelemetry", "opentelemetry.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidInput, match="is not installed; install"):
        make()
