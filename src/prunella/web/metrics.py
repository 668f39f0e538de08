"""Prometheus metrics, fed by the engine's events; our own failures are counted apart from those we heal."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from prunella.core.events import Event

_RECOVERY_BUCKETS_S = (0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)


class Metrics:
    """Count what happens in this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._signals = self._counter("signals", "Events accepted", "service", "outcome", "category")
        self._runs = self._counter("runs", "Attempts that ended", "service", "remedy", "state")
        self._resolved = self._counter("incidents_resolved", "Incidents proven well", "service", "category")
        self._gates = self._counter("gate_changes", "Gates that changed", "service", "state")
        self._messages = self._counter("notifications", "Messages by fate", "channel", "fate")
        self._own = self._counter("own_failures", "Failures of prunella itself", "handler")
        self._recovery = Histogram(
            "prunella_recovery_seconds",
            "From the first failure to the proof that it is well",
            ["category"],
            buckets=_RECOVERY_BUCKETS_S,
            registry=self.registry,
        )

    def listen(self, event: Event) -> None:
        """Count one event."""
        fields = {name: str(value) for name, value in event.fields.items()}
        match event.name:
            case "signal.accepted":
                self._signals.labels(fields["service"], fields["outcome"], fields["category"]).inc()
            case "run.finished":
                self._runs.labels(fields["service"], fields["remedy"], fields["state"]).inc()
            case "incident.resolved":
                self._resolved.labels(fields["service"], fields["category"]).inc()
                if event.fields["forced"] is False:
                    self._recovery.labels(fields["category"]).observe(float(fields["took_s"]))
            case "gate.changed":
                self._gates.labels(fields["service"], fields["state"]).inc()
            case "notification.sent":
                self._messages.labels(fields["channel"], "sent").inc()
            case "notification.failed":
                self._messages.labels(fields["channel"], "failed").inc()
            case "engine.failed":
                self._own.labels(fields["handler"]).inc()
            case _:
                pass

    def page(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"prunella_{name}", words, list(labels), registry=self.registry)
