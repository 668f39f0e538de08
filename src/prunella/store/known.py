"""Look known issues up: which are meant, which were seen last, which are joined. Written they are by `learning`.

There may be ten thousand: here they are found by id, and read whole is only what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select

from prunella.core.issues import KnownIssue
from prunella.store.session import Session
from prunella.store.sql import prepare
from prunella.store.tables import known_issues as k

_WORDS = (k.c.id, k.c.title, k.c.cause, k.c.expression)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which known issues are asked for; what is None does not matter.

    Args:
        kind: the one that it asks for, or that it means.
        q: letters within id, title, cause or expression, whatever their case.
        seen: whether it has occurred here.
    """

    state: str | None = None
    origin: str | None = None
    service: str | None = None
    severity: str | None = None
    kind: str | None = None
    has_remedy: bool | None = None
    q: str | None = None
    seen: bool | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return them as SQL."""
        equal = {
            k.c.state: self.state,
            k.c.origin: self.origin,
            k.c.service: self.service,
            k.c.severity: self.severity,
        }
        found: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
        if self.kind is not None:
            found.append(or_(k.c.kind == self.kind, k.c.means == self.kind))
        if self.has_remedy is not None:
            none: ColumnElement[bool] = k.c.remedies == []
            found.append(~none if self.has_remedy else none)
        if self.q is not None:
            found.append(or_(*(column.icontains(self.q, autoescape=True) for column in _WORDS)))
        if self.seen is not None:
            found.append(k.c.last_seen.is_not(None) if self.seen else k.c.last_seen.is_(None))
        return found

    def fits(self, one: KnownIssue) -> bool:
        """Tell the same of one that has no row."""
        words = (one.id, one.title, one.cause, one.expression)
        return (
            self.state in (None, one.state)
            and self.origin in (None, one.origin)
            and self.service in (None, one.service)
            and self.severity in (None, one.severity)
            and self.kind in (None, one.kind, one.means)
            and self.has_remedy in (None, bool(one.remedies))
            and self.seen in (None, one.last_seen is not None)
            and (self.q is None or any(self.q.lower() in word.lower() for word in words))
        )


class KnownRows:
    """Find known issues; `learning` reads them whole."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def ids(self, asked: Asked) -> list[str]:
        """Return the ids of those that are asked for, in no promised order."""
        return await self._ids(select(k.c.id).where(*asked.conditions()))

    async def recent(self, asked: Asked, *, most: int) -> list[str]:
        """Return the ids of those that are asked for, the one that was seen last first."""
        newest = select(k.c.id).where(*asked.conditions()).order_by(k.c.last_seen.desc(), k.c.id)
        return await self._ids(newest.limit(most))

    async def joined(self, issue_id: str) -> list[str]:
        """Return the ids of the issues that people joined with one."""
        return await self._ids(select(k.c.id).where(k.c.alias_of == issue_id).order_by(k.c.id))

    async def services(self) -> list[str]:
        """Return the services that issues name."""
        query = select(k.c.service).where(k.c.service.is_not(None)).distinct()
        return [row["service"] for row in await self._session.fetch(prepare(query, self._session.dialect))]

    async def _ids(self, query: Select[Any]) -> list[str]:
        return [row["id"] for row in await self._session.fetch(prepare(query, self._session.dialect))]
