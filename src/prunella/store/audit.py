"""Rows of the audit: append-only; a change and its entry stand or fall together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from prunella.core.records import AuditEntry
from prunella.store.session import Session, records, row_of
from prunella.store.sql import Sql, param, prepare
from prunella.store.tables import audit as t

_OF_INCIDENT = Sql(select(t).where(t.c.incident_id == param("incident")).order_by(t.c.id))


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

    async def list(self, *, most: int, **equal: Any) -> list[AuditEntry]:
        """Return entries, newest first, that equal the given columns."""
        query = select(t).order_by(t.c.id.desc()).limit(most)
        for name, value in equal.items():
            query = query.where(t.c[name] == value)
        return records(AuditEntry, await self._session.fetch(prepare(query, self._session.dialect)))
