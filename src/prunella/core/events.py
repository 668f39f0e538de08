"""What happened, for whoever listens: logs, metrics, the demo's screen.

Telling must never hurt the one who acts: a listener that raises is dropped from this event, not from the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Names are `noun.verb` in the past tense: signal.accepted, incident.opened, plan.decided, run.started, run.finished,
    incident.resolved, gate.changed, notification.sent, engine.failed.
    """

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
