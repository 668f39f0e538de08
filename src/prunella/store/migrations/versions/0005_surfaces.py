"""What people touch: who may come in, which answers were given, how far messages came, and seals over the audit."""

import sqlalchemy as sa
from alembic import op

from prunella.store.columns import Json, Moment
from prunella.store.migrations import append_only
from prunella.store.tables import SCHEMA

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create keys, links, sessions, answers, seals and channels; widen notifications and audit."""
    _create_entrances()
    op.create_table(
        "answers",
        sa.Column("caller", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("begun_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment()),
    )
    op.create_index("answers_by_age", "answers", ["begun_at"])
    op.create_table(
        "seals",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("sealed_at", Moment(), nullable=False),
        sa.Column("forgotten_at", Moment()),
    )
    _create_messages()
    _widen()
    append_only.install(op.get_bind())


def _create_messages() -> None:
    op.create_table(
        "channels",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("succeeded_at", Moment()),
        sa.Column("failed_at", Moment()),
        sa.Column("failing_since", Moment()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("silent_until", Moment()),
    )
    op.create_table(
        "heard",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("at", Moment(), nullable=False),
    )


def _create_entrances() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, unique=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment()),
        sa.Column("revoked_at", Moment()),
        sa.Column("revoked_by", sa.Text()),
        sa.Column("used_at", Moment()),
    )
    op.create_table(
        "links",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("used_at", Moment()),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("key_id", sa.Text()),
    )


def _widen() -> None:
    """Widen what is there already."""
    schema = SCHEMA if op.get_bind().dialect.name == "postgresql" else None  # ALTER knows nothing of the translation
    for column in (
        sa.Column("tier", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("escalates_at", Moment()),
        sa.Column("tries", Json(), nullable=False, server_default="[]"),
    ):
        op.add_column("notifications", column, schema=schema)
    climbs = sa.text("escalates_at IS NOT NULL AND acknowledged_at IS NULL")
    op.create_index(
        "notifications_to_escalate",
        "notifications",
        ["escalates_at"],
        sqlite_where=climbs,
        postgresql_where=climbs,
    )
    unseen = sa.text("acknowledged_at IS NULL")
    op.create_index(
        "notifications_unseen",
        "notifications",
        ["channel", "created_at"],
        sqlite_where=unseen,
        postgresql_where=unseen,
    )
    op.create_index("incidents_by_resolved", "incidents", ["resolved_at", "first_seen"])
    op.add_column("audit", sa.Column("seal", sa.Integer()), schema=schema)
    op.create_index("audit_by_seal", "audit", ["seal", "id"])
    op.create_index("audit_by_target", "audit", ["target", "id"])
