"""/api/v1/runs: every attempt to heal, and how to undo it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.core.records import Run
from prunella.engine import orders
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Limit, given, spell_time, unknown


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/runs", tags=["runs"])

    @routes.get("")
    async def list_runs(
        _: Acts, procedure: str | None = None, incident: str | None = None, limit: Limit = PAGE
    ) -> JSONResponse:
        equal = {"procedure": procedure, "incident_id": incident}
        async with app.store.transaction() as tx:
            found = await tx.runs.list(most=limit, **given(equal))
        return JSONResponse({"items": [run_json(one) for one in found], "next_cursor": None})

    @routes.get("/{run_id}")
    async def read_run(_: Acts, run_id: str) -> JSONResponse:
        async with app.store.transaction() as tx:
            found = await tx.runs.get(run_id)
        if found is None:
            raise unknown("run", run_id)
        return JSONResponse(run_json(found))

    @routes.post("/{run_id}/undo")
    async def undo(caller: Acts, run_id: str) -> JSONResponse:
        undone = await orders.undo(app.parts, run_id, by=caller.name)
        if undone is None:
            raise unknown("run", run_id)
        return JSONResponse({"run": run_id, "restored": undone.restored, "refused": dict(undone.refused)})

    return routes


def run_json(run: Run) -> dict[str, Any]:
    """Spell an attempt."""
    return {
        "id": run.id,
        "incident_id": run.incident_id,
        "service": run.service,
        "procedure": run.procedure,
        "resource": run.resource or None,
        "issue": run.issue or None,
        "remedy": run.remedy,
        "state": run.state.value,
        "attempt": run.attempt,
        "idempotency_key": run.idempotency_key,
        "status": run.status,
        "detail": run.detail,
        "rows": run.touched,
        "worker": run.worker,
        "started_at": spell_time(run.started_at),
        "ended_at": spell_time(run.ended_at),
        "verified_at": spell_time(run.verified_at),
    }
