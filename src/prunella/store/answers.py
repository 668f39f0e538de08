"""Rows of answers: which key was used for which request, and what was answered; a key has one owner at a time."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, delete, or_, select, update

from prunella.store.session import Session
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import answers as t

_mine = and_(t.c.caller == param("caller_"), t.c.key == param("key_"))
_GET = Sql(select(t).where(_mine))
_TAKE_OVER = Sql(
    update(t)
    .where(
        _mine,
        or_(t.c.begun_at < param("over"), and_(t.c.ended_at.is_(None), t.c.begun_at < param("stray"))),
    )
    .values(request=param("request_"), status=None, body=None, begun_at=param("now"), ended_at=None)
)
_still_mine = and_(_mine, t.c.begun_at == param("begun"), t.c.ended_at.is_(None))
_END = Sql(update(t).where(_still_mine).values(status=param("status_"), body=param("body_"), ended_at=param("now")))
_DROP = Sql(delete(t).where(_still_mine))
_FORGET = Sql(delete(t).where(t.c.begun_at < param("over")))


class AnswerRows:
    """Read and write answers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def begin(
        self, caller: str, key: str, request: str, now: datetime, *, stray: datetime, over: datetime
    ) -> bool:
        """Take a key for a request; False where somebody has it.

        Args:
            stray: a request that began before and was not answered has died.
            over: what began before is no longer kept.
        """
        row = {
            "caller": caller,
            "key": key,
            "request": request,
            "status": None,
            "body": None,
            "begun_at": now,
            "ended_at": None,
        }
        taken = await self._session.insert(t, [row], conflict="ON CONFLICT (caller, key) DO NOTHING", returning="key")
        if taken:
            return True
        values = {"caller_": caller, "key_": key, "request_": request, "now": now, "stray": stray, "over": over}
        return await self._session.change(_TAKE_OVER, **values) == 1

    async def get(self, caller: str, key: str) -> Row | None:
        """Return what a key was used for."""
        return await self._session.one(_GET, caller_=caller, key_=key)

    async def end(self, caller: str, key: str, begun: datetime, status: int, body: bytes, now: datetime) -> None:
        """Write the answer to what began then; nothing where somebody took it for dead and has the key by now."""
        await self._session.change(_END, caller_=caller, key_=key, begun=begun, status_=status, body_=body, now=now)

    async def drop(self, caller: str, key: str, begun: datetime) -> None:
        """Give a key back, likewise."""
        await self._session.change(_DROP, caller_=caller, key_=key, begun=begun)

    async def forget(self, over: datetime) -> int:
        """Delete what began before; return how many."""
        return await self._session.change(_FORGET, over=over)
