"""Advice: what an advisor was asked and answered, and what a day of it cost; shown as document B's llm_reasoning."""

import sqlalchemy as sa
from alembic import op

from prunella.store.columns import Json, Moment

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables of advice."""
    op.create_table(
        "advice",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("asked_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("prompt_hash", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("opinion", Json(), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("day", "fingerprint"),
    )
    op.create_table(
        "advice_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("silent_until", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("day"),
    )
