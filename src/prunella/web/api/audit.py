"""/api/v1/audit: who did what, when and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from prunella.app import App
from prunella.core.records import AuditEntry
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Time, before, cut
from prunella.web.api.routing import Rooms
from prunella.web.filters import AuditFilter


class AuditOut(Out):
    """An entry of the audit."""

    id: str
    at: Time
    actor: str
    action: str
    target: str
    incident_id: str | None
    reason: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditOut:
        """Spell an entry of the audit."""
        return cls(
            id=entry.id,
            at=entry.at.isoformat(),
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            incident_id=entry.incident_id,
            reason=entry.reason,
        )


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/audit", tags=["audit"])

    @routes.get("", summary="List what was done, newest first")
    async def list_audit(
        _: Acts, wanted: Annotated[AuditFilter, Depends()], limit: Limit = PAGE, cursor: Cursor = None
    ) -> Page[AuditOut]:
        last = before(cursor)
        async with app.store.transaction() as tx:
            found = await tx.audit.asked(wanted.asked(), most=limit + 1, before=last and last[1])
        page, next_cursor = cut(found, limit, lambda one: (one.at, one.id))
        return Page(items=[AuditOut.of(one) for one in page], next_cursor=next_cursor)

    return routes
