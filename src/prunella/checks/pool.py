"""More of the server's connections are in use than should be (HEAL_CONN_002); every client counts, not only ours."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from prunella.core.errors import ConfigError
from prunella.core.findings import Finding, Sighting
from prunella.core.procedures import PoolCheck
from prunella.databases.handle import Database

KEY = "connections"
_POSTGRESQL = text(
    """
    SELECT count(*) AS used, count(*) FILTER (WHERE state = 'active') AS active,
      count(*) FILTER (WHERE state = 'idle') AS idle,
      count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction,
      current_setting('max_connections')::int AS max
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL)
    """
)  # without pg_monitor the sort and the state of others' connections read NULL; that they are there does not
_MYSQL = text(
    """
    SELECT count(*) AS used, count(CASE WHEN command <> 'Sleep' THEN 1 END) AS active,
      count(CASE WHEN command = 'Sleep' THEN 1 END) AS idle, 0 AS idle_in_transaction, @@max_connections AS max
    FROM information_schema.processlist
    """
)


class Pool:
    """Find a server of whose connections a larger share than `above` is in use.

    Raises:
        ConfigError: the database is a file and has no connections to run out of.
    """

    def __init__(self, database: Database, spec: PoolCheck, *, cap: int = 500) -> None:
        if database.kind == "sqlite":
            raise ConfigError(
                [f"database {database.name}: SQLite is a file and has no connections to count; check a server"]
            )
        self._database = database
        self._spec = spec

    async def look(self, only: str | None = None) -> Sighting:
        return await self._database.reading(lambda connection: self._look(connection, only))

    def _look(self, connection: Connection, only: str | None) -> Sighting:
        counts: Any = connection.execute(_MYSQL if self._database.kind == "mysql" else _POSTGRESQL).mappings().one()
        facts = {name: int(value) for name, value in counts.items()}
        at, share = self._database.now(connection), facts["used"] / facts["max"]
        if share <= self._spec.above or only not in (None, KEY):
            return Sighting(at=at)
        finding = Finding(
            key=KEY,
            issue="POOL_HIGH",
            message=f"{facts['used']} of {facts['max']} connections are in use ({share:.0%}), {facts['idle']} of them "
            f"idle; that is more than {self._spec.above:.0%}",
            kind="resource",
            facts={**facts, "share": round(share, 4)},
        )
        return Sighting(findings=(finding,), at=at)
