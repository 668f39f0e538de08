"""Who may come in: API keys for programs, one-time links and sessions for people. What is handed out is shown once.

Only digests are kept: what was handed out is 256 random bits, so that a plain SHA-256 of it tells nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from prunella.core.errors import InvalidInput
from prunella.core.records import ApiKey
from prunella.engine import trail
from prunella.engine.parts import Parts

KEY_PREFIX = "prunella_live_"
"""Of every API key, so that scanners for secrets know one when they see it."""
LINK_PREFIX = "prunella_link_"
FIRST = "first-admin"
_FIRST_LINK = timedelta(days=1)
_SESSION = timedelta(hours=12)
_NAME_MAX = 100


def digest_of(text: str) -> str:
    """Return what is kept of something that was handed out."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def new_key(parts: Parts, name: str, role: str, expires_at: datetime | None, *, by: str) -> tuple[ApiKey, str]:
    """Make an API key; return it and what a program has to show.

    Raises:
        InvalidInput: the name is empty or too long, or its end lies in the past.
    """
    now = parts.clock.now()
    if not 0 < len(name.strip()) <= _NAME_MAX:
        raise InvalidInput(
            f"a key needs a name of 1 to {_NAME_MAX} characters, by which the audit knows it", pointer="/name"
        )
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("a key has to end in the future", pointer="/expires_at")
    shown = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=parts.ids.new(),
        name=name.strip(),
        role=role,
        digest=digest_of(shown),
        created_at=now,
        created_by=by,
        expires_at=expires_at,
    )
    async with parts.store.transaction() as tx:
        await tx.entrances.add_key(key)
        await trail.note(parts, tx, "key.created", key.name, reason=f"{role}, {_until(expires_at)}", by=by)
    return key, shown


async def revoke_key(parts: Parts, key_id: str, *, by: str) -> ApiKey | None:
    """End a key; None where there is none of that id."""
    async with parts.store.transaction() as tx:
        known = {key.id: key for key in await tx.entrances.keys()}.get(key_id)
        if known is None:
            return None
        if await tx.entrances.revoke_key(key_id, by, parts.clock.now()):
            await trail.note(parts, tx, "key.revoked", known.name, reason=known.role, by=by)
    async with parts.store.transaction() as tx:
        return await tx.entrances.key(known.digest)


async def first_link(parts: Parts) -> str | None:
    """Return what opens the door for the first administrator; None once anybody came in.

    Each call makes a new one and forgets the one before, so that a start whose output was lost is no dead end.
    """
    async with parts.store.transaction() as tx:
        if await tx.entrances.anybody_entered():
            return None
        await tx.entrances.drop_unused_links(FIRST)
        shown = LINK_PREFIX + secrets.token_urlsafe(32)
        await tx.entrances.add_link(digest_of(shown), FIRST, "ADMIN", parts.clock.now() + _FIRST_LINK)
    return shown


async def new_link(parts: Parts, name: str, role: str, life: timedelta, *, by: str) -> tuple[str, datetime]:
    """Return what lets a person in once, and until when.

    Raises:
        InvalidInput: the name is empty or too long.
    """
    name, ends = name.strip(), parts.clock.now() + life
    if not 0 < len(name) <= _NAME_MAX:
        raise InvalidInput(
            f"a link needs a name of 1 to {_NAME_MAX} characters, by which the audit knows the person", pointer="/name"
        )
    shown = LINK_PREFIX + secrets.token_urlsafe(32)
    async with parts.store.transaction() as tx:
        await tx.entrances.add_link(digest_of(shown), name, role, ends)
        await trail.note(parts, tx, "link.created", name, reason=f"{role}, {_until(ends)}", by=by)
    return shown, ends


async def turn_out(parts: Parts, name: str, *, by: str) -> tuple[int, int] | None:
    """End a person's sessions and links that wait to be opened; return how many of each, None where there are none."""
    async with parts.store.transaction() as tx:
        sessions, links = await tx.entrances.end_sessions_of(name), await tx.entrances.drop_unused_links(name)
        if not (sessions or links):
            return None
        await trail.note(parts, tx, "link.revoked", name, reason=f"sessions: {sessions}, links: {links}", by=by)
    return sessions, links


async def use_link(parts: Parts, shown: str) -> tuple[str, str] | None:
    """Return name and role of a link and use it up; None where it opens nothing (any more)."""
    async with parts.store.transaction() as tx:
        row = await tx.entrances.use_link(digest_of(shown), parts.clock.now())
    return None if row is None else (row["name"], row["role"])


async def open_session(
    parts: Parts, name: str, role: str, until: datetime | None = None, key_id: str | None = None
) -> tuple[str, datetime]:
    """Begin a session; return what the browser has to show, and when it ends: after 12 hours at the latest.

    Args:
        key_id: the API key that opens it; once that is revoked, the session is over.
    """
    now = parts.clock.now()
    shown = secrets.token_urlsafe(32)
    ends = min(now + _SESSION, until or now + _SESSION)
    row = {
        "digest": digest_of(shown),
        "name": name,
        "role": role,
        "created_at": now,
        "seen_at": now,
        "expires_at": ends,
        "key_id": key_id,
    }
    async with parts.store.transaction() as tx:
        await tx.entrances.open_session(row)
        await trail.note(parts, tx, "session.begun", name, reason=role, by=name)
    return shown, ends


async def end_session(parts: Parts, shown: str, *, by: str) -> None:
    """End a session."""
    async with parts.store.transaction() as tx:
        if await tx.entrances.end_session(digest_of(shown)):
            await trail.note(parts, tx, "session.ended", by, reason="signed out", by=by)


def _until(moment: datetime | None) -> str:
    return f"until {moment:%Y-%m-%d}" if moment is not None else "without an end"
