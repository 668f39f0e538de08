"""End connections of PostgreSQL that only occupy a place (HEAL_CONN_002).

Never one in a transaction, one that listens or holds a lock of its session, one of prunella's, or of another database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from prunella.core.errors import DatabaseRefused, DatabaseUnavailable
from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.core.procedures import EndIdleRemedy
from prunella.core.records import Failure
from prunella.databases.handle import Database
from prunella.remedies.contract import Assignment, Preview, Undone

_IDLE = """
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.state = 'idle'
  AND a.state_change < clock_timestamp() - make_interval(secs => :idle_for_s)
  AND a.pid <> pg_backend_pid() AND a.application_name <> current_setting('application_name')
  AND a.query !~* '^[[:space:]]*listen[[:space:]]'
  AND NOT EXISTS (SELECT 1 FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory')
  AND (pg_has_role(a.usesysid, 'MEMBER') OR pg_has_role('pg_signal_backend', 'MEMBER'))
  AND (NOT (SELECT rolsuper FROM pg_roles WHERE oid = a.usesysid)
       OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
"""
_LIST = (
    "SELECT a.pid, a.usename::text AS role, a.application_name AS application, a.client_addr::text AS address, "  # noqa: S608
    f"floor(extract(epoch FROM clock_timestamp() - a.state_change))::int AS idle_s {_IDLE} ORDER BY a.state_change"
)
_ENDED = f"SELECT pg_terminate_backend(a.pid) AS ended {_IDLE}"
_END = f"SELECT count(*) FILTER (WHERE ended) FROM ({_ENDED}) AS tried"  # noqa: S608


class EndIdle:
    """End the connections to the procedure's database that have been idle for longer than `idle_for_s`."""

    name = "end_idle_connections"
    outside = False
    idempotent = True
    reversible = False

    def __init__(self, database: Database, source: EndIdleRemedy | None = None) -> None:
        self._database = database
        self._idle_for_s = (source or EndIdleRemedy()).idle_for_s

    async def preview(self, finding: Finding) -> Preview:
        """List the connections that would be ended."""
        found = await self._database.reading(self._idle)
        return Preview(
            words=f"ends {len(found)} connections that have been idle for more than {self._idle_for_s:g} s",
            sql=_END.replace(":idle_for_s", f"{self._idle_for_s:g}"),
            before=tuple(found),
            after=(),
        )

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        """End them; there is one pool, so one look serves every assignment."""
        try:
            ended = await self._database.writing(self._end)
        except (DatabaseRefused, DatabaseUnavailable) as error:
            failure = Failure(service=self._database.name, exc_type=type(error).__name__, message=str(error))
            return [Outcome(ok=False, detail=str(error), failure=failure)] * len(assignments)
        if not ended:
            return [Outcome.skip(f"no connection has been idle for more than {self._idle_for_s:g} s")] * len(
                assignments
            )
        words = f"ended {ended} connections that were idle for more than {self._idle_for_s:g} s"
        return [Outcome(ok=True, detail=words, touched=ended)] * len(assignments)

    async def undo(self, run_id: str) -> Undone:
        """Refuse: a connection that was ended is made anew by whoever needs it."""
        return Undone(refused={run_id: "a connection that was ended can't be brought back"})

    def _idle(self, connection: Connection) -> list[dict[str, Any]]:
        self._must_be_a_server()
        rows = connection.execute(text(_LIST), {"idle_for_s": self._idle_for_s})
        return [dict(row) for row in rows.mappings()]

    def _end(self, connection: Connection) -> int:
        self._must_be_a_server()
        return int(connection.execute(text(_END), {"idle_for_s": self._idle_for_s}).scalar_one())

    def _must_be_a_server(self) -> None:
        if self._database.kind != "postgresql":
            raise DatabaseRefused(
                f"database {self._database.name}: connections of {self._database.kind} are not ended; "
                "end_idle_connections is for PostgreSQL"
            )
