"""Alertmanager's webhook (version 4) and Grafana's, which grew out of it: a group of alerts, firing or resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunella.web.inbound.told import Aside, Reading, Told, event_id_of, lines, objects, text_at, word

SERVICE_AT = "labels.service"


def read(body: Mapping[str, Any], headers: Mapping[str, str], raw: bytes) -> Reading:
    """Read each alert of a group: one that fires is a failure, one that is resolved a success of that alert alone.

    The id is made of the alert's fingerprint and the moment it began, so that what is repeated every few hours, and
    what is delivered twice, counts once.
    """
    return [_alert(one) for one in objects(body.get("alerts"))] or [Aside("", "holds no alerts")]


def _alert(alert: Mapping[str, Any]) -> Told | Aside:
    status, print_ = text_at(alert, "status"), text_at(alert, "fingerprint")
    name = text_at(alert, "labels.alertname") or "alert"
    began = text_at(alert, "startsAt")
    if not print_:
        labels = alert.get("labels")
        print_ = event_id_of("labels", sorted(labels.items()) if isinstance(labels, Mapping) else labels)
    event_id = event_id_of(print_, began, status)
    if status not in ("firing", "resolved"):
        return Aside(event_id, f"its status is neither firing nor resolved: {word(status)!r}")
    about = f"alert {print_}"
    if status == "resolved":  # it ended at endsAt; that we hear of it now is what proves something
        return Told(event_id=event_id, outcome="success", about=about, item=alert)
    facts = {
        "error_code": word(name),
        "error_message": lines(
            text_at(alert, "annotations.summary"),
            text_at(alert, "annotations.description"),
            text_at(alert, "annotations.message"),
            text_at(alert, "valueString"),
        )
        or name,
        "occurred_at": began or None,
    }
    return Told(event_id=event_id, about=about, item=alert, facts=facts)
