"""Prometheus metrics: counters fed by this process's events, gauges by a look at the tables when somebody asks.

Labels are bounded: a service that is not configured counts as `other`. Our own failures are counted apart from those
we heal. Gauges show the whole deployment, so over several processes take their maximum, not their sum.
"""

from __future__ import annotations

import platform
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from prunella import __version__
from prunella.core.events import Event
from prunella.core.states import GateState
from prunella.engine.census import Census
from prunella.engine.effects import Effects

OTHER: Final = "other"
_BUCKETS_S: Final = (0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
_REMEMBERED: Final = 10_000
_OF_SERVICES: Final = {
    "tried": ("auto_fix_tried_24h", "settled incidents on which a remedy was tried"),
    "auto_fixed": ("auto_fixed_24h", "incidents that a remedy fixed without a person"),
    "escalations": ("escalations_24h", "incidents that were left to people"),
    "gate_opens": ("gate_openings_24h", "openings of the gate"),
    "guard_opens": ("guard_openings_24h", "openings of breakers in applications"),
    "asked": ("advisor_questions_24h", "questions to the advisor"),
}
"""What of a service is shown: its field, the gauge, what it says."""
_EFFECTS: Final = ("verified", "ineffective", "failed", "undone", "futile")


class Metrics:
    """Count what happens in this process, and show how things stand.

    Args:
        services: names that may stand in a label.
        senders: likewise.
    """

    def __init__(self, services: Iterable[str], senders: Iterable[str], now: Callable[[], datetime]) -> None:
        self.registry = CollectorRegistry()
        self._services, self._senders, self._now = frozenset(services), frozenset(senders), now
        self._ended: OrderedDict[str, datetime] = OrderedDict()
        self._make_counters()
        self._make_histograms()
        self._make_gauges()
        ProcessCollector(registry=self.registry)
        self._listening: Mapping[str, Callable[[Mapping[str, object]], None]] = {
            "signal.accepted": self._signal,
            "run.started": self._begun,
            "run.finished": self._run,
            "incident.resolved": self._incident,
            "gate.changed": self._gate,
            "notification.sent": self._sent,
            "notification.failed": self._unsent,
            "engine.failed": self._fault,
            "inbound.received": self._inbound_taken,
            "inbound.refused": self._inbound_refused,
            "entrance.refused": self._entrance_refused,
        }

    def listen(self, event: Event) -> None:
        """Count one event."""
        heard = self._listening.get(event.name)
        if heard is not None:
            heard(event.fields)

    def show(self, census: Census | None, day: Effects | None = None) -> None:
        """Show how things stand; None: the database did not tell, and old figures would mislead.

        Args:
            day: what healing came to within the last 24 hours.
        """
        self._store_up.set(census is not None)
        self._show_effects(day)
        for gauge in (self._open, self._operations, self._gate_state, self._waiting):
            gauge.clear()
        if census is None:
            for plain in (self._approvals, self._lag, self._unsealed, self._workers):
                plain.set(float("nan"))
            return
        for state, count in census.incidents.items():
            self._open.labels(state).set(count)
        for (service, state), count in census.operations.items():
            self._operations.labels(self._service(service), state).set(count)
        for service, now_state in census.gates.items():
            for one in GateState:
                self._gate_state.labels(self._service(service), one.value).set(one.value == now_state)
        for channel, count in census.messages.items():
            self._waiting.labels(channel).set(count)
        self._approvals.set(census.approvals)
        self._lag.set(census.lag_s)
        self._unsealed.set(census.unsealed)
        self._workers.set(census.workers)

    def _show_effects(self, day: Effects | None) -> None:
        for gauge in (*self._of_services.values(), self._attempts, self._regressions):
            gauge.clear()
        self._toil.set(float("nan") if day is None else day.all.toil_saved_h)
        if day is None:
            return
        for name, one in day.services.items():
            for field, gauge in self._of_services.items():
                gauge.labels(self._service(name)).inc(getattr(one, field))
        for of_remedy in day.remedies:
            for effect in _EFFECTS:
                self._attempts.labels(of_remedy.remedy, effect).set(getattr(of_remedy, effect))
            self._regressions.labels(of_remedy.remedy).set(of_remedy.regressions)

    def page(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)

    # what is counted ----------------------------------------------------------------------------------------------

    def _make_counters(self) -> None:
        self._signals = self._counter("signals", "Events accepted", "service", "outcome", "category")
        self._runs = self._counter("runs", "Attempts that ended", "service", "remedy", "state")
        self._resolved = self._counter("incidents_resolved", "Incidents proven well", "service", "category")
        self._gates = self._counter("gate_changes", "Gates that changed", "service", "state")
        self._messages = self._counter("notifications", "Messages by fate", "channel", "fate")
        self._refused = self._counter("refused_entrances", "Tokens and sign-ins that were no good", "way")
        self._own = self._counter("own_failures", "Failures of prunella itself", "handler")
        self._inbound = self._counter("inbound_events", "What signed senders sent, by fate", "source", "fate")

    def _make_histograms(self) -> None:
        self._detection = self._histogram("detection", "From a failure to its arrival here", "service")
        self._action = self._histogram("action", "From an incident's first failure to the first attempt", "service")
        self._verification = self._histogram("verification", "From the last attempt to the proof", "service")
        self._recovery = self._histogram("recovery", "From the first failure to the proof that it is well", "category")

    def _make_gauges(self) -> None:
        self._open = self._gauge("incidents_open", "Incidents that are open", "state")
        self._operations = self._gauge(
            "operations", "Operations that wait, run or are in quarantine", "service", "state"
        )
        self._gate_state = self._gauge("gate_state", "1 for the state that a gate is in", "service", "state")
        self._waiting = self._gauge("notifications_waiting", "Messages that wait to be sent", "channel")
        self._approvals = self._gauge("approvals_waiting", "Plans that wait for a person")
        self._lag = self._gauge("queue_lag_seconds", "For how long the longest waiting incident is due")
        self._unsealed = self._gauge("audit_unsealed_entries", "Entries of the audit that wait for their seal")
        self._workers = self._gauge("workers_alive", "Processes that heal")
        self._store_up = self._gauge("store_up", "1 when the database told how things stand")
        self._of_services = {
            field: self._gauge(name, f"Within the last 24 hours: {words}", "service")
            for field, (name, words) in _OF_SERVICES.items()
        }
        self._attempts = self._gauge(
            "remedy_attempts_24h", "Within the last 24 hours: attempts, by what became of them", "remedy", "effect"
        )
        self._regressions = self._gauge(
            "remedy_regressions_24h", "Within the last 24 hours: what came back after this was proven", "remedy"
        )
        self._toil = self._gauge("toil_saved_hours_24h", "Within the last 24 hours: work that nobody had, as assumed")
        build = self._gauge("build_info", "What runs here", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)

    def _signal(self, fields: Mapping[str, object]) -> None:
        service = self._service(fields["service"])
        self._signals.labels(service, str(fields["outcome"]), str(fields["category"] or "none")).inc()
        if fields["outcome"] == "failure" and fields["forced"] is False:
            self._detection.labels(service).observe(_seconds(fields, "detected_s"))

    def _begun(self, fields: Mapping[str, object]) -> None:
        if fields.get("acted_s") is not None:
            self._action.labels(self._service(fields["service"])).observe(_seconds(fields, "acted_s"))

    def _run(self, fields: Mapping[str, object]) -> None:
        self._runs.labels(self._service(fields["service"]), str(fields["remedy"]), str(fields["state"])).inc()
        incident = str(fields["incident"])
        self._ended[incident] = self._now()
        self._ended.move_to_end(incident)
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def _incident(self, fields: Mapping[str, object]) -> None:
        service = self._service(fields["service"])
        self._resolved.labels(service, str(fields["category"])).inc()
        ended = self._ended.pop(str(fields["incident"]), None)
        if fields["forced"] is not False:
            return
        self._recovery.labels(str(fields["category"])).observe(_seconds(fields, "took_s"))
        if ended is not None:
            self._verification.labels(service).observe(max((self._now() - ended).total_seconds(), 0.0))

    def _gate(self, fields: Mapping[str, object]) -> None:
        self._gates.labels(self._service(fields["service"]), str(fields["state"])).inc()

    def _sent(self, fields: Mapping[str, object]) -> None:
        self._messages.labels(str(fields["channel"]), "sent").inc()

    def _unsent(self, fields: Mapping[str, object]) -> None:
        self._messages.labels(str(fields["channel"]), "dead" if fields.get("dead") else "failed").inc()

    def _fault(self, fields: Mapping[str, object]) -> None:
        self._own.labels(str(fields["handler"])).inc()

    def _inbound_taken(self, fields: Mapping[str, object]) -> None:
        for fate in ("accepted", "duplicate", "aside", "refused"):
            self._inbound.labels(self._sender(fields), fate).inc(_seconds(fields, fate))

    def _entrance_refused(self, fields: Mapping[str, object]) -> None:
        self._refused.labels(str(fields["way"])).inc()

    def _inbound_refused(self, fields: Mapping[str, object]) -> None:
        self._inbound.labels(self._sender(fields), "unsigned").inc()

    # how ----------------------------------------------------------------------------------------------------------

    def _service(self, name: object) -> str:
        return str(name) if name in self._services else OTHER

    def _sender(self, fields: Mapping[str, object]) -> str:
        return str(fields["source"]) if fields["source"] in self._senders else OTHER

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"prunella_{name}", words, list(labels), registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"prunella_{name}", words, list(labels), registry=self.registry)

    def _histogram(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(f"prunella_{name}_seconds", words, list(labels), buckets=_BUCKETS_S, registry=self.registry)


def _seconds(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name)
    return max(float(value), 0.0) if isinstance(value, int | float) else 0.0
