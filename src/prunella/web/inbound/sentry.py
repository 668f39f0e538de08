"""Sentry's webhooks: errors, issues, and alerts of both kinds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from prunella.web.inbound.told import Aside, Reading, Told, event_id_of, found_at, lines, text_at, word

SERVICE_AT = "project.slug"
_BROKEN = frozenset({"created", "unresolved", "triggered"})
_METRIC_BROKEN = frozenset({"critical", "warning"})


def read(body: Mapping[str, Any], headers: Mapping[str, str], raw: bytes) -> Reading:
    """Read one delivery; what people do with an issue (assign, archive, comment) means nothing here.

    The signature covers the body and no header, so ids are made of the body alone.
    """
    resource, action = _resource(body, headers), text_at(body, "action")
    once = hashlib.sha256(raw).hexdigest()[:32]
    readers = {"error": _error, "event_alert": _event, "issue": _issue, "metric_alert": _metric}
    told = readers[resource](body, action, once) if resource in readers else None
    return [told or Aside(event_id_of(resource, once), f"{word(resource) or 'this'} {word(action)} is no failure")]


def _resource(body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Return what it is about: the header names it, but only the body is signed, and it has to agree."""
    places = {"error": "data.error", "event_alert": "data.event", "issue": "data.issue"}
    named = headers.get("sentry-hook-resource", "")
    if named in places and not isinstance(found_at(body, places[named]), Mapping):
        return ""
    return named


def _error(body: Mapping[str, Any], action: str, once: str) -> Told | None:
    return _of_event(found_at(body, "data.error")) if action == "created" else None


def _event(body: Mapping[str, Any], action: str, once: str) -> Told | None:
    return _of_event(found_at(body, "data.event")) if action == "triggered" else None


def _of_event(event: Mapping[str, Any]) -> Told:
    """Read an event; an error and the alert that it triggers have one id, so it counts once."""
    issue = text_at(event, "issue_id") or text_at(event, "groupID")
    kind, value = _exception(event)
    facts = {
        "error_code": word(kind) or None,
        "error_message": lines(text_at(event, "title"), value, text_at(event, "message"), text_at(event, "culprit")),
        "occurred_at": text_at(event, "datetime") or None,
    }
    about = f"issue {word(issue)}" if issue else ""
    return Told(event_id=event_id_of("event", text_at(event, "event_id")), about=about, item=event, facts=facts)


def _exception(event: Mapping[str, Any]) -> tuple[str, str]:
    """Return class and text of the exception that was raised last."""
    values = found_at(event, "exception.values")
    last = values[-1] if isinstance(values, list) and values else {}
    return (
        text_at(last, "type") or text_at(event, "metadata.type"),
        text_at(last, "value") or text_at(event, "metadata.value"),
    )


def _issue(body: Mapping[str, Any], action: str, once: str) -> Told | None:
    issue = found_at(body, "data.issue")
    number = text_at(issue, "id")
    event_id, about = event_id_of("issue", number, action, once), f"issue {word(number)}"
    if action == "resolved":
        return Told(event_id=event_id, outcome="success", about=about, item=issue)
    if action not in _BROKEN:
        return None
    facts = {
        "error_code": word(text_at(issue, "metadata.type")) or None,
        "error_message": lines(text_at(issue, "title"), text_at(issue, "metadata.value"), text_at(issue, "culprit")),
        "occurred_at": text_at(issue, "lastSeen") or None,
    }
    return Told(event_id=event_id, about=about, item=issue, facts=facts)


def _metric(body: Mapping[str, Any], action: str, once: str) -> Told | None:
    alert = found_at(body, "data.metric_alert")
    number = text_at(alert, "id") or text_at(alert, "identifier")
    event_id, about = event_id_of("metric", number, action, once), f"metric alert {word(number)}"
    if not isinstance(alert, Mapping) or action not in {*_METRIC_BROKEN, "resolved"}:
        return None
    if action == "resolved":
        return Told(event_id=event_id, outcome="success", about=about, item=alert)
    words = lines(text_at(body, "data.description_title"), text_at(body, "data.description_text"))
    facts = {"error_code": word(text_at(alert, "title")) or None, "error_message": words}
    return Told(event_id=event_id, about=about, item=alert, facts=facts)
