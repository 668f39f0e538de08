"""Rows of the audit: append-only; a change and its entry stand or fall together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, select

from prunella.core.clock import first_id_at
from prunella.core.records import AuditEntry
from prunella.store.session import Session, records, row_of
from prunella.store.sql import Sql, param, prepare
from prunella.store.tables import audit as t

_OF_INCIDENT = Sql(select(t).where(t.c.incident_id == param("incident")).order_by(t.c.id))
_SKEW = timedelta(minutes=5)  # an id tells its maker's time, which may be off; what is read by `at` is exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which entries are asked for; what is None does not matter.

    Args:
        action: a whole action (`gate.pause`), or the beginning of several, with its dot (`gate.`).
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    incident: str | None = None
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return them as SQL."""
        equal = {t.c.actor: self.actor, t.c.target: self.target, t.c.incident_id: self.incident}
        found = [column == value for column, value in equal.items() if value is not None]
        if self.action is not None:
            many = self.action.endswith(".")
            found.append(t.c.action.startswith(self.action, autoescape=True) if many else t.c.action == self.action)
        if self.since is not None:
            found += [t.c.at >= self.since, t.c.id >= first_id_at(self.since - _SKEW)]
        return found


class AuditRows:
    """Append to and read the audit."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries."""
        if entries:
            await self._session.insert(t, [row_of(entry) for entry in entries])

    async def of_incident(self, incident_id: str) -> list[AuditEntry]:
        """Return an incident's story in the order it happened."""
        return records(AuditEntry, await self._session.fetch(_OF_INCIDENT, incident=incident_id))

    async def asked(self, asked: Asked, *, most: int, before: str | None = None) -> list[AuditEntry]:
        """Return entries, newest first; `before`, the last id of a page, continues a listing."""
        query = select(t).where(*asked.conditions()).order_by(t.c.id.desc()).limit(most)
        if before is not None:
            query = query.where(t.c.id < before)
        return records(AuditEntry, await self._session.fetch(prepare(query, self._session.dialect)))

    async def list(self, *, most: int, **equal: Any) -> list[AuditEntry]:
        """Return the newest entries that equal the given columns."""
        query = select(t).order_by(t.c.id.desc()).limit(most)
        for name, value in equal.items():
            query = query.where(t.c[name] == value)
        return records(AuditEntry, await self._session.fetch(prepare(query, self._session.dialect)))
