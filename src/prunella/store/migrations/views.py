"""The documents' names as views: the same facts, never a second table."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, inspect, text

from prunella.store.migrations import event_views, healing_views
from prunella.store.migrations.spelling import Spelling
from prunella.store.tables import SCHEMA

_BUILDERS: tuple[Callable[[Spelling], str], ...] = (
    event_views.system_integrity_events,
    event_views.integration_events,
    event_views.integrations,
    healing_views.healing_logs,
    healing_views.integration_logs,
    healing_views.admin_notifications,
    healing_views.healing_metrics,
    healing_views.healing_actions,
    healing_views.healing_statistics_view,
)
VIEWS = {build.__name__: build for build in _BUILDERS}
"""Name -> what writes its query, in an order in which each may stand on those before it."""


def drop_views(connection: Connection) -> None:
    """Drop every view, so that it can be created anew."""
    sql = _spelling(connection)
    there = set(inspect(connection).get_view_names(schema=SCHEMA if sql.postgres else None))
    for name in reversed(VIEWS):
        if name in there:
            connection.execute(text(f"DROP VIEW {sql.prefix}{name}"))


def create_views(connection: Connection) -> None:
    """Create every view; on PostgreSQL in our own schema, on SQLite where no table of the user has its name."""
    sql = _spelling(connection)
    taken = set() if sql.postgres else set(inspect(connection).get_table_names())
    for name, build in VIEWS.items():
        if name not in taken:
            query = build(sql).replace(":", "\\:")  # a colon names no parameter here
            connection.execute(text(f"CREATE VIEW {sql.prefix}{name} AS {query}"))


def _spelling(connection: Connection) -> Spelling:
    return Spelling(postgres=connection.dialect.name == "postgresql")
