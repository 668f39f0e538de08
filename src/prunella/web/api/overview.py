"""/api/v1/overview: the figures of the first page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.core.states import ApprovalState
from prunella.engine import report
from prunella.engine.pauses import KILL_SWITCH
from prunella.web.access import Reads

_PLANS_MAX = 500


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/overview", tags=["overview"])

    @routes.get("")
    async def overview(_: Reads) -> JSONResponse:
        found = await report.overview(app.parts)
        async with app.store.transaction() as tx:
            waiting = await tx.approvals.list(most=_PLANS_MAX, state=ApprovalState.WAITING)
            thrown = (await tx.switches.all()).get(KILL_SWITCH)
        figures = ("active", "needs_person", "disabled", "opened_24h", "recovered_24h", "mttr_s")
        gates = [{"service": gate.service, "state": gate.state.value, "reason": gate.reason} for gate in found.gates]
        return JSONResponse(
            {
                **{name: getattr(found, name) for name in figures},
                "by_category": dict(found.by_category),
                "gates": gates,
                "approvals": len(waiting),
                "paused": thrown is not None,
                "paused_by": thrown["by"] if thrown is not None else None,
            }
        )

    return routes
