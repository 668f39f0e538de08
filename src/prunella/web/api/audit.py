"""/api/v1/audit: who did what, when and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from prunella.app import App
from prunella.core.records import AuditEntry
from prunella.store.audit import Asked
from prunella.web.access import Acts
from prunella.web.api.events import Moment
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Text, Time, before, cut
from prunella.web.api.routing import Rooms


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
        _: Acts,
        target: Text | None = None,
        incident: Text | None = None,
        actor: Text | None = None,
        action: Annotated[Text | None, Query(description="`gate.pause`, or `gate.` for all that begin so.")] = None,
        since: Annotated[Moment | None, Query(description="At or after this moment.")] = None,
        limit: Limit = PAGE,
        cursor: Cursor = None,
    ) -> Page[AuditOut]:
        asked = Asked(target=target, incident=incident, actor=actor, action=action, since=since)
        last = before(cursor)
        async with app.store.transaction() as tx:
            found = await tx.audit.asked(asked, most=limit + 1, before=last[1] if last else None)
        page, next_cursor = cut(found, limit, lambda one: (one.at, one.id))
        return Page(items=[AuditOut.of(one) for one in page], next_cursor=next_cursor)

    return routes
