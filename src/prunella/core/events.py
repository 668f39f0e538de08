"""What happened, for whoever listens: logs, metrics, the demo's screen.

Telling must never hurt the one who acts: a listener that raises is dropped from this event, not from the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)

EVENTS: Final[Mapping[str, str]] = {
    "audit.sealed": "Entries of the audit were sealed; note it for `prunella audit verify --noted NUMBER:DIGEST`.",
    "breaker.changed": "A guard's breaker opened, closed, or lets a probe through.",
    "call.degraded": "A guarded call was answered by its fallback.",
    "call.gave_up": "A guarded call failed for good.",
    "call.handed_over": "A guarded call was written down and will be made later.",
    "call.retrying": "A guarded call is tried again after a wait.",
    "config.warning": "The configuration holds something that a person should know.",
    "engine.failed": "A handler, a procedure or a remedy raised: a fault of ours, or of a plug-in.",
    "entrance.refused": "A token or a sign-in was no good.",
    "failure.learned": "A guarded handler failed for good, and what is known of it was kept.",
    "gate.changed": "Calls to a service may pass, or may not.",
    "handover.failed": "A guarded call could not be written down.",
    "inbound.received": "A signed sender told of something: how much was taken, known, put aside, refused.",
    "inbound.refused": "A request to a sender's address was not signed as it should be.",
    "incident.resolved": "An incident was proven well.",
    "issue.escalated": "A known issue was passed on to people.",
    "issue.noticed": "A guard noticed what a person should know.",
    "limiter.changed": "A guard's limiter learned another rate.",
    "notification.failed": "A message did not arrive; `dead`: it is not tried again.",
    "notification.sent": "Messages arrived.",
    "plan.decided": "What is done about an incident was decided.",
    "pool.changed": "A connection pool is at another level.",
    "process.cut_off": "A process ended before its work did.",
    "remedy.failed": "A guard's own remedy raised.",
    "remedy.judged": "What became of a known issue's remedy is known: verified, ineffective or undone.",
    "remedy.proven": "A call succeeded after a guard's remedy.",
    "remedy.tried": "A guard applied its remedy before another attempt.",
    "retry.budget_exhausted": "A guard retried no more: too many calls are retried.",
    "run.finished": "An attempt ended.",
    "run.started": "An attempt began.",
    "signal.accepted": "An event is recorded.",
    "store.awaited": "The database does not answer yet; the start waits for it.",
    "tracing.missing": "Spans were wanted, and what sends them is not installed.",
    "worker.taken_over": "What a dead worker had begun was taken over.",
}
"""Every event and every named line of the log, and what it says; held by tests/core/test_events.py."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; its name is one of `EVENTS`: noun.verb, in the past tense."""

    name: str
    fields: Mapping[str, object] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Listeners:
    """Hand each event to every listener, in the order they came."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add `listener`; call what is returned to take it away again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def emit(self, name: str, **fields: object) -> None:
        """Tell everybody."""
        if not self._listeners:
            return
        event = Event(name, fields)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("listener failed on %s", name)
