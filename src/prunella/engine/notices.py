"""What people are told, in document B's words, and over which channels. Building only; `notify` delivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from prunella.core.clock import Ids
from prunella.core.procedures import Procedure
from prunella.core.records import Approval, Failure, Gate, Incident, Notice, Notification, Run, Severity
from prunella.engine.quiet import Quiet

DASHBOARD = "dashboard"
"""The channel that is always there: what a person should know stands on it from the moment it is said."""
_LOUD = frozenset({Severity.HIGH, Severity.CRITICAL})


@dataclass(frozen=True, slots=True)
class Tier:
    """Who is told next when nobody has acknowledged for `after_s`, counted from the tier before."""

    after_s: float
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Send notices of some severities to some channels, gathered for `digest_s` (0: at once).

    Args:
        tiers: who is told, one after the other, while nobody acknowledges.
        fallback: the channel that stands in for one of these that fails; None: as the channel itself says.
    """

    severities: frozenset[Severity]
    channels: tuple[str, ...]
    digest_s: float = 0.0
    tiers: tuple[Tier, ...] = ()
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """The notification rules, in their order; a notice goes once to each channel that some rule names.

    Args:
        quiet: when nobody is to be woken.
        fallbacks: channel -> the one that stands in when it fails.
    """

    routes: tuple[Route, ...] = ()
    quiet: Quiet | None = None
    fallbacks: Mapping[str, str] = field(default_factory=dict)

    def outgoing(self, notice: Notice, ids: Ids, now: datetime) -> list[Notification]:
        """Return the outbox rows for one notice; one that a person has to see is on the dashboard at once."""
        due: dict[str, datetime] = {}
        for route in self.routes:
            if notice.severity in route.severities:
                for channel in route.channels:
                    due.setdefault(channel, self.after(notice.severity, _next_digest(now, route.digest_s)))
        sent = [_row(notice, channel, ids, now, next_at=at) for channel, at in due.items()]
        tiers = self.tiers(notice.severity)
        if notice.resource is not None or notice.severity in _LOUD or tiers:
            shown = replace(_row(notice, DASHBOARD, ids, now, next_at=None), state="sent", sent_at=now)
            told_at = min(due.values(), default=now)  # who was not told yet can't have answered
            climbs = told_at + timedelta(seconds=tiers[0].after_s) if tiers else None
            sent.append(replace(shown, escalates_at=climbs))
        return sent

    def after(self, severity: Severity, moment: datetime) -> datetime:
        """Return when something that is due at `moment` may be sent."""
        return moment if self.quiet is None else self.quiet.after(severity, moment)

    def tiers(self, severity: Severity) -> tuple[Tier, ...]:
        """Return who is told one after the other: what the first rule says that fits and escalates."""
        return next((route.tiers for route in self.routes if severity in route.severities and route.tiers), ())

    def fallback(self, channel: str, severity: Severity) -> str | None:
        """Return the channel that stands in for one that fails: as the rule says, or else the channel."""
        by_rule = (
            route.fallback
            for route in self.routes
            if severity in route.severities and channel in route.channels and route.fallback not in (None, channel)
        )
        return next(by_rule, None) or self.fallbacks.get(channel)

    def escalated(self, told: Notification, ids: Ids, now: datetime) -> list[Notification]:
        """Return the rows for the tier after `told.tier`; none where there is no such tier."""
        tiers = self.tiers(told.severity)
        if told.tier >= len(tiers):
            return []
        waited = spell_duration((now - told.created_at).total_seconds())
        step = f"tier {told.tier + 1} of {len(tiers)}: nobody acknowledged for {waited}"
        fresh = replace(
            told,
            key=tier_key(told.key, told.tier + 1),
            facts=(*told.facts, ("Escalated", step)),
            state="waiting",
            next_at=self.after(told.severity, now),
            created_at=now,
            sent_at=None,
            tier=told.tier + 1,
            escalates_at=None,
        )
        return [replace(fresh, id=ids.new(), channel=one) for one in tiers[told.tier].channels]


def tier_key(key: str, tier: int) -> str:
    """Return under which key a notice is told to a later tier, where it may come to a channel once more."""
    return f"{key}#{tier}" if tier else key


def _row(notice: Notice, channel: str, ids: Ids, now: datetime, *, next_at: datetime | None) -> Notification:
    return Notification(
        id=ids.new(),
        key=notice.key,
        channel=channel,
        kind=notice.kind,
        severity=notice.severity,
        title=notice.title,
        facts=notice.facts,
        incident_id=notice.incident_id,
        link=notice.link,
        resource=notice.resource,
        run_id=notice.run_id,
        next_at=next_at,
        created_at=now,
    )


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


def enabled(gate: Gate, by: str, now: datetime, link: str) -> Notice:
    """Say that a service is used again: once per disablement.

    Args:
        gate: as it was disabled.
    """
    return Notice(
        key=f"enabled:{gate.service}:{gate.since.isoformat()}",
        kind="recovered",
        severity=Severity.LOW,
        title="Integration Recovered",
        facts=(
            ("Service", gate.service),
            ("Resolution", f"enabled again by {by}"),
            ("Time to Recover", spell_duration((now - gate.since).total_seconds())),
            ("Original Error", gate.reason or "unknown"),
        ),
        link=link,
    )


def still_down(
    service: str,
    detail: str,
    since: datetime,
    now: datetime,
    status_page: str | None,
    next_at: datetime,
    link: str,
) -> Notice:
    """Say that a service does not answer its health check (document A): at most once an hour."""
    return Notice(
        key=f"still_down:{service}:{since.isoformat()}:{int((now - since).total_seconds() // 3600)}",
        kind="SERVICE_STILL_DOWN",
        severity=Severity.HIGH,
        title=f"{service} is down",
        facts=(
            ("Service", service),
            ("Error", detail),
            ("Down Since", since.isoformat(timespec="seconds")),
            ("Status Page", status_page or "none is configured"),
            ("Next Check", next_at.isoformat(timespec="seconds")),
        ),
        link=link,
    )


def back(service: str, downtime: str, since: datetime, link: str) -> Notice:
    """Say that a service answers again, and how long it did not: once per outage."""
    return Notice(
        key=f"back:{service}:{since.isoformat()}",
        kind="recovered",
        severity=Severity.LOW,
        title="Integration Recovered",
        facts=(("Service", service), ("Resolution", "the health check passes again"), ("Downtime", downtime)),
        link=link,
    )


def spell_duration(seconds: float) -> str:
    """Write a duration as people say it: 340 ms, 4.2 s, 3 min, 3 min 5 s, 2 h 10 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


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


def _of_procedure(
    name: str,
    incident: Incident,
    kind: str,
    severity: Severity,
    title: str,
    facts: Sequence[tuple[str, str]],
    link: str,
    run_id: str | None = None,
) -> Notice:
    """Say something about one thing that a procedure looks after: once per incident and kind."""
    return Notice(
        key=f"{kind}:{incident.id}",
        kind=kind,
        severity=severity,
        title=title,
        facts=(("Procedure", name), ("Resource", incident.resource or incident.service), *facts),
        incident_id=incident.id,
        link=link,
        resource=incident.resource,
        run_id=run_id,
    )


def manual_intervention(policy: Procedure, incident: Incident, why: str, history: Sequence[Run], link: str) -> Notice:
    """Hand a thing over to a person, with all that was tried (document D)."""
    title = f"{incident.resource} needs a person"
    return _of_procedure(
        policy.id,
        incident,
        "MANUAL_INTERVENTION_REQUIRED",
        Severity.HIGH,
        title,
        (
            ("Issue", _issue(policy, incident, history)),
            ("Problem", incident.because),
            ("Why", why),
            ("Attempts", str(len(history))),
            ("History", _history(history)),
            ("Recommended", _advice(incident, history)),
        ),
        link,
        history[-1].id if history else None,
    )


def healing_failed(policy: Procedure, incident: Incident, why: str, history: Sequence[Run], link: str) -> Notice:
    """Say that the remedy that comes last has failed, too (document D)."""
    last = history[-1].remedy if history else "the last remedy"
    return _of_procedure(
        policy.id,
        incident,
        "HEALING_FAILED",
        Severity.HIGH,
        f"{incident.resource}: {last} failed",
        (
            ("Issue", _issue(policy, incident, history)),
            ("Problem", incident.because),
            ("Action", last),
            ("Attempts", str(len(history))),
            ("Error", why),
            ("History", _history(history)),
        ),
        link,
        history[-1].id if history else None,
    )


def healed(policy: Procedure, incident: Incident, run: Run | None, link: str) -> Notice:
    """Say once that something was healed (level L1), or that what a person was asked about is well again."""
    facts = [("Problem", incident.because), ("Resolution", incident.action_taken)]
    facts += [("Rows", str(run.touched)), ("Run", run.id)] if run is not None and run.touched else []
    title = f"{policy.id} healed {incident.resource}" if run is not None else f"{incident.resource} is well again"
    return _of_procedure(
        policy.id, incident, "healed", Severity.LOW, title, facts, link, run.id if run is not None else None
    )


def approval_required(name: str, incident: Incident, approval: Approval, link: str) -> Notice:
    """Ask a person for an answer to a plan; once per plan."""
    told = _of_procedure(
        name,
        incident,
        "APPROVAL_REQUIRED",
        Severity.MEDIUM,
        f"{name} asks for approval",
        (
            ("Plan", str(approval.plan.get("words", ""))),
            ("Targets", str(approval.plan.get("count", ""))),
            ("Digest", approval.digest),
            ("Answer", f"prunella approve {approval.id}"),
            ("Expires", approval.expires_at.isoformat(timespec="minutes")),
        ),
        link,
    )
    return replace(told, key=key_of_approval(approval.id))


def key_of_approval(approval_id: str) -> str:
    """Return the key of the notice that asks for an answer to a plan."""
    return f"APPROVAL_REQUIRED:{approval_id}"


def approval_expired(name: str, incident: Incident, approval: Approval, link: str) -> Notice:
    """Pass a plan that nobody answered on to the next tier."""
    facts = (("Plan", str(approval.plan.get("words", ""))), ("Approval", approval.id))
    title = f"{name}: nobody answered the plan in time"
    told = _of_procedure(name, incident, "APPROVAL_EXPIRED", Severity.HIGH, title, facts, link)
    return replace(told, key=f"APPROVAL_EXPIRED:{approval.id}")


def held(policy: Procedure, incident: Incident, why: str, link: str) -> Notice:
    """Say that a guard holds a run that would go too far: once per incident."""
    title = f"{policy.id} is held"
    return _of_procedure(policy.id, incident, "HELD", Severity.HIGH, title, (("Why", why),), link)


def still_high(policy: Procedure, incident: Incident, message: str, link: str) -> Notice:
    """Say that connections run out even after idle ones were ended (document A)."""
    facts = (("Problem", message), ("Suggestion", "reduce concurrent operations, or raise max_connections"))
    title = "Connections are running out"
    return _of_procedure(policy.id, incident, "CONNECTION_POOL_HIGH", Severity.HIGH, title, facts, link)


def system_alert(why: str, facts: Sequence[tuple[str, str]], now: datetime, link: str) -> Notice:
    """Say that the healing itself does badly (document D): at most once an hour."""
    return Notice(
        key=f"SYSTEM_ALERT:{now:%Y-%m-%dT%H}",
        kind="SYSTEM_ALERT",
        severity=Severity.CRITICAL,
        title="Healing fails too often",
        facts=(("Alert", "Healing Failure Rate"), ("Why", why), *facts),
        link=link,
    )


def _issue(policy: Procedure, incident: Incident, runs: Sequence[Run]) -> str:
    return (runs[-1].issue if runs else "") or str(incident.memory.get("issue", policy.id))


def _history(runs: Sequence[Run]) -> str:
    tried = [f"{run.started_at:%H:%M} {run.remedy} {run.state.value}: {run.detail}" for run in runs]
    return "; ".join(tried)[-1500:] or "nothing was tried"


def _advice(incident: Incident, runs: Sequence[Run]) -> str:
    last = f"; the last error: {runs[-1].detail}" if runs and runs[-1].detail else ""
    return f"look at it, put it right by hand, then: prunella retry {incident.id}{last}"
