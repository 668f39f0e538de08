"""Plans as people see them, and their answers: bound to a digest, good for one time, ended by name.

The digest covers what would be done and to which targets in which state, and nothing that merely passes (minutes,
messages), so that the same plan has the same digest at the next look.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from prunella.core import redact
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.records import Approval, Incident
from prunella.core.states import ApprovalState, IncidentState
from prunella.engine import endings, notices, trail
from prunella.engine.gathered import Gathered
from prunella.engine.learning.judging import fix_of, with_fix
from prunella.engine.parts import Parts
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.stock import Due
from prunella.remedies.contract import Preview
from prunella.store.contract import Transaction, again_on_conflict

EXPIRES_AFTER = timedelta(hours=4)
_SAMPLE_MAX = 5
_KEYS_SHOWN = 50

_OF_ISSUE = "known:"


def of_issue(issue_id: str) -> str:
    """Return under which name the plans of a known issue stand where those of procedures have theirs."""
    return f"{_OF_ISSUE}{issue_id}"


def waits_for(approval: Approval) -> str:
    """Say what an incident waits for."""
    return f"waits for approval until {approval.expires_at:%Y-%m-%d %H:%M} UTC; prunella approve {approval.id}"


async def draw(ready: Ready, due: Sequence[Due]) -> dict[str, Any]:
    """Return the plan: targets, count, share, a sample before and after, SQL, digest; nothing is written or called."""
    previews = [(one, await _preview(ready, one)) for one in due[:_SAMPLE_MAX]]
    targets = [_target(ready, one) for one in due]
    rows = [key for target in targets for key in target["keys"]] or [target["key"] for target in targets]
    whole = next((one.finding for one in due if one.finding.total is not None), None)
    binding = {
        "procedure": ready.name,
        "targets": targets,
        "would": [repr(ready.policy.check), repr(ready.policy.remedy)],  # its SQL holds moments that pass
        "limits": [ready.policy.limits.targets_max, ready.policy.limits.share_max],
    }
    return {
        "procedure": ready.name,
        "id": ready.policy.id,
        "level": ready.policy.level.value,
        "words": "; ".join(dict.fromkeys(preview.words for _, preview in previews)),
        "remedies": sorted({one.remedy for one in due}),
        "targets": [str(key) for key in rows[:_KEYS_SHOWN]],
        "count": len(rows),
        "matching": whole.count if whole is not None else len(due),
        "share_at_most": round(whole.count / whole.total, 4) if whole is not None and whole.total else None,
        "sql": "; ".join(dict.fromkeys(preview.sql for _, preview in previews if preview.sql)),
        "before": _shown([row for _, preview in previews for row in preview.before]),
        "after": _shown([row for _, preview in previews for row in preview.after or ()]),
        "unknown_until_run": any(preview.after is None for _, preview in previews),
        "digest": hashlib.sha256(json.dumps(binding, sort_keys=True, default=str).encode()).hexdigest()[:32],
    }


async def granted(gathered: Gathered, plan: dict[str, Any], due: Sequence[Due]) -> bool:
    """Tell whether a person approved exactly this plan; otherwise have it proposed, in place of an older one."""
    parts, tx, ready = gathered.parts, gathered.tx, gathered.ready
    standing = await tx.approvals.standing_of(ready.name)
    same = next((one for one in standing if one.digest == plan["digest"]), None)
    if same is not None and same.state is ApprovalState.APPROVED:
        await tx.approvals.use(same.id, gathered.now)
        gathered.note("approval.used", ready.name, reason=same.digest, incident=same.incident_id)
        return True
    if same is None:
        same = await _propose(parts, tx, ready, plan, due[0].incident)
        for older in standing:
            await end(parts, tx, older, ApprovalState.SUPERSEDED, "the world changed since the plan", same.id)
    why = waits_for(same)
    for one in due:
        if (one.incident.state, one.incident.held_reason) != (IncidentState.AWAITING_APPROVAL, why):
            state = IncidentState.AWAITING_APPROVAL
            gathered.save(replace(one.incident, state=state, held_reason=why, next_at=None))
    return False


async def close_empty(parts: Parts, ready: Ready) -> None:
    """Close what was proposed when nothing that it is about is left to do."""
    async with parts.store.transaction() as tx:
        standing = await tx.approvals.standing_of(ready.name)
        if not standing:
            return
        incidents = await tx.incidents.open_of_procedure(ready.name)
        if not any(one.state is IncidentState.AWAITING_APPROVAL for one in incidents):
            for one in standing:
                await end(parts, tx, one, ApprovalState.CLOSED, "nothing is left to do")


async def as_runbook(gathered: Gathered, plan: dict[str, Any], due: Sequence[Due]) -> None:
    """Leave the plan to people (level L3): what to do, to what, and the SQL that would do it."""
    steps = f"{plan['words']}; {plan['sql']}" if plan["sql"] else plan["words"]
    for one in due:
        incident = replace(one.incident, memory={**one.incident.memory, "runbook": plan})
        await endings.hand_over(gathered, incident, f"level L3: carry out by hand: {steps}"[:1000])


async def answer(
    parts: Parts, approval_id: str, state: ApprovalState, *, by: str, digest: str | None = None, reason: str = ""
) -> Approval | None:
    """Write a person's answer; None when there is no such approval. What is refused is audited, too.

    Raises:
        IllegalTransition: it does not wait for an answer (any more), or the digest is another plan's.
        InvalidInput: who proposed it may not approve it.
    """
    try:
        return await _answered(parts, approval_id, state, by, digest, reason)
    except (IllegalTransition, InvalidInput) as error:
        async with parts.store.transaction() as tx:
            await trail.note(parts, tx, "approval.refused", approval_id, reason=str(error), by=by)
        raise


@again_on_conflict
async def _answered(
    parts: Parts, approval_id: str, state: ApprovalState, by: str, digest: str | None, reason: str
) -> Approval | None:
    async with parts.store.transaction() as tx:
        approval = await tx.approvals.get(approval_id)
        if approval is None:
            return None
        if approval.state is not ApprovalState.WAITING or approval.expires_at <= parts.clock.now():
            raise IllegalTransition(_ended(approval))
        if state is ApprovalState.APPROVED:
            _must_fit(approval, digest, by)
        decided = await end(parts, tx, approval, state, reason, by=by)
        if state is ApprovalState.APPROVED:
            await _go_on(parts, tx, approval)
        else:
            why = f"plan rejected by {by}: {reason or 'no reason given'}"
            await _leave_to_people(parts, tx, await _withdrawn(tx, approval), why)
        return decided


@again_on_conflict
async def expire(parts: Parts, approval_id: str) -> None:
    """End a plan that nobody answered in time, and pass it on to the next tier: never a silent cancel."""
    async with parts.store.transaction() as tx:
        approval = await tx.approvals.get(approval_id)
        if approval is None or approval.state is not ApprovalState.WAITING:
            return
        if approval.expires_at > parts.clock.now():
            await parts.runner.submit("approval", approval.id, at=approval.expires_at, tx=tx)
            return
        await end(parts, tx, approval, ApprovalState.EXPIRED, "nobody answered in time")
        why = f"approval {approval.id} expired: nobody answered until {approval.expires_at:%Y-%m-%d %H:%M} UTC"
        await _leave_to_people(parts, tx, await _about(tx, approval), why)
        incident = await tx.incidents.get(approval.incident_id)
        ready = parts.procedures.get(approval.procedure)
        name = ready.policy.id if ready is not None else approval.procedure
        if incident is not None:
            link = trail.link(parts, incident.id)
            await trail.tell(parts, tx, [notices.approval_expired(name, incident, approval, link)])


async def _propose(parts: Parts, tx: Transaction, ready: Ready, plan: dict[str, Any], incident: Incident) -> Approval:
    now = parts.clock.now()
    proposed = Approval(
        id=parts.ids.new(),
        incident_id=incident.id,
        procedure=ready.name,
        plan=plan,
        digest=plan["digest"],
        created_at=now,
        expires_at=now + EXPIRES_AFTER,
    )
    await tx.approvals.add([proposed])
    await parts.runner.submit("approval", proposed.id, at=proposed.expires_at, tx=tx)
    reason = f"{plan['words']} (targets: {plan['count']}, digest {proposed.digest})"
    await trail.note(parts, tx, "approval.proposed", ready.name, reason=reason, incident=incident.id)
    link = f"{parts.public_url}/approvals/{proposed.id}"
    await trail.tell(parts, tx, [notices.approval_required(ready.policy.id, incident, proposed, link)])
    return proposed


async def end(
    parts: Parts,
    tx: Transaction,
    approval: Approval,
    state: ApprovalState,
    reason: str,
    superseded_by: str | None = None,
    *,
    by: str = "prunella",
) -> Approval:
    """End a plan, and what asks for an answer to it."""
    ended = replace(
        approval,
        state=state,
        reason=reason,
        superseded_by=superseded_by,
        decided_by=by,
        decided_at=parts.clock.now(),
    )
    await tx.approvals.move(ended, approval.state)
    await tx.outbox.answered(notices.key_of_approval(approval.id), by, parts.clock.now())
    action = f"approval.{state.value}"
    await trail.note(parts, tx, action, approval.procedure, reason=reason, incident=approval.incident_id, by=by)
    return ended


async def _go_on(parts: Parts, tx: Transaction, approval: Approval) -> None:
    """Have the approved plan carried out."""
    if not approval.procedure.startswith(_OF_ISSUE):
        await parts.runner.submit("procedure", approval.procedure, tx=tx)
        return
    for incident in await _about(tx, approval):
        if incident.state is IncidentState.AWAITING_APPROVAL:
            agreed = with_fix(incident, approved=approval.digest, approval=approval.id)
            await tx.incidents.save(replace(agreed, state=IncidentState.OPEN, next_at=parts.clock.now()))
            await parts.runner.submit("heal", incident.id, tx=tx)


async def _withdrawn(tx: Transaction, approval: Approval) -> Sequence[Incident]:
    """Return the incidents that a rejected plan is about; what was proposed for a known issue is not tried there."""
    if not approval.procedure.startswith(_OF_ISSUE):
        return await _about(tx, approval)
    (incident,) = await _about(tx, approval)
    tried = fix_of(incident).get("tried", ())
    return [with_fix(incident, tried=[*tried, *approval.plan["remedies"]])]


async def _about(tx: Transaction, approval: Approval) -> Sequence[Incident]:
    """Return the open incidents that a plan is about: one of a known issue is about its own incident."""
    if approval.procedure.startswith(_OF_ISSUE):
        return [await tx.incidents.take(approval.incident_id)]
    return await tx.incidents.open_of_procedure(approval.procedure)


async def _leave_to_people(parts: Parts, tx: Transaction, incidents: Sequence[Incident], why: str) -> None:
    """Escalate what the plan was about."""
    for incident in incidents:
        if incident.state is IncidentState.AWAITING_APPROVAL:
            await tx.incidents.save(replace(incident, state=IncidentState.ESCALATED, held_reason=why, next_at=None))
            await trail.note(parts, tx, "incident.escalated", incident.service, reason=why, incident=incident.id)


def _must_fit(approval: Approval, digest: str | None, by: str) -> None:
    if digest != approval.digest:
        raise IllegalTransition(
            f"approval {approval.id} is for the plan {approval.digest}, and the answer names {digest or 'none'}; "
            "look at the plan again and answer with its digest"
        )
    if _person(approval.proposed_by) == _person(by):
        raise InvalidInput(f"approval {approval.id} was proposed by {by}; somebody else has to answer it")


def _person(name: str) -> str:
    """Return who it is, whether they came by the command line or by the dashboard."""
    return name.removeprefix("cli:")


def _ended(approval: Approval) -> str:
    if approval.superseded_by:
        return f"approval {approval.id} is superseded by {approval.superseded_by}; answer that one"
    state = "expired" if approval.state is ApprovalState.WAITING else approval.state.value
    return f"approval {approval.id} is {state}; only one that waits can be answered"


async def _preview(ready: Ready, due: Due) -> Preview:
    remedy = ready.remedies.get(due.remedy)
    if remedy is None:
        return Preview(words=f"{due.remedy}: a person looks at it" if due.remedy == MANUAL else due.remedy)
    return await remedy.preview(due.finding)


def _target(ready: Ready, due: Due) -> dict[str, Any]:
    """Return what identifies a target and its state, for the digest."""
    entity = ready.entity
    row = due.finding.row or {}
    seen = [str(row.get(entity.status)), str(row.get(entity.since))] if entity is not None else []
    return {
        "key": due.finding.key,
        "issue": due.finding.issue,
        "remedy": due.remedy,
        "keys": sorted(str(key) for key in due.finding.keys),
        "seen": seen,
    }


def _shown(rows: Sequence[Any]) -> list[Any]:
    """Return a sample that may be shown: scrubbed, as JSON values."""
    return [redact.scrub_tree({str(name): _plain(value) for name, value in row.items()}) for row in rows[:_SAMPLE_MAX]]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
