"""Many workers: who is alive, so that what the dead held is taken over."""

import sqlalchemy as sa
from alembic import op

from prunella.store.tables import Moment

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create workers, and find what one of them holds without reading every incident."""
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
    )
    held = sa.text("lease_until IS NOT NULL")
    op.create_index("incidents_by_holder", "incidents", ["claimed_by"], sqlite_where=held, postgresql_where=held)
