"""Credentials and secrets show themselves only to a transaction that names them (PostgreSQL)."""

from alembic import op

from prunella.store import scope
from prunella.store.tables import SCHEMA

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add a second condition to that of the owner: both must hold."""
    if op.get_bind().dialect.name != "postgresql":
        return
    service, account = "quote_literal(service)", "quote_literal(account)"
    op.execute(_policy("credentials", scope.ACCOUNT, service, f"{service} || {account}"))
    op.execute(_policy("secrets", scope.SECRET, "quote_literal(name)"))


def _policy(table: str, setting: str, *names: str) -> str:
    """Let through what the setting names; NULL is a session of a version that names nothing, while both run."""
    named = f"current_setting('{setting}', true)"
    condition = f"{named} IS NULL OR {named} IN ('{scope.ALL}', {', '.join(names)})"
    return f"CREATE POLICY named_only ON {SCHEMA}.{table} AS RESTRICTIVE USING ({condition})"
