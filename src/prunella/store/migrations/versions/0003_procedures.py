"""Procedures over users' databases: what found an incident, what a run touched, approvals, switches, daily figures."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from prunella.store.columns import Json, Moment
from prunella.store.tables import SCHEMA

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Widen incidents, runs, procedures, gates and notifications; create approvals, switches and daily_metrics."""
    _widen("incidents", [*_texts("procedure", "resource"), _number("regressions"), _json("memory")])
    _widen("runs", [*_texts("resource", "issue"), _number("touched"), sa.Column("verified_at", Moment())])
    _widen("procedures", [sa.Column("code", sa.Text())])
    _widen("gates", [sa.Column("down_since", Moment())])
    optional = [sa.Column(name, sa.Text()) for name in ("resource", "run_id", "acknowledged_by")]
    _widen("notifications", [*optional, sa.Column("acknowledged_at", Moment())])
    op.create_index("incidents_by_procedure", "incidents", ["procedure", "state", "first_seen"])
    op.create_index("runs_by_procedure", "runs", ["procedure", "started_at"])
    of_procedures = sa.text("issue <> ''")
    op.create_index(
        "runs_of_procedures", "runs", ["started_at"], sqlite_where=of_procedures, postgresql_where=of_procedures
    )
    _create_approvals()
    _create_daily_metrics()
    op.create_table(
        "switches",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
    )


def _create_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("incident_id", "procedure")),
        sa.Column("plan", Json(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("digest", "state")),
        *(sa.Column(name, Moment(), nullable=False) for name in ("created_at", "expires_at")),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("decided_at", Moment()),
        sa.Column("decided_by", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("superseded_by", sa.Text()),
        sa.Column("used_at", Moment()),
    )
    op.create_index("approvals_by_procedure", "approvals", ["procedure", "state"])
    op.create_index("approvals_by_state", "approvals", ["state", "created_at"])


def _create_daily_metrics() -> None:
    op.create_table(
        "daily_metrics",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("day", "procedure", "issue", "action")),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("detected", "succeeded", "failed", "manual", "notified")
        ),
        sa.Column("recovery_s", sa.Float(), nullable=False),
    )


def _widen(table: str, columns: list[sa.Column[Any]]) -> None:
    schema = SCHEMA if op.get_bind().dialect.name == "postgresql" else None  # ALTER knows nothing of the translation
    for column in columns:
        op.add_column(table, column, schema=schema)


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text(), nullable=False, server_default="") for name in names]


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json(), nullable=False, server_default="{}")
