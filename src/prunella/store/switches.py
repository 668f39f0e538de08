"""Rows of switches: what a person has switched off for everybody, by name; `all` is the kill switch."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from prunella.store.session import Session
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import switches as t

_ALL = Sql(select(t))
_RESUME = Sql(delete(t).where(t.c.name == param("name_")))


class SwitchRows:
    """Read and write switches."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def put(self, name: str, by: str, reason: str, now: datetime) -> None:
        """Switch off; whoever was first stays named."""
        row = {"name": name, "by": by, "reason": reason, "since": now}
        await self._session.insert(t, [row], conflict="ON CONFLICT (name) DO NOTHING")

    async def drop(self, name: str) -> bool:
        """Switch on again; False when it was not off."""
        return await self._session.change(_RESUME, name_=name) == 1

    async def all(self) -> dict[str, Row]:
        """Return what is switched off, by name."""
        return {row["name"]: row for row in await self._session.fetch(_ALL)}
