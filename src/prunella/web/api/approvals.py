"""/api/v1/approvals: plans that wait for a person, and the answers they got."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.errors import IllegalTransition
from prunella.core.records import Approval
from prunella.core.states import ApprovalState
from prunella.engine import proposals
from prunella.web.access import Acts, Sent, Why
from prunella.web.api.paging import PAGE, Limit, given, spell_time, unknown
from prunella.web.problems import Problem


class ApproveIn(BaseModel):
    """Which plan somebody agrees to."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(min_length=1, max_length=200)]


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/approvals", tags=["approvals"])

    @routes.get("")
    async def list_approvals(
        _: Acts, state: ApprovalState | None = None, procedure: str | None = None, limit: Limit = PAGE
    ) -> JSONResponse:
        equal = {"state": state, "procedure": procedure}
        async with app.store.transaction() as tx:
            found = await tx.approvals.list(most=limit, **given(equal))
        return JSONResponse({"items": [approval_json(one) for one in found], "next_cursor": None})

    @routes.get("/{approval_id}")
    async def read_approval(_: Acts, approval_id: str) -> JSONResponse:
        return JSONResponse(approval_json(await _approval(app, approval_id)))

    @routes.post("/{approval_id}/approve")
    async def approve(
        caller: Acts, sent: Annotated[ApproveIn, Depends(Sent(ApproveIn))], approval_id: str
    ) -> JSONResponse:
        digest = sent.digest
        approved = ApprovalState.APPROVED
        return JSONResponse(await _answered(app, approval_id, approved, by=caller.name, digest=digest))

    @routes.post("/{approval_id}/reject")
    async def reject(caller: Acts, why: Why, approval_id: str) -> JSONResponse:
        rejected = ApprovalState.REJECTED
        return JSONResponse(await _answered(app, approval_id, rejected, by=caller.name, reason=why.reason))

    return routes


def approval_json(approval: Approval) -> dict[str, Any]:
    """Spell a plan and its answer."""
    return {
        "id": approval.id,
        "incident_id": approval.incident_id,
        "procedure": approval.procedure,
        "plan": dict(approval.plan),
        "digest": approval.digest,
        "state": approval.state.value,
        "created_at": spell_time(approval.created_at),
        "expires_at": spell_time(approval.expires_at),
        "proposed_by": approval.proposed_by,
        "decided_at": spell_time(approval.decided_at),
        "decided_by": approval.decided_by,
        "reason": approval.reason,
        "superseded_by": approval.superseded_by,
        "used_at": spell_time(approval.used_at),
    }


async def _approval(app: App, approval_id: str) -> Approval:
    async with app.store.transaction() as tx:
        found = await tx.approvals.get(approval_id)
    if found is None:
        raise unknown("approval", approval_id)
    return found


async def _answered(app: App, approval_id: str, state: ApprovalState, **answer: str) -> dict[str, Any]:
    """Write an answer; where it comes too late, say which plan stands now."""
    try:
        answered = await proposals.answer(app.parts, approval_id, state, **answer)
    except IllegalTransition as error:
        standing = await _approval(app, approval_id)
        extra = {"state": standing.state.value, "digest": standing.digest, "superseded_by": standing.superseded_by}
        raise Problem(409, "This plan can't be answered so", str(error), extra=extra) from None
    if answered is None:
        raise unknown("approval", approval_id)
    return approval_json(answered)
