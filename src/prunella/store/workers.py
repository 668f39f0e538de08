"""Rows of workers: who is alive. Whoever is not seen for a while is dead, and what it held is free."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from prunella.store.session import Session
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import workers as t

_ALL = Sql(select(t).order_by(t.c.started_at, t.c.name))
_LEAVE = Sql(delete(t).where(t.c.name == param("name_")))
_BURY = Sql(delete(t).where(t.c.seen_at < param("before")).returning(t.c.name))


class WorkerRows:
    """Read and write who is alive."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def beat(self, name: str, version: str, now: datetime) -> None:
        """Say that a worker is alive; one that was buried by mistake stands up again."""
        await self._session.insert(
            t,
            [{"name": name, "version": version, "started_at": now, "seen_at": now}],
            conflict="ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
        )

    async def leave(self, name: str) -> None:
        """Say that a worker ended as it should."""
        await self._session.change(_LEAVE, name_=name)

    async def bury(self, before: datetime) -> Sequence[str]:
        """Forget every worker that was not seen since `before`; return their names to the one caller that did it."""
        return [row["name"] for row in await self._session.fetch(_BURY, before=before)]

    async def all(self) -> Sequence[Row]:
        """Return every worker, the oldest first."""
        return await self._session.fetch(_ALL)
