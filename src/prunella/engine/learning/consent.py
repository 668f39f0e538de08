"""Ask a person before a bound remedy acts: a plan for one incident, on the same desk as those of procedures."""

from __future__ import annotations

from typing import Any

from prunella.core.records import Approval, Incident
from prunella.core.states import ApprovalState
from prunella.engine import notices, proposals, trail
from prunella.engine.parts import Parts
from prunella.engine.plan import Case, Plan
from prunella.store.contract import Transaction


async def ask(parts: Parts, tx: Transaction, case: Case, plan: Plan) -> str:
    """Have a plan proposed, unless it waits there already; return what the incident waits for.

    What was approved and not carried out is asked anew: a person began the incident anew meanwhile.
    """
    standing = await _standing(tx, plan.procedure, case.incident)
    same = next((one for one in standing if one.digest == plan.digest and one.state is ApprovalState.WAITING), None)
    if same is None:
        same = await _propose(parts, tx, case, plan)
        for older in standing:
            await proposals.end(parts, tx, older, ApprovalState.SUPERSEDED, "another plan took its place", same.id)
    return proposals.waits_for(same)


async def close(parts: Parts, tx: Transaction, incident: Incident, why: str) -> None:
    """Close what was proposed for an incident and needs no answer any more."""
    about = {incident.issue_id, incident.decided.get("issue")}  # it may have been joined with another since
    for issue_id in filter(None, about):
        for one in await _standing(tx, proposals.of_issue(issue_id), incident):
            await proposals.end(parts, tx, one, ApprovalState.CLOSED, why)


async def _standing(tx: Transaction, procedure: str, incident: Incident) -> list[Approval]:
    return [one for one in await tx.approvals.standing_of(procedure) if one.incident_id == incident.id]


async def _propose(parts: Parts, tx: Transaction, case: Case, plan: Plan) -> Approval:
    now = parts.clock.now()
    proposed = Approval(
        id=parts.ids.new(),
        incident_id=case.incident.id,
        procedure=plan.procedure,
        plan=_shown(case, plan),
        digest=plan.digest,
        created_at=now,
        expires_at=now + proposals.EXPIRES_AFTER,
    )
    await tx.approvals.add([proposed])
    await parts.runner.submit("approval", proposed.id, at=proposed.expires_at, tx=tx)
    reason = f"{plan.action} (digest {proposed.digest})"
    await trail.note(parts, tx, "approval.proposed", plan.procedure, reason=reason, incident=case.incident.id)
    link = f"{parts.public_url}/approvals/{proposed.id}"
    await trail.tell(parts, tx, [notices.approval_required(plan.procedure, case.incident, proposed, link)])
    return proposed


def _shown(case: Case, plan: Plan) -> dict[str, Any]:
    """Return what a person is shown, in the form of every plan."""
    requests = [f"{one.method} {one.endpoint}" for one in case.due]
    return {
        "procedure": plan.procedure,
        "id": plan.procedure,
        "level": plan.level.value,
        "words": plan.action,
        "remedies": [plan.fix],
        "parameters": dict(plan.parameters),
        "weighed": dict(case.incident.decided),
        "targets": requests or [case.incident.service],
        "count": sum(case.operations.get(name, 0) for name in ("waiting", "running")) or 1,
        "matching": len(requests) or 1,
        "share_at_most": None,
        "sql": "",
        "before": [],
        "after": [],
        "unknown_until_run": True,
        "digest": plan.digest,
    }
