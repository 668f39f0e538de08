"""Rows of procedures: when each ran last, and a lease so that two runs of one never overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, or_, select, update

from prunella.store.session import Session
from prunella.store.sql import Row, Sql, member_of, param
from prunella.store.tables import procedures as t

_READ = Sql(select(t).where(t.c.name == param("name_")))
_LOCK = Sql(select(t.c.name).where(t.c.name == param("name_")).with_for_update())
_ALL = Sql(select(t).order_by(t.c.name))
_CLAIM = Sql(
    update(t)
    .where(
        t.c.name == param("name_"),
        t.c.paused_by.is_(None),
        or_(t.c.lease_until.is_(None), t.c.lease_until <= param("now")),
        or_(t.c.last_started_at.is_(None), t.c.last_started_at <= param("latest")),
    )
    .values(claimed_by=param("worker"), lease_until=param("until"), last_started_at=param("now"))
)
_FINISH = Sql(
    update(t)
    .where(t.c.name == param("name_"), t.c.claimed_by == param("worker"))
    .values(
        lease_until=None,
        last_ended_at=param("now"),
        runs=t.c.runs + 1,
        failures=t.c.failures + case((param("failed") == 1, 1), else_=0),
        last_result=param("result", t.c.last_result.type),
    )
)
_PAUSE = Sql(update(t).where(t.c.name == param("name_")).values(paused_by=param("by")))
_EXTEND = Sql(
    update(t)
    .where(t.c.name == param("name_"), t.c.claimed_by == param("worker"), t.c.lease_until.is_not(None))
    .values(lease_until=param("until"))
)
_RELEASE_OF = Sql(
    update(t)
    .where(member_of(t.c.claimed_by, "workers"), t.c.lease_until.is_not(None))
    .values(lease_until=None)
    .returning(t.c.name)
)
_RELEASE_ALL = Sql(update(t).where(t.c.lease_until.is_not(None)).values(lease_until=None))


class ProcedureRows:
    """Read and write the schedule's memory."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def register(self, name: str, code: str | None = None) -> Row:
        """Make sure a procedure has a row and return it; `code` is what the documents call it (HEAL_SYNC_001)."""
        empty = dict.fromkeys(column.name for column in t.c)
        known = "DO NOTHING" if code is None else "DO UPDATE SET code = excluded.code"
        await self._session.insert(
            t,
            [{**empty, "name": name, "code": code, "runs": 0, "failures": 0}],
            conflict=f"ON CONFLICT (name) {known}",
        )
        row = await self._session.one(_READ, name_=name)
        assert row is not None
        return row

    async def lock(self, name: str) -> None:
        """Let no other transaction change a procedure's incidents until this one ends: in any order, no deadlock."""
        if await self._session.one(_LOCK, name_=name) is None:
            await self.register(name)
            await self._session.one(_LOCK, name_=name)

    async def paused_by(self, name: str) -> str | None:
        """Return who paused a procedure."""
        row = await self._session.one(_READ, name_=name)
        return row["paused_by"] if row else None

    async def claim(
        self, name: str, worker: str, now: datetime, until: datetime, *, rested: timedelta = timedelta()
    ) -> bool:
        """Win the next run; False while another is under way, began less than `rested` ago, or a person paused it."""
        latest = now - rested if rested else until
        return await self._session.change(_CLAIM, name_=name, worker=worker, now=now, until=until, latest=latest) == 1

    async def finish(self, name: str, worker: str, now: datetime, *, failed: bool, result: Mapping[str, Any]) -> None:
        """Note how the run ended."""
        await self._session.change(_FINISH, name_=name, worker=worker, now=now, failed=int(failed), result=dict(result))

    async def extend(self, name: str, worker: str, until: datetime) -> bool:
        """Keep the lease of a run that takes longer; False when it is lost."""
        return await self._session.change(_EXTEND, name_=name, worker=worker, until=until) == 1

    async def pause(self, name: str, by: str | None) -> None:
        """Let no run begin until somebody resumes it (`by` None)."""
        await self._session.change(_PAUSE, name_=name, by=by)

    async def release_of(self, workers: Sequence[str]) -> Sequence[str]:
        """End the leases of workers that are dead; return which procedures were interrupted."""
        return [row["name"] for row in await self._session.fetch(_RELEASE_OF, workers=list(workers))]

    async def release_all(self) -> int:
        """End every lease: only for a store whose other processes are known to be dead."""
        return await self._session.change(_RELEASE_ALL)

    async def all(self) -> list[Row]:
        """Return every procedure's row."""
        return await self._session.fetch(_ALL)
