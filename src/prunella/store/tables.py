"""The tables, once, for both databases. Column names are the records' field names, so a row is a record.

On PostgreSQL they live in a schema of their own, `prunella`, because PostgREST exposes `public`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from prunella.store.columns import Json, Moment

SCHEMA = "prunella"


metadata = MetaData()


def _partial(name: str, *columns: str, only: str) -> Index:
    return Index(name, *columns, sqlite_where=text(only), postgresql_where=text(only))


def _must(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


APART = "forced OR source = 'guard'"
"""Signals that are counted apart: those that were forced, and what breakers of guards told."""

signals = Table(
    "signals",
    metadata,
    Column("id", Text, primary_key=True),
    _must("source", Text),
    _must("event_id", Text),
    _must("service", Text),
    _must("account", Text),
    _must("outcome", Text),
    Column("incident_id", Text),
    _must("occurred_at", Moment),
    _must("received_at", Moment),
    Column("category", Text),
    Column("kind", Text),
    Column("failure", Json),
    Column("payload_shape", Json),
    _must("forced", Boolean),
    UniqueConstraint("source", "event_id", name="signals_once"),
    Index("signals_by_incident", "incident_id", "received_at"),
    Index("signals_by_service", "service", "category", "received_at"),
    _partial("signals_apart", "received_at", only=APART),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    _must("service", Text),
    _must("account", Text),
    _must("fingerprint", Text),
    _must("signal_id", Text),
    _must("title", Text),
    _must("category", Text),
    _must("kind", Text),
    _must("confidence", Float),
    _must("because", Text),
    _must("advice", Text),
    _must("severity", Text),
    _must("level", Text),
    _must("state", Text),
    _must("version", Integer),
    _must("count", Integer),
    _must("attempts", Integer),
    _must("wave", Integer),
    _must("first_seen", Moment),
    _must("last_seen", Moment),
    Column("next_at", Moment),
    Column("held_reason", Text),
    _must("action_taken", Text),
    Column("acknowledged_by", Text),
    _must("regressed", Boolean),
    Column("previous_id", Text),
    _must("forced", Boolean),
    _must("refresh_failed", Boolean),
    Column("claimed_by", Text),
    Column("lease_until", Moment),
    Column("resolved_at", Moment),
    _must("procedure", Text, server_default=""),
    _must("resource", Text, server_default=""),
    _must("regressions", Integer, server_default="0"),
    _must("memory", Json, server_default="{}"),
    Column("issue_id", Text),
    _must("decided", Json, server_default="{}"),
    _must("learned", Integer, server_default="0"),
    Column("watched_until", Moment),
    Index(
        "incidents_one_open",
        "service",
        "account",
        "fingerprint",
        unique=True,
        sqlite_where=text("state <> 'resolved'"),
        postgresql_where=text("state <> 'resolved'"),
    ),
    Index("incidents_by_state", "state", "next_at"),
    Index("incidents_by_scope", "service", "account", "fingerprint", "resolved_at"),
    Index("incidents_by_first_seen", "first_seen", "id"),
    Index("incidents_by_resolved", "resolved_at", "first_seen"),
    Index("incidents_by_procedure", "procedure", "state", "first_seen"),
    Index("incidents_by_issue", "issue_id", "state"),
    _partial("incidents_to_learn", "procedure", "last_seen", only="count > learned"),
    _partial("incidents_watched", "watched_until", only="watched_until IS NOT NULL"),
    _partial("incidents_by_holder", "claimed_by", only="lease_until IS NOT NULL"),
)

_IN_ORDER = "ordering_key <> '' AND state IN ('waiting', 'running')"
_RUNNING = "ordering_key <> '' AND state = 'running'"

operations = Table(
    "operations",
    metadata,
    Column("id", Text, primary_key=True),
    _must("incident_id", Text),
    _must("signal_id", Text),
    _must("service", Text),
    _must("account", Text),
    _must("method", Text),
    _must("endpoint", Text),
    _must("payload_sealed", LargeBinary),
    _must("idempotency_key", Text, unique=True),
    _must("state", Text),
    _must("attempts", Integer),
    Column("due_at", Moment),
    Column("last_error", Text),
    Column("last_kind", Text),
    Column("token_version", Integer),
    _must("created_at", Moment),
    _must("ordering_key", Text, server_default=""),
    Index("operations_by_incident", "incident_id", "state", "due_at"),
    Index("operations_in_turn", "incident_id", "state", "created_at", "id", "due_at"),
    _partial("operations_by_key", "service", "ordering_key", "created_at", "id", only=_IN_ORDER),
    _partial("operations_running_by_key", "service", "ordering_key", only=_RUNNING),
    Index("operations_by_lane", "service", "state", "created_at"),
    Index("operations_by_signal", "signal_id"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    _must("incident_id", Text),
    Column("operation_id", Text),
    _must("service", Text),
    _must("procedure", Text),
    _must("remedy", Text),
    _must("state", Text),
    _must("attempt", Integer),
    _must("idempotency_key", Text),
    _must("worker", Text),
    _must("started_at", Moment),
    Column("ended_at", Moment),
    Column("status", Integer),
    _must("detail", Text),
    _must("resource", Text, server_default=""),
    _must("issue", Text, server_default=""),
    _must("touched", Integer, server_default="0"),
    Column("verified_at", Moment),
    Index("runs_by_incident", "incident_id", "started_at"),
    Index("runs_by_state", "state", "service"),
    Index("runs_by_procedure", "procedure", "started_at"),
    Index("runs_by_start", "started_at"),
    _partial("runs_of_procedures", "started_at", only="issue <> ''"),
)

gates = Table(
    "gates",
    metadata,
    Column("service", Text, primary_key=True),
    _must("state", Text),
    _must("version", Integer),
    Column("reason", Text),
    _must("changed_by", Text),
    _must("since", Moment),
    Column("reopen_at", Moment),
    Column("throttled_until", Moment),
    _must("counting_from", Moment),
    _must("failures", Integer),
    _must("successes", Integer),
    _must("openings", Integer),
    _must("auth", Integer),
    _must("data", Integer),
    _must("unknown", Integer),
    _must("recovery_fail_count", Integer),
    Column("last_recovery_at", Moment),
    _must("auto_recovery_enabled", Boolean),
    Column("down_since", Moment),
    Column("rate_per_s", Float),
    _must("tokens", Float, server_default="0"),
    Column("tokens_at", Moment),
    Column("rate_since", Moment),
    _must("rate_good", Integer, server_default="0"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("service", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    _must("access_sealed", LargeBinary),
    Column("refresh_sealed", LargeBinary),
    _must("version", Integer),
    Column("expires_at", Moment),
    Column("refreshed_at", Moment),
    Column("needs_person", Text),
    Column("refreshing_by", Text),
    Column("refreshing_until", Moment),
    Column("refreshing_since", Moment),
    Column("rotates", Boolean),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    _must("value_sealed", LargeBinary),
    _must("changed_at", Moment),
)

_UNSEEN = "acknowledged_at IS NULL"
_CLIMBS = "escalates_at IS NOT NULL AND acknowledged_at IS NULL"

notifications = Table(
    "notifications",
    metadata,
    Column("id", Text, primary_key=True),
    _must("key", Text),
    _must("channel", Text),
    _must("kind", Text),
    _must("severity", Text),
    _must("title", Text),
    _must("facts", Json),
    Column("incident_id", Text),
    Column("link", Text),
    _must("state", Text),
    _must("attempts", Integer),
    Column("next_at", Moment),
    Column("last_error", Text),
    _must("created_at", Moment),
    Column("sent_at", Moment),
    Column("resource", Text),
    Column("run_id", Text),
    Column("acknowledged_at", Moment),
    Column("acknowledged_by", Text),
    _must("tier", Integer, server_default="0"),
    Column("escalates_at", Moment),
    _must("tries", Json, server_default="[]"),
    UniqueConstraint("key", "channel", name="notifications_once"),
    Index("notifications_by_state", "channel", "state", "next_at"),
    Index("notifications_by_sent", "channel", "sent_at"),
    _partial("notifications_unseen", "channel", "created_at", only=_UNSEEN),
    _partial("notifications_to_escalate", "escalates_at", only=_CLIMBS),
)

channels = Table(
    "channels",
    metadata,
    Column("name", Text, primary_key=True),
    Column("succeeded_at", Moment),
    Column("failed_at", Moment),
    Column("failing_since", Moment),
    _must("failures", Integer),
    Column("last_error", Text),
    Column("silent_until", Moment),
)

heard = Table(
    "heard",
    metadata,
    Column("digest", Text, primary_key=True),
    _must("at", Moment),
)

TURNS = (
    "action IN ('gate.opened', 'gate.disabled', 'gate.disable', 'incident.escalated', 'incident.escalate', "
    "'incident.refuse', 'issue.escalated')"
)
"""Entries that are counted: gates that opened or were disabled, incidents and known issues that were left to people."""
BY_PEOPLE = (
    "incident_id IS NOT NULL AND (action IN ('incident.escalated', 'incident.refuse') OR (actor NOT IN "
    "('prunella', 'advisor') AND action NOT IN ('incident.ack', 'notification.ack', 'notification.resent')))"
)
"""Entries after which an incident is no machine's own work any more; whoever only looks on has not helped."""

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    _must("at", Moment),
    _must("actor", Text),
    _must("action", Text),
    _must("target", Text),
    Column("incident_id", Text),
    _must("reason", Text),
    _must("details", Json),
    Column("seal", Integer),
    Index("audit_by_incident", "incident_id", "id"),
    Index("audit_by_seal", "seal", "id"),
    Index("audit_by_target", "target", "id"),
    _partial("audit_of_turns", "at", only=TURNS),
    _partial("audit_by_people", "incident_id", only=BY_PEOPLE),
)

seals = Table(
    "seals",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _must("previous", Text),
    _must("content", Text),
    _must("digest", Text),
    _must("entries", Integer),
    _must("sealed_at", Moment),
    Column("forgotten_at", Moment),
)

procedures = Table(
    "procedures",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last_started_at", Moment),
    Column("last_ended_at", Moment),
    Column("lease_until", Moment),
    Column("claimed_by", Text),
    _must("runs", Integer),
    _must("failures", Integer),
    Column("last_result", Json),
    Column("paused_by", Text),
    Column("code", Text),
)

advice = Table(
    "advice",
    metadata,
    Column("day", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    _must("incident_id", Text),
    _must("asked_at", Moment),
    Column("ended_at", Moment),
    _must("prompt_hash", Text),
    _must("tokens", Integer),
    Column("opinion", Json),
    Column("trouble", Text),
)

advice_days = Table(
    "advice_days",
    metadata,
    Column("day", Text, primary_key=True),
    _must("calls", Integer),
    _must("tokens", Integer),
    _must("failures", Integer),
    Column("silent_until", Moment),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    _must("incident_id", Text),
    _must("procedure", Text),
    _must("plan", Json),
    _must("digest", Text),
    _must("state", Text),
    _must("created_at", Moment),
    _must("expires_at", Moment),
    _must("proposed_by", Text),
    Column("decided_at", Moment),
    Column("decided_by", Text),
    _must("reason", Text),
    Column("superseded_by", Text),
    Column("used_at", Moment),
    Index("approvals_by_procedure", "procedure", "state"),
    Index("approvals_by_state", "state", "created_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    _must("version", Text),
    _must("started_at", Moment),
    _must("seen_at", Moment),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    _must("name", Text),
    _must("role", Text),
    _must("digest", Text, unique=True),
    _must("created_at", Moment),
    _must("created_by", Text),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("revoked_by", Text),
    Column("used_at", Moment),
)

links = Table(
    "links",
    metadata,
    Column("digest", Text, primary_key=True),
    _must("name", Text),
    _must("role", Text),
    _must("expires_at", Moment),
    Column("used_at", Moment),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    _must("name", Text),
    _must("role", Text),
    _must("created_at", Moment),
    _must("seen_at", Moment),
    _must("expires_at", Moment),
    Column("key_id", Text),
)

answers = Table(
    "answers",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _must("request", Text),
    Column("status", Integer),
    Column("body", LargeBinary),
    _must("begun_at", Moment),
    Column("ended_at", Moment),
    Index("answers_by_age", "begun_at"),
)

switches = Table(
    "switches",
    metadata,
    Column("name", Text, primary_key=True),
    _must("by", Text),
    _must("reason", Text),
    _must("since", Moment),
)

daily_metrics = Table(
    "daily_metrics",
    metadata,
    Column("day", Text, primary_key=True),
    Column("procedure", Text, primary_key=True),
    Column("issue", Text, primary_key=True),
    Column("action", Text, primary_key=True),
    _must("detected", Integer),
    _must("succeeded", Integer),
    _must("failed", Integer),
    _must("manual", Integer),
    _must("notified", Integer),
    _must("recovery_s", Float),
)

patterns = Table(
    "patterns",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    _must("service", Text),
    _must("kind", Text),
    Column("code", Text),
    *(_must(name, Text) for name in ("component", "action", "impact", "environment", "message")),
    _must("confidence", Float),
    _must("occurrences", Integer),
    _must("last_window", BigInteger),
    _must("first_seen", Moment),
    _must("last_seen", Moment),
    Column("refused", Text),
    Column("issue_id", Text),
    Index("patterns_by_age", "last_seen"),
)

known_issues = Table(
    "known_issues",
    metadata,
    Column("id", Text, primary_key=True),
    _must("title", Text),
    _must("expression", Text),
    _must("ignore_case", Boolean),
    *(_must(name, Text) for name in ("state", "origin", "severity")),
    *(Column(name, Text) for name in ("service", "kind", "code", "means")),
    *(_must(name, Text) for name in ("cause", "advice", "source")),
    _must("tags", Json),
    _must("remedies", Json),
    _must("occurrences", Integer),
    _must("unfixed", Integer),
    _must("failed_fixes", Integer),
    _must("last_window", BigInteger),
    Column("first_seen", Moment),
    Column("last_seen", Moment),
    _must("created_at", Moment),
    _must("created_by", Text),
    Column("resolved_at", Moment),
    Column("resolved_by", Text),
    Column("escalated_at", Moment),
    Column("escalation_reason", Text),
    Column("precision", Float),
    _must("tested", Integer),
    Column("alias_of", Text),
    _must("version", Integer),
    _must("changed_at", Moment),
    Index("known_issues_by_change", "changed_at", "version", "id"),  # all that a look for changes reads
)

evidence = Table(
    "evidence",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("remedy", Text, primary_key=True),
    _must("tried", Integer),
    _must("verified", Integer),
    _must("ineffective", Integer),
    _must("undone", Integer),
    _must("good", Float),
    _must("bad", Float),
    _must("failures_in_a_row", Integer),
    Column("at", Moment),
)
