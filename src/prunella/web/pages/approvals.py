"""The pages of plans that wait for a person: oldest first, with all that an answer needs, and the answers given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella.app import App
from prunella.core.records import Approval, AuditEntry, Incident
from prunella.core.states import ApprovalState
from prunella.engine import proposals
from prunella.web.access import Acts
from prunella.web.auth import Caller, form_of
from prunella.web.pages.forms import Refusal, back_saying, reason_of, show, tried
from prunella.web.pages.frame import Frame
from prunella.web.problems import Problem

_PLANS_MAX = 50
_TRACE_MAX = 50


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a row, as it is and as it would be."""

    before: Any
    after: Any

    @property
    def changes(self) -> bool:
        """Tell whether the plan changes it."""
        return bool(self.before != self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A sample of rows as they are and as they would be.

    Args:
        names: the columns.
        rows: one cell per column; a row that would go has no `after`.
        gone: the rows would be taken away, not changed.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A plan with what it is about."""

    approval: Approval
    incident: Incident | None
    difference: Difference | None
    waits: bool


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the pages to those that are there."""

    @routes.get("/approvals")
    async def approvals(caller: Acts, request: Request) -> Response:
        async with app.store.transaction() as tx:
            latest = await tx.approvals.list(most=_PLANS_MAX)
            waiting = await tx.approvals.oldest_waiting(most=_PLANS_MAX)
        cards = await _cards(app, waiting)
        answered = [one for one in latest if one.state is not ApprovalState.WAITING]
        return await show(frame, request, "approvals.html", caller=caller, cards=cards, answered=answered)

    @routes.get("/approvals/{approval_id}")
    async def approval(caller: Acts, request: Request, approval_id: str) -> Response:
        return await _page(app, frame, request, caller, approval_id)

    @routes.post("/approvals/{approval_id}/approve")
    async def approve(caller: Acts, request: Request, approval_id: str) -> Response:
        digest = (await form_of(request)).get("digest", "")
        answer = proposals.answer(app.parts, approval_id, ApprovalState.APPROVED, by=caller.name, digest=digest)
        return await _answered(app, frame, request, caller, approval_id, await tried(answer))

    @routes.post("/approvals/{approval_id}/reject")
    async def reject(caller: Acts, request: Request, approval_id: str) -> Response:
        async def answer() -> Approval | None:
            reason = await reason_of(request, "reject a plan", needed=True)
            return await proposals.answer(app.parts, approval_id, ApprovalState.REJECTED, by=caller.name, reason=reason)

        return await _answered(app, frame, request, caller, approval_id, await tried(answer()))


def difference(plan: Mapping[str, Any]) -> Difference | None:
    """Return a plan's sample side by side; None where there is none, or its rows can't be told from one another."""
    before, after = list(plan.get("before") or ()), list(plan.get("after") or ())
    if not before or (after and len(after) != len(before)):
        return None
    if not after and plan.get("unknown_until_run"):
        return None
    names = tuple(dict.fromkeys(name for row in (*before, *after) for name in row))
    rows = tuple(_cells(names, was, after[place] if after else {}) for place, was in enumerate(before))
    return Difference(names=names, rows=rows, gone=not after)


def _cells(names: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Pair one row; a column that the plan does not write stays as it is."""
    return tuple(Cell(before.get(name), after.get(name, before.get(name))) for name in names)


async def _cards(app: App, approvals: Sequence[Approval]) -> list[Card]:
    now = app.parts.clock.now()
    async with app.store.transaction() as tx:
        incidents = {one.incident_id: await tx.incidents.get(one.incident_id) for one in approvals}
    return [
        Card(
            approval=one,
            incident=incidents[one.incident_id],
            difference=difference(one.plan),
            waits=one.state is ApprovalState.WAITING and one.expires_at > now,
        )
        for one in approvals
    ]


async def _page(
    app: App, frame: Frame, request: Request, caller: Caller, approval_id: str, refusal: Refusal | None = None
) -> Response:
    async with app.store.transaction() as tx:
        found = await tx.approvals.get(approval_id)
    if found is None:
        raise Problem(404, "Unknown approval", f"there is no approval {approval_id[:100]!r}")
    (card,) = await _cards(app, [found])
    trace = await _trace(app, found)
    if refusal is not None and found.state in (ApprovalState.APPROVED, ApprovalState.REJECTED):
        who = "You have" if found.decided_by == caller.name else f"{found.decided_by} was quicker, and has"
        words = f"{who} {found.state.value} this plan already"
        refusal = replace(refusal, title=words, next="Your answer changed nothing.")
    return await show(frame, request, "approval.html", caller=caller, refusal=refusal, card=card, trace=trace)


async def _trace(app: App, approval: Approval) -> list[AuditEntry]:
    """Return what was said about a plan: proposed, answered, refused answers, carried out."""
    async with app.store.transaction() as tx:
        refused = await tx.audit.list(most=_TRACE_MAX, target=approval.id)
        story = await tx.audit.of_incident(approval.incident_id)
    about = [one for one in story if one.action.startswith("approval.") and one.target == approval.procedure]
    return sorted([*refused, *about], key=lambda one: one.id)[-_TRACE_MAX:]


async def _answered(
    app: App,
    frame: Frame,
    request: Request,
    caller: Caller,
    approval_id: str,
    came: Approval | Refusal | None,
) -> Response:
    """Lead on to the plan and say what its answer sets going, or show it with what stood in the way."""
    if isinstance(came, Approval):
        return back_saying(request, caller, f"/approvals/{came.id}", _consequence(came))
    return await _page(app, frame, request, caller, approval_id, came)


def _consequence(approval: Approval) -> str:
    if approval.state is ApprovalState.APPROVED:
        return f"Approved. Procedure {approval.procedure} looks again now and carries out exactly this plan."
    return f"Rejected. What procedure {approval.procedure} found is left to people."
