"""From what a sender told to Signals: only of services that it may speak of, and only what is an event at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from prunella.app import App
from prunella.core.records import Signal
from prunella.core.senders import Sender
from prunella.engine.report import Receipt
from prunella.web.api.events import FailureEvent, echo_of, to_signal
from prunella.web.inbound import alerts, cloudevents, github, own, sentry
from prunella.web.inbound.door import Delivered
from prunella.web.inbound.told import EVENTS_MAX, Aside, Reading, Told, found_at, text_at, word
from prunella.web.problems import Problem, pointer

_READERS: Final = {
    "standard_webhooks": (own.read_signed, own.SERVICE_AT),
    "token": (own.read_plain, own.SERVICE_AT),
    "cloudevents": (cloudevents.read, cloudevents.SERVICE_AT),
    "alertmanager": (alerts.read, alerts.SERVICE_AT),
    "grafana": (alerts.read, alerts.SERVICE_AT),
    "sentry": (sentry.read, sentry.SERVICE_AT),
    "github": (github.read, github.SERVICE_AT),
}
_IN_OUR_WORDS: Final = frozenset({"standard_webhooks", "token", "cloudevents"})
_FACTS: Final = frozenset(FailureEvent.model_fields) - {"mode", "event_id", "outcome", "service_name"}
_REFUSED_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that was told and cannot be taken, and why."""

    event_id: str
    why: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a delivery."""

    receipts: Sequence[tuple[str, Receipt]] = ()
    aside: Sequence[Aside] = ()
    refused: Sequence[Refused] = ()

    def answer(self) -> dict[str, Any]:
        """Spell it for the sender; where nothing but refusals came of it, answer 422."""
        if self.refused and not (self.receipts or self.aside):
            errors = [{"pointer": one.pointer, "detail": one.why} for one in self.refused[:_REFUSED_SHOWN]]
            raise Problem(422, "None of this can be taken", f"{len(self.refused)} refused; see errors", errors=errors)
        return {
            "items": [
                {
                    "event_id": event_id,
                    "signal_id": receipt.signal_id,
                    "incident_id": receipt.incident_id,
                    "duplicate": receipt.duplicate,
                }
                for event_id, receipt in self.receipts
            ],
            "aside": [{"event_id": one.event_id, "why": one.why} for one in self.aside],
            "refused": [{"event_id": one.event_id, "why": one.why} for one in self.refused],
        }


def read(delivered: Delivered) -> Reading:
    """Read a delivery in the shape of its sender's kind."""
    reader, _ = _READERS[delivered.sender.kind]
    if not isinstance(delivered.body, Mapping) and delivered.sender.kind != "cloudevents":
        raise Problem(422, "The body must be a JSON object", errors=[{"pointer": "", "detail": "an object is needed"}])
    return reader(delivered.body, delivered.headers, delivered.raw)


async def take(app: App, delivered: Delivered) -> Taken:
    """Accept what a delivery tells, all of it in one go; a database that is away means that nothing was taken."""
    reading = read(delivered)
    found = [_signal_of(app, delivered, told) for told in reading[:EVENTS_MAX]]
    over = [Refused("", f"more than {EVENTS_MAX} in one request; send fewer") for _ in reading[EVENTS_MAX:]]
    taken = await accept(app, found)
    taken = replace(taken, refused=[*taken.refused, *over])
    app.parts.listeners.emit(
        "inbound.received",
        source=delivered.sender.name,
        accepted=sum(not receipt.duplicate for _, receipt in taken.receipts),
        duplicate=sum(receipt.duplicate for _, receipt in taken.receipts),
        aside=len(taken.aside),
        refused=len(taken.refused),
    )
    return taken


Readied = tuple[Signal, str | None] | Aside | Refused
"""A signal with the incident whose echo it is, or why there is none."""


async def accept(app: App, found: Sequence[Readied]) -> Taken:
    """Put signals through the one intake; they share its transaction."""
    signals = [one for one in found if isinstance(one, tuple)]
    receipts = await asyncio.gather(*(app.intake.accept(signal, echo_of=echo) for signal, echo in signals))
    return Taken(
        [(signal.event_id, receipt) for (signal, _), receipt in zip(signals, receipts, strict=True)],
        [one for one in found if isinstance(one, Aside)],
        [one for one in found if isinstance(one, Refused)],
    )


def _signal_of(app: App, delivered: Delivered, told: Told | Aside) -> Readied:
    if isinstance(told, Aside):
        return told
    sender = delivered.sender
    outcome = _outcome(sender, told)
    if outcome is None:
        return Aside(
            told.event_id, f"type {word(text_at(told.item, 'type'))!r} is neither in failures nor in successes"
        )
    service, why = _service(sender, told)
    if why:
        return Refused(told.event_id, why)
    facts = {**told.facts, **{name: found_at(told.item, place) for name, place in sender.fields.items()}}
    event_id = str(facts.pop("event_id", None) or told.event_id)
    return readied(
        app,
        replace(told, event_id=event_id, outcome=outcome, facts=facts),
        service,
        f"inbound:{sender.name}",
        delivered.headers,
    )


def readied(app: App, told: Told, service: str, source: str, headers: Mapping[str, str]) -> Readied:
    """Check what was told as an event of a service, and make it a signal."""
    facts = {name: value for name, value in told.facts.items() if name in _FACTS and value is not None}
    try:
        event = FailureEvent.model_validate(
            {**facts, "event_id": told.event_id, "service_name": service, "outcome": told.outcome}
        )
    except ValidationError as error:
        first = error.errors()[0]
        return Refused(told.event_id, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", pointer(first["loc"]))
    parts = app.parts
    signal = to_signal(event, parts.services.get(service), parts.ids, parts.clock, None)
    signal = replace(signal, source=source, about=told.about if told.outcome == "success" else "")
    if signal.failure is not None and told.about:
        signal = replace(signal, failure=replace(signal.failure, operation=told.about))
    return signal, echo_of(event, headers.get("x-prunella-recovery"))


def _outcome(sender: Sender, told: Told) -> str | None:
    """Return what the event means; None where its type is not among those that mean something."""
    if not (sender.failures or sender.successes):
        return told.outcome
    kind = text_at(told.item, "type")
    if _is_one_of(kind, sender.successes):
        return "success"
    return "failure" if _is_one_of(kind, sender.failures) else None


def _is_one_of(kind: str, names: Sequence[str]) -> bool:
    """Tell whether a type is named; a * at the end stands for any rest."""
    return any(kind == name or (name.endswith("*") and kind.startswith(name[:-1])) for name in names)


def _service(sender: Sender, told: Told) -> tuple[str, str]:
    """Return the service that is meant, or why it is none that this sender may speak of."""
    says = sender.kind in _IN_OUR_WORDS or "service_name" in sender.fields or sender.services != {sender.service}
    _, place = _READERS[sender.kind]
    place = sender.fields.get("service_name", place)
    named = text_at(told.item, place) if says else ""
    if not named and not sender.service:
        return "", f"names no service at {place}, and the sender has none of its own"
    if named and named not in sender.services:
        return "", f"{word(named)!r} is no service that this sender may speak of"
    return named or sender.service, ""
