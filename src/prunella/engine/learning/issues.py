"""Known issues as they stand: move them, pass them on to people, write down what became of a remedy.

Whoever changes an issue says so in the audit, in one transaction with the change.
"""

from __future__ import annotations

from dataclasses import replace

from prunella.core.issues import ISSUE, MACHINE, Binding, IssueState, KnownIssue, Origin
from prunella.core.records import Incident, Notice, Severity
from prunella.diagnosis.patterns import Pattern
from prunella.engine import trail
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction

_FAILED_FIXES = 3
"""Repairs in a row that did not help, after which a person hears of an issue."""


async def stored(parts: Parts, tx: Transaction, issue_id: str) -> KnownIssue | None:
    """Return an issue; one that was shipped gets its row now, at the first time that it counts."""
    issue = await known(parts, tx, issue_id)
    if issue is not None and issue.version < 0:
        await tx.learning.ensure(replace(issue, version=0), parts.clock.now())
        return await tx.learning.issue(issue_id)
    return issue


async def taken(parts: Parts, tx: Transaction, issue_id: str) -> KnownIssue | None:
    """Return the issue that is meant by an id, with a row of its own, locked until the transaction ends."""
    issue = await meant(parts, tx, issue_id)
    if issue is None:
        return None
    await stored(parts, tx, issue.id)
    return await tx.learning.take(issue.id)


async def meant(parts: Parts, tx: Transaction, issue_id: str) -> KnownIssue | None:
    """Return the issue that is meant by an id: the one that a person joined it with, if any."""
    issue = await known(parts, tx, issue_id)
    if issue is None or issue.alias_of is None:
        return issue
    return await known(parts, tx, issue.alias_of)


async def known(parts: Parts, tx: Transaction, issue_id: str) -> KnownIssue | None:
    """Return an issue, whether it has a row or was shipped and has none yet (version -1)."""
    pattern = parts.known.shipped.get(issue_id)
    issue = await tx.learning.issue(issue_id)
    return of_pattern(parts, pattern) if issue is None and pattern is not None else issue


def of_pattern(parts: Parts, pattern: Pattern) -> KnownIssue:
    """Return what a shipped pattern is as a known issue; its remedy acts at once, as whoever wrote it says."""
    named = [one for one in parts.bindable if one == pattern.remedy]
    return KnownIssue(
        id=pattern.id,
        title=pattern.title or pattern.id,
        expression=pattern.expression,
        ignore_case=pattern.ignore_case,
        origin=Origin.PACK,
        severity=pattern.severity,
        service=pattern.service,
        kind=pattern.kind,
        code=pattern.code,
        means=pattern.means,
        cause=pattern.cause,
        advice=pattern.advice,
        source=pattern.source or "",
        tags=pattern.tags,
        remedies=tuple(Binding(remedy=one, by="pack", trusted=True) for one in named),
        created_at=parts.clock.now(),
        created_by="pack",
        version=-1,
    )


async def move(
    parts: Parts, tx: Transaction, issue: KnownIssue, state: IssueState, reason: str, *, by: str = MACHINE
) -> KnownIssue:
    """Bring an issue into another state."""
    if issue.state is state:
        return issue
    ISSUE.check(issue.state, state)
    over = state is IssueState.RESOLVED
    moved = replace(
        issue,
        state=state,
        resolved_at=parts.clock.now() if over else issue.resolved_at,
        resolved_by=by if over else issue.resolved_by,
        escalated_at=None if over else issue.escalated_at,
        escalation_reason=None if over else issue.escalation_reason,
    )
    saved = await tx.learning.save(moved, parts.clock.now())
    await trail.note(parts, tx, f"issue.{state.value}", issue.id, reason=reason, by=by)
    tx.on_commit(parts.known.forget)
    return saved


async def escalate(parts: Parts, tx: Transaction, issue: KnownIssue, why: str, incident: Incident) -> KnownIssue:
    """Pass an issue on to people: louder, with the reason, told and written down (document C section 3.2)."""
    louder = issue.severity if issue.severity is Severity.CRITICAL else Severity.HIGH
    raised = replace(issue, severity=louder, escalated_at=parts.clock.now(), escalation_reason=why)
    saved = await tx.learning.save(raised, parts.clock.now())
    await trail.note(parts, tx, "issue.escalated", issue.id, reason=why, incident=incident.id)
    await trail.tell(parts, tx, [_escalated(parts, saved, why, incident)])
    tx.on_commit(lambda: parts.listeners.emit("issue.escalated", issue=issue.id, service=incident.service, reason=why))
    return saved


async def not_repaired(parts: Parts, tx: Transaction, issue: KnownIssue, incident: Incident) -> KnownIssue:
    """Note a remedy that did not help; at the third in a row a person hears of it."""
    issue = await tx.learning.not_repaired(issue.id) or issue
    if issue.failed_fixes < _FAILED_FIXES or issue.escalated_at is not None:
        return issue
    return await escalate(parts, tx, issue, f"{issue.failed_fixes} repairs in a row did not help", incident)


async def repaired(parts: Parts, tx: Transaction, issue_id: str, how: str) -> None:
    """Note a repair that is proven: the issue is over until it is seen again."""
    issue = await taken(parts, tx, issue_id)
    if issue is None:
        return
    await tx.learning.repaired(issue.id)
    if issue.state in (IssueState.ACTIVE, IssueState.REGRESSED):
        await move(parts, tx, issue, IssueState.RESOLVED, how)


def _escalated(parts: Parts, issue: KnownIssue, why: str, incident: Incident) -> Notice:
    return Notice(
        key=f"issue_escalated:{issue.id}:{parts.clock.now():%Y-%m-%dT%H:%M}",
        kind="issue_escalated",
        severity=issue.severity,
        title=f"Known issue escalated: {issue.title}"[:200],
        facts=(
            ("Issue", issue.id),
            ("Reason", why),
            ("Service", incident.service),
            ("Occurrences", str(issue.occurrences)),
            ("Remedies", ", ".join(one.remedy for one in issue.remedies) or "none is bound"),
            ("Recommended", issue.advice or f"prunella known-issues show {issue.id}"),
        ),
        incident_id=incident.id,
        link=f"{parts.public_url}/known-issues/{issue.id}",
    )
