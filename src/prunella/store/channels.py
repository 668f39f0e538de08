"""Rows of channels: how each one does; and which answers from chats were heard, so that none counts twice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from prunella.store.session import Session
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import channels as t
from prunella.store.tables import heard

_ALL = Sql(select(t).order_by(t.c.name))
_ONE = Sql(select(t).where(t.c.name == param("name_")))
_FORGET = Sql(delete(heard).where(heard.c.at < param("before")))
_NOTHING: Row = {column.name: None for column in t.columns} | {"failures": 0}


class ChannelRows:
    """Read and write how channels do."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def succeeded(self, name: str, now: datetime) -> None:
        """Note that something arrived: whatever went wrong before is over."""
        conflict = (
            "ON CONFLICT (name) DO UPDATE SET succeeded_at = excluded.succeeded_at, "
            "failing_since = NULL, failures = 0, silent_until = NULL"
        )
        await self._session.insert(t, [{**_NOTHING, "name": name, "succeeded_at": now}], conflict=conflict)

    async def failed(self, name: str, now: datetime, error: str, silent_until: datetime | None = None) -> datetime:
        """Note that something did not arrive, and why; return since when nothing does.

        Args:
            silent_until: the receiver asked for silence until then.
        """
        row = {"name": name, "failed_at": now, "failing_since": now, "failures": 1, "last_error": error}
        table = self._session.dialect.table(t)
        conflict = (
            "ON CONFLICT (name) DO UPDATE SET failed_at = excluded.failed_at, last_error = excluded.last_error, "
            f"failures = {table}.failures + 1, "
            f"silent_until = coalesce(excluded.silent_until, {table}.silent_until), "
            f"failing_since = coalesce({table}.failing_since, excluded.failing_since)"
        )
        (written,) = await self._session.upsert(
            t, [{**_NOTHING, **row, "silent_until": silent_until}], conflict=conflict
        )
        since: datetime = written["failing_since"]
        return since

    async def of(self, name: str) -> Row | None:
        """Return how one channel does; None where it was never tried."""
        return await self._session.one(_ONE, name_=name)

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
