"""Many workers: who is alive, so that what the dead held is taken over; the order and the rate of what waits."""

import sqlalchemy as sa
from alembic import op

from prunella.store.columns import Moment
from prunella.store.tables import SCHEMA

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
    _widen_lanes()
    op.add_column("credentials", sa.Column("refreshing_since", Moment()), schema=_schema())
    op.add_column("credentials", sa.Column("rotates", sa.Boolean()), schema=_schema())


def _schema() -> str | None:
    """Return what to name: ALTER knows nothing of the translation."""
    return SCHEMA if op.get_bind().dialect.name == "postgresql" else None


def _widen_lanes() -> None:
    """Widen operations and gates; index what waits by its turn and by its ordering key."""
    schema = _schema()
    key = sa.Column("ordering_key", sa.Text(), nullable=False, server_default="")
    op.add_column("operations", key, schema=schema)
    for column in (
        sa.Column("rate_per_s", sa.Float()),
        sa.Column("tokens", sa.Float(), nullable=False, server_default="0"),
        sa.Column("tokens_at", Moment()),
        sa.Column("rate_since", Moment()),
        sa.Column("rate_good", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("gates", column, schema=schema)
    op.create_index("operations_in_turn", "operations", ["incident_id", "state", "created_at", "id", "due_at"])
    waits, runs = "state IN ('waiting', 'running')", "state = 'running'"
    _index_keys("operations_by_key", ["service", "ordering_key", "created_at", "id"], waits)
    _index_keys("operations_running_by_key", ["service", "ordering_key"], runs)


def _index_keys(name: str, columns: list[str], state: str) -> None:
    ordered = sa.text(f"ordering_key <> '' AND {state}")
    op.create_index(name, "operations", columns, sqlite_where=ordered, postgresql_where=ordered)
