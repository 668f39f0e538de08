"""/api/v1/approvals: plans that wait for a person, and the answers they got."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.errors import IllegalTransition, Outdated
from prunella.core.records import Approval
from prunella.core.states import ApprovalState
from prunella.engine import proposals
from prunella.web.access import Acts, Match, Seen, Sent, Why, Words
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Text, Time, before, cut, given, spell_time, unknown
from prunella.web.api.routing import Rooms, tag_of
from prunella.web.problems import Problem


class ApproveIn(BaseModel):
    """Which plan somebody agrees to."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"digest": "9c1185a5c5e9fc54612808977ee8f548"}]}
    )

    digest: Annotated[Words, Field(min_length=1, max_length=200)]


class ApprovalOut(Out):
    """A plan and its answer."""

    id: str
    incident_id: str
    procedure: str
    plan: dict[str, Any]
    digest: str
    state: ApprovalState
    created_at: Time
    expires_at: Time
    proposed_by: str
    decided_at: Time | None
    decided_by: str | None
    reason: str
    superseded_by: str | None
    used_at: Time | None

    @classmethod
    def of(cls, approval: Approval) -> ApprovalOut:
        """Spell a plan and its answer."""
        return cls(
            id=approval.id,
            incident_id=approval.incident_id,
            procedure=approval.procedure,
            plan=dict(approval.plan),
            digest=approval.digest,
            state=approval.state,
            created_at=approval.created_at.isoformat(),
            expires_at=approval.expires_at.isoformat(),
            proposed_by=approval.proposed_by,
            decided_at=spell_time(approval.decided_at),
            decided_by=approval.decided_by,
            reason=approval.reason,
            superseded_by=approval.superseded_by,
            used_at=spell_time(approval.used_at),
        )


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/approvals", tags=["approvals"])

    @routes.get("", summary="List plans, newest first")
    async def list_approvals(
        _: Acts,
        state: ApprovalState | None = None,
        procedure: Text | None = None,
        limit: Limit = PAGE,
        cursor: Cursor = None,
    ) -> Page[ApprovalOut]:
        equal = {"state": state, "procedure": procedure}
        found, next_cursor = await page_of(app, given(equal), limit, cursor)
        return Page(items=[ApprovalOut.of(one) for one in found], next_cursor=next_cursor)

    @routes.get("/{approval_id}", summary="Show a plan")
    async def read_approval(_: Acts, approval_id: str, answer: Response) -> ApprovalOut:
        found = await _approval(app, approval_id)
        answer.headers["etag"] = tag_of(found.digest)
        return ApprovalOut.of(found)

    @routes.post("/{approval_id}/approve", summary="Agree to a plan")
    async def approve(
        caller: Acts,
        sent: Annotated[ApproveIn, Depends(Sent(ApproveIn))],
        seen: Seen,
        approval_id: str,
        answer: Response,
    ) -> ApprovalOut:
        await _must_stand(app, approval_id, seen)
        approved = await _answered(app, approval_id, ApprovalState.APPROVED, by=caller.name, digest=sent.digest)
        answer.headers["etag"] = tag_of(approved.digest)
        return approved

    @routes.post("/{approval_id}/reject", summary="Refuse a plan")
    async def reject(caller: Acts, why: Why, seen: Seen, approval_id: str, answer: Response) -> ApprovalOut:
        await _must_stand(app, approval_id, seen)
        rejected = await _answered(app, approval_id, ApprovalState.REJECTED, by=caller.name, reason=why.reason)
        answer.headers["etag"] = tag_of(rejected.digest)
        return rejected

    return routes


async def page_of(
    app: App, equal: Mapping[str, Any], limit: int, cursor: str | None
) -> tuple[list[Approval], str | None]:
    """Return one page of plans, newest first, and the cursor of the next."""
    async with app.store.transaction() as tx:
        found = await tx.approvals.list(most=limit + 1, before=before(cursor), **equal)
    return cut(found, limit, lambda one: (one.created_at, one.id))


async def _approval(app: App, approval_id: str) -> Approval:
    async with app.store.transaction() as tx:
        found = await tx.approvals.get(approval_id)
    if found is None:
        raise unknown("approval", approval_id)
    return found


async def _must_stand(app: App, approval_id: str, seen: Match) -> None:
    """Refuse an answer that is meant for another plan; a plan under an id never changes."""
    if seen.tag is not None and seen.tag != (digest := (await _approval(app, approval_id)).digest):
        raise Outdated(f"approval {approval_id} is about the plan {digest}; read it again and decide anew")


async def _answered(app: App, approval_id: str, state: ApprovalState, **answer: str) -> ApprovalOut:
    """Write an answer; where it comes too late, say which plan stands now."""
    try:
        answered = await proposals.answer(app.parts, approval_id, state, **answer)
    except IllegalTransition as error:
        standing = await _approval(app, approval_id)
        extra = {"state": standing.state.value, "digest": standing.digest, "superseded_by": standing.superseded_by}
        raise Problem(409, "This plan can't be answered so", str(error), extra=extra) from None
    if answered is None:
        raise unknown("approval", approval_id)
    return ApprovalOut.of(answered)
