"""What people are told, in document B's words, and over which channels. Building only; `notify` delivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prunella.core.clock import Ids
from prunella.core.records import Failure, Gate, Incident, Notice, Notification, Severity


@dataclass(frozen=True, slots=True)
class Route:
    """Send notices of some severities to some channels, gathered for `digest_s` (0: at once)."""

    severities: frozenset[Severity]
    channels: tuple[str, ...]
    digest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Routes:
    """The notification rules, in their order; a notice goes once to each channel that some rule names."""

    routes: tuple[Route, ...] = ()

    def outgoing(self, notice: Notice, ids: Ids, now: datetime) -> list[Notification]:
        """Return the outbox rows for one notice."""
        due: dict[str, datetime] = {}
        for route in self.routes:
            if notice.severity in route.severities:
                for channel in route.channels:
                    due.setdefault(channel, _next_digest(now, route.digest_s))
        return [
            Notification(
                id=ids.new(),
                key=notice.key,
                channel=channel,
                kind=notice.kind,
                severity=notice.severity,
                title=notice.title,
                facts=notice.facts,
                incident_id=notice.incident_id,
                link=notice.link,
                next_at=at,
                created_at=now,
            )
            for channel, at in due.items()
        ]


def _next_digest(now: datetime, every_s: float) -> datetime:
    if every_s <= 0:
        return now
    seconds = now.timestamp()
    return datetime.fromtimestamp(seconds - seconds % every_s, UTC) + timedelta(seconds=every_s)


def detected(incident: Incident, failure: Failure, plan: str, event_id: str, link: str) -> Notice:
    """Say that something failed: once per incident."""
    key = f"detected:{incident.id}"
    return _failure_notice(incident, failure, plan, key, incident.severity, event_id, link)


def needs_person(incident: Incident, failure: Failure, why: str, link: str) -> Notice:
    """Say that the machine has done what it may: once per incident and reason."""
    key = f"person:{incident.id}:{incident.version}"
    return _failure_notice(incident, failure, why, key, Severity.HIGH, incident.id, link)


def attempt(incident: Incident, action: str, number: int, failure: Failure, link: str) -> Notice:
    """Say that a recovery begins: once per incident, not once per try."""
    return Notice(
        key=f"attempt:{incident.id}",
        kind="attempt",
        severity=Severity.LOW,
        title="Recovery Attempt",
        facts=(
            ("Service", incident.service),
            ("Action", action),
            ("Attempt", f"{number}/3"),
            ("Previous Error", failure.message or incident.title),
        ),
        incident_id=incident.id,
        link=link,
    )


def recovered(incident: Incident, resolution: str, failure: Failure, now: datetime, link: str) -> Notice:
    """Say that it is proven to be well again: once."""
    return Notice(
        key=f"recovered:{incident.id}",
        kind="recovered",
        severity=Severity.LOW,
        title="Integration Recovered",
        facts=(
            ("Service", incident.service),
            ("Resolution", resolution),
            ("Time to Recover", spell_duration((now - incident.first_seen).total_seconds())),
            ("Original Error", failure.message or incident.title),
        ),
        incident_id=incident.id,
        link=link,
    )


def disabled(gate: Gate, count: int, link: str) -> Notice:
    """Say that nothing more is sent to a service: once per disablement."""
    return Notice(
        key=f"disabled:{gate.service}:{gate.since.isoformat()}",
        kind="disabled",
        severity=Severity.HIGH,
        title="Integration Disabled",
        facts=(
            ("Service", gate.service),
            ("Reason", gate.reason or ""),
            ("Failure Count", str(count)),
            ("Action Required", "Manual review and re-enable"),
            ("Dashboard", link),
        ),
        link=link,
    )


def enabled(gate: Gate, by: str, link: str) -> Notice:
    """Say that a service is used again: once per disablement."""
    return Notice(
        key=f"enabled:{gate.service}:{gate.since.isoformat()}",
        kind="recovered",
        severity=Severity.LOW,
        title="Integration Recovered",
        facts=(("Service", gate.service), ("Resolution", f"enabled again by {by}")),
        link=link,
    )


def spell_duration(seconds: float) -> str:
    """Write a duration as people say it: 340 ms, 4.2 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def rows(notices: Sequence[Notice], routes: Routes, ids: Ids, now: datetime) -> list[Notification]:
    """Return the outbox rows for several notices."""
    return [row for notice in notices for row in routes.outgoing(notice, ids, now)]


def _failure_notice(
    incident: Incident, failure: Failure, plan: str, key: str, severity: Severity, event_id: str, link: str
) -> Notice:
    return Notice(
        key=key,
        kind="detected",
        severity=severity,
        title="Integration Failure Detected",
        facts=(
            ("Service", incident.service),
            ("Category", incident.category.value),
            ("Error", failure.message or incident.title),
            ("Recovery Plan", plan),
            ("Status", "pending"),
            ("Event ID", event_id),
            ("Timestamp", incident.last_seen.isoformat(timespec="seconds")),
        ),
        incident_id=incident.id,
        link=link,
    )
