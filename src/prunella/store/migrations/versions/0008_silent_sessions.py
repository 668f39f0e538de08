"""Credentials and secrets show themselves to no session that names nobody, whatever it is (PostgreSQL)."""

from alembic import op

from prunella.store import scope
from prunella.store.tables import SCHEMA

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Close what 0007 left open: a session that had never said anything saw every row."""
    if op.get_bind().dialect.name != "postgresql":
        return
    service, account = "quote_literal(service)", "quote_literal(account)"
    _replace("credentials", scope.ACCOUNT, service, f"{service} || {account}")
    _replace("secrets", scope.SECRET, "quote_literal(name)")


def _replace(table: str, setting: str, *names: str) -> None:
    """Let through what the setting names; NULL, a setting that was never made, names nothing."""
    condition = f"coalesce(current_setting('{setting}', true), '') IN ('{scope.ALL}', {', '.join(names)})"
    op.execute(f"ALTER POLICY named_only ON {SCHEMA}.{table} USING ({condition})")
