"""Rows of API keys, one-time links and sessions: who may come in. Digests only; nothing here opens a door."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, func, select, update

from prunella.core.records import ApiKey
from prunella.store.session import Session, record, records, row_of
from prunella.store.sql import Row, Sql, param
from prunella.store.tables import api_keys as k
from prunella.store.tables import links, sessions

_KEYS = Sql(select(k).order_by(k.c.id))
_KEY = Sql(select(k).where(k.c.digest == param("digest_")))
_KEY_USED = Sql(update(k).where(k.c.digest == param("digest_")).values(used_at=param("now")))
_REVOKE = Sql(
    update(k)
    .where(k.c.id == param("id_"), k.c.revoked_at.is_(None))
    .values(revoked_at=param("now"), revoked_by=param("by"))
)
_ENTERED = Sql(select(func.count()).select_from(links).where(links.c.used_at.is_not(None)))
_UNUSED = Sql(delete(links).where(links.c.used_at.is_(None), links.c.name == param("name_")))
_USE = Sql(
    update(links)
    .where(links.c.digest == param("digest_"), links.c.used_at.is_(None), links.c.expires_at > param("now"))
    .values(used_at=param("now"))
    .returning(links.c.name, links.c.role)
)
_key_ended = exists().where(k.c.id == sessions.c.key_id, k.c.revoked_at.is_not(None))
_SESSION = Sql(
    select(sessions).where(sessions.c.digest == param("digest_"), sessions.c.expires_at > param("now"), ~_key_ended)
)
_SEEN = Sql(update(sessions).where(sessions.c.digest == param("digest_")).values(seen_at=param("now")))
_END = Sql(delete(sessions).where(sessions.c.digest == param("digest_")))
_END_OF = Sql(delete(sessions).where(sessions.c.name == param("name_")))
_OVER = Sql(delete(sessions).where(sessions.c.expires_at <= param("now")))


class EntranceRows:
    """Read and write keys, links and sessions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add_key(self, key: ApiKey) -> None:
        """Store a key."""
        await self._session.insert(k, [row_of(key)])

    async def keys(self) -> list[ApiKey]:
        """Return every key, oldest first, the revoked ones, too."""
        return records(ApiKey, await self._session.fetch(_KEYS))

    async def key(self, digest: str) -> ApiKey | None:
        """Return the key with this digest."""
        return record(ApiKey, await self._session.one(_KEY, digest_=digest))

    async def key_used(self, digest: str, now: datetime) -> None:
        """Note that a key was shown."""
        await self._session.change(_KEY_USED, digest_=digest, now=now)

    async def revoke_key(self, key_id: str, by: str, now: datetime) -> bool:
        """End a key; False where it had ended, or never was."""
        return await self._session.change(_REVOKE, id_=key_id, by=by, now=now) == 1

    async def add_link(self, digest: str, name: str, role: str, expires_at: datetime) -> None:
        """Store a link that lets one in once."""
        row = {"digest": digest, "name": name, "role": role, "expires_at": expires_at, "used_at": None}
        await self._session.insert(links, [row])

    async def use_link(self, digest: str, now: datetime) -> Row | None:
        """Use a link up: its name and role, None where it was used, is over or never was."""
        return await self._session.one(_USE, digest_=digest, now=now)

    async def drop_unused_links(self, name: str) -> int:
        """Forget links of `name` that nobody used; return how many."""
        return await self._session.change(_UNUSED, name_=name)

    async def anybody_entered(self) -> bool:
        """Tell whether any link was ever used."""
        row = await self._session.one(_ENTERED)
        return row is not None and next(iter(row.values())) > 0

    async def open_session(self, row: Row) -> None:
        """Store a session, and forget those that are over."""
        await self._session.change(_OVER, now=row["created_at"])
        await self._session.insert(sessions, [row])

    async def session(self, digest: str, now: datetime) -> Row | None:
        """Return a session that is not over; with the key that opened it, it ends, too."""
        return await self._session.one(_SESSION, digest_=digest, now=now)

    async def session_seen(self, digest: str, now: datetime) -> None:
        """Note that a session is used."""
        await self._session.change(_SEEN, digest_=digest, now=now)

    async def end_sessions_of(self, name: str) -> int:
        """End every session of `name`; return how many."""
        return await self._session.change(_END_OF, name_=name)

    async def end_session(self, digest: str) -> bool:
        """End a session; False where there was none."""
        return await self._session.change(_END, digest_=digest) == 1
