"""What is learned: patterns of failures, known issues, and what became of remedies; what is counted of it all."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from prunella.store.columns import Json, Moment
from prunella.store.tables import SCHEMA

revision = "0006"
down_revision = "0005"

_APART = "forced OR source = 'guard'"
_TURNS = (
    "action IN ('gate.opened', 'gate.disabled', 'gate.disable', 'incident.escalated', 'incident.escalate', "
    "'incident.refuse', 'issue.escalated')"
)
_BY_PEOPLE = (
    "incident_id IS NOT NULL AND (action IN ('incident.escalated', 'incident.refuse') OR (actor NOT IN "
    "('prunella', 'advisor') AND action NOT IN ('incident.ack', 'notification.ack', 'notification.resent')))"
)


def upgrade() -> None:
    """Create the tables, and widen incidents."""
    _patterns()
    _known_issues()
    _evidence()
    _incidents()
    _counted()


def _must(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _patterns() -> None:
    op.create_table(
        "patterns",
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        _must("service", sa.Text()),
        _must("kind", sa.Text()),
        sa.Column("code", sa.Text()),
        _must("component", sa.Text()),
        _must("action", sa.Text()),
        _must("impact", sa.Text()),
        _must("environment", sa.Text()),
        _must("message", sa.Text()),
        _must("confidence", sa.Float()),
        _must("occurrences", sa.Integer()),
        _must("last_window", sa.BigInteger()),
        _must("first_seen", Moment()),
        _must("last_seen", Moment()),
        sa.Column("refused", sa.Text()),
        sa.Column("issue_id", sa.Text()),
    )
    op.create_index("patterns_by_age", "patterns", ["last_seen"])


def _known_issues() -> None:
    op.create_table(
        "known_issues",
        sa.Column("id", sa.Text(), primary_key=True),
        *(_must(name, sa.Text()) for name in ("title", "expression")),
        _must("ignore_case", sa.Boolean()),
        *(_must(name, sa.Text()) for name in ("state", "origin", "severity")),
        *(sa.Column(name, sa.Text()) for name in ("service", "kind", "code", "means")),
        *(_must(name, sa.Text()) for name in ("cause", "advice", "source")),
        _must("tags", Json()),
        _must("remedies", Json()),
        *(_must(name, sa.Integer()) for name in ("occurrences", "unfixed", "failed_fixes")),
        _must("last_window", sa.BigInteger()),
        *(sa.Column(name, Moment()) for name in ("first_seen", "last_seen")),
        _must("created_at", Moment()),
        _must("created_by", sa.Text()),
        *(sa.Column(name, Moment()) for name in ("resolved_at", "escalated_at")),
        *(sa.Column(name, sa.Text()) for name in ("resolved_by", "escalation_reason")),
        sa.Column("precision", sa.Float()),
        _must("tested", sa.Integer()),
        sa.Column("alias_of", sa.Text()),
        _must("version", sa.Integer()),
        _must("changed_at", Moment()),
    )
    op.create_index("known_issues_by_change", "known_issues", ["changed_at", "version", "id"])


def _evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("remedy", sa.Text(), primary_key=True),
        *(_must(name, sa.Integer()) for name in ("tried", "verified", "ineffective", "undone")),
        *(_must(name, sa.Float()) for name in ("good", "bad")),
        _must("failures_in_a_row", sa.Integer()),
        sa.Column("at", Moment()),
    )


def _incidents() -> None:
    schema = SCHEMA if op.get_bind().dialect.name == "postgresql" else None  # ALTER knows nothing of the translation
    for column in (
        sa.Column("issue_id", sa.Text()),
        sa.Column("decided", Json(), nullable=False, server_default="{}"),
        sa.Column("learned", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("watched_until", Moment()),
    ):
        op.add_column("incidents", column, schema=schema)
    incidents = sa.table("incidents", sa.column("learned"), sa.column("count"), schema=schema)
    op.execute(incidents.update().values(learned=incidents.c.count))  # what failed before is no news
    fresh = sa.text("count > learned")
    columns = ["procedure", "last_seen"]
    op.create_index("incidents_to_learn", "incidents", columns, sqlite_where=fresh, postgresql_where=fresh)
    watched = sa.text("watched_until IS NOT NULL")
    op.create_index("incidents_watched", "incidents", ["watched_until"], sqlite_where=watched, postgresql_where=watched)
    op.create_index("incidents_by_issue", "incidents", ["issue_id", "state"])


def _counted() -> None:
    """Let what is counted be found without reading a table whole."""
    for name, table, columns, condition in (
        ("signals_apart", "signals", ["received_at"], _APART),
        ("audit_of_turns", "audit", ["at"], _TURNS),
        ("audit_by_people", "audit", ["incident_id"], _BY_PEOPLE),
    ):
        only = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)
    op.create_index("runs_by_start", "runs", ["started_at"])
