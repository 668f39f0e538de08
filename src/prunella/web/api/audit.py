"""/api/v1/audit: who did what, when and why."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.core.records import AuditEntry
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Limit, given, spell_time


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/audit", tags=["audit"])

    @routes.get("")
    async def audit(
        _: Acts, target: str | None = None, incident: str | None = None, limit: Limit = PAGE
    ) -> JSONResponse:
        equal = {"target": target, "incident_id": incident}
        async with app.store.transaction() as tx:
            found = await tx.audit.list(most=limit, **given(equal))
        return JSONResponse({"items": [audit_json(one) for one in found], "next_cursor": None})

    return routes


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """Spell an entry of the audit."""
    return {
        "id": entry.id,
        "at": spell_time(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "incident_id": entry.incident_id,
        "reason": entry.reason,
    }
