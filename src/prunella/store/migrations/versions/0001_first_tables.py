"""The first tables: signals, incidents, operations, runs, gates, credentials, notifications, audit, procedures."""

import sqlalchemy as sa
from alembic import op

from prunella.store.columns import Json, Moment

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, and close the credentials to everybody but their owner."""
    _tables()
    if op.get_bind().dialect.name == "postgresql":
        _protect("credentials", "secrets")


def _protect(*tables: str) -> None:
    """Let only the role that owns the tables read or write them, whatever else is granted later."""
    owner = "(SELECT tableowner FROM pg_tables WHERE schemaname = 'prunella' AND tablename = '{table}')"
    for table in tables:
        op.execute(f"ALTER TABLE prunella.{table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE prunella.{table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY owner_only ON prunella.{table} "
            f"USING (current_user = {owner.format(table=table)}) "
            f"WITH CHECK (current_user = {owner.format(table=table)})"
        )
        op.execute(f"REVOKE ALL ON prunella.{table} FROM PUBLIC")


def _tables() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_by_incident", "audit", ["incident_id", "id"], unique=False)
    op.create_table(
        "credentials",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("access_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("refresh_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("refreshed_at", Moment(), nullable=True),
        sa.Column("needs_person", sa.Text(), nullable=True),
        sa.Column("refreshing_by", sa.Text(), nullable=True),
        sa.Column("refreshing_until", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("service", "account"),
    )
    op.create_table(
        "gates",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("reopen_at", Moment(), nullable=True),
        sa.Column("throttled_until", Moment(), nullable=True),
        sa.Column("counting_from", Moment(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Integer(), nullable=False),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("auth", sa.Integer(), nullable=False),
        sa.Column("data", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("recovery_fail_count", sa.Integer(), nullable=False),
        sa.Column("last_recovery_at", Moment(), nullable=True),
        sa.Column("auto_recovery_enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("service"),
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("signal_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("first_seen", Moment(), nullable=False),
        sa.Column("last_seen", Moment(), nullable=False),
        sa.Column("next_at", Moment(), nullable=True),
        sa.Column("held_reason", sa.Text(), nullable=True),
        sa.Column("action_taken", sa.Text(), nullable=False),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("regressed", sa.Boolean(), nullable=False),
        sa.Column("previous_id", sa.Text(), nullable=True),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("refresh_failed", sa.Boolean(), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("lease_until", Moment(), nullable=True),
        sa.Column("resolved_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("incidents_by_first_seen", "incidents", ["first_seen", "id"], unique=False)
    op.create_index(
        "incidents_by_scope", "incidents", ["service", "account", "fingerprint", "resolved_at"], unique=False
    )
    op.create_index("incidents_by_state", "incidents", ["state", "next_at"], unique=False)
    op.create_index(
        "incidents_one_open",
        "incidents",
        ["service", "account", "fingerprint"],
        unique=True,
        sqlite_where=sa.text("state <> 'resolved'"),
        postgresql_where=sa.text("state <> 'resolved'"),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("facts", Json(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=True),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", Moment(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("sent_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", "channel", name="notifications_once"),
    )
    op.create_index("notifications_by_state", "notifications", ["channel", "state", "next_at"], unique=False)
    op.create_index("notifications_by_sent", "notifications", ["channel", "sent_at"], unique=False)
    op.create_table(
        "operations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("signal_id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("payload_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Moment(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_kind", sa.Text(), nullable=True),
        sa.Column("token_version", sa.Integer(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key"),
    )
    op.create_index("operations_by_incident", "operations", ["incident_id", "state", "due_at"], unique=False)
    op.create_index("operations_by_lane", "operations", ["service", "state", "created_at"], unique=False)
    op.create_index("operations_by_signal", "operations", ["signal_id"], unique=False)
    op.create_table(
        "procedures",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_started_at", Moment(), nullable=True),
        sa.Column("last_ended_at", Moment(), nullable=True),
        sa.Column("lease_until", Moment(), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_result", Json(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.Text(), nullable=True),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("procedure", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("runs_by_incident", "runs", ["incident_id", "started_at"], unique=False)
    op.create_index("runs_by_state", "runs", ["state", "service"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "signals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=True),
        sa.Column("occurred_at", Moment(), nullable=False),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("failure", Json(), nullable=True),
        sa.Column("payload_shape", Json(), nullable=True),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "event_id", name="signals_once"),
    )
    op.create_index("signals_by_incident", "signals", ["incident_id", "received_at"], unique=False)
    op.create_index("signals_by_service", "signals", ["service", "category", "received_at"], unique=False)
