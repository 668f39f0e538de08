"""Rows of channels: how each one does; and which answers from chats were heard, so that none counts twice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from prunella.store.session import Session
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import channels as t
from prunella.store.tables import heard

_ALL = Sql(select(t).order_by(t.c.name))
_FORGET = Sql(delete(heard).where(heard.c.at < param("before")))


class ChannelRows:
    """Read and write how channels do."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def succeeded(self, name: str, now: datetime) -> None:
        """Note that something arrived: whatever went wrong before is over."""
        row = {"name": name, "succeeded_at": now, "failed_at": None, "failing_since": None, "failures": 0}
        conflict = (
            "ON CONFLICT (name) DO UPDATE SET succeeded_at = excluded.succeeded_at, failing_since = NULL, failures = 0"
        )
        await self._session.insert(t, [{**row, "last_error": None}], conflict=conflict)

    async def failed(self, name: str, now: datetime, error: str) -> datetime:
        """Note that something did not arrive, and why; return since when nothing does."""
        row = {"name": name, "succeeded_at": None, "failed_at": now, "failing_since": now, "failures": 1}
        table = self._session.dialect.table(t)
        conflict = (
            "ON CONFLICT (name) DO UPDATE SET failed_at = excluded.failed_at, last_error = excluded.last_error, "
            f"failures = {table}.failures + 1, "
            f"failing_since = coalesce({table}.failing_since, excluded.failing_since)"
        )
        (written,) = await self._session.upsert(t, [{**row, "last_error": error}], conflict=conflict)
        since: datetime = written["failing_since"]
        return since

    async def all(self) -> dict[str, Row]:
        """Return how every channel does that was ever tried, by name."""
        return {row["name"]: row for row in await self._session.fetch(_ALL)}

    async def hear(self, digest: str, now: datetime, forget_before: datetime) -> bool:
        """Note an answer from a chat; False when the very same was heard already."""
        await self._session.change(_FORGET, before=forget_before)
        conflict = "ON CONFLICT (digest) DO NOTHING"
        return bool(
            await self._session.insert(heard, [{"digest": digest, "at": now}], conflict=conflict, returning="digest")
        )
