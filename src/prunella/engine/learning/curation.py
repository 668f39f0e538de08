"""What people do with known issues: write them down, change them, end them, open them again.

Each act is one transaction with its audit entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prunella.core import redact
from prunella.core.errors import Conflict, IllegalTransition, InvalidInput, Outdated
from prunella.core.issues import MACHINE, Candidate, IssueState, KnownIssue, Origin
from prunella.core.states import IncidentState
from prunella.diagnosis.known import Matcher
from prunella.diagnosis.packs import read_entry
from prunella.diagnosis.patterns import Pattern
from prunella.diagnosis.templates import template
from prunella.engine import trail
from prunella.engine.learning import entries, issues
from prunella.engine.learning.known import pattern_of
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction, again_on_conflict

INCIDENTS_MAX = 500
"""Open incidents that an act takes along; the others follow with their next event."""
_OPEN = tuple(state for state in IncidentState if state is not IncidentState.RESOLVED)


async def create(parts: Parts, wanted: Mapping[str, Any], *, by: str, fingerprint: str | None = None) -> KnownIssue:
    """Make a problem known, by the names of a pack: pattern, title, severity, cause and so on.

    Args:
        fingerprint: the pattern of failures that it is; what is not said is taken from there.

    Raises:
        InvalidInput: a field is wrong, or the expression could be slow; it says which and why.
        Conflict: there is one with this id.
    """
    async with parts.store.transaction() as tx:
        candidate = await _candidate(tx, fingerprint) if fingerprint is not None else None
        given = (_suggested(candidate, wanted) if candidate is not None else {}) | dict(wanted)
        pattern = await _judged(parts, tx, {"id": entries.name_for(given), **given})
        if pattern.id in parts.known.shipped:
            raise Conflict(f"known issue {pattern.id} comes along already; choose another id, or change that one")
        now = parts.clock.now()
        issue = KnownIssue(
            id=pattern.id, **entries.fields_of(pattern), **_counted(candidate), created_at=now, created_by=by
        )
        await tx.learning.add([issue], now)
        if candidate is not None:
            await tx.learning.settle(candidate.fingerprint, issue_id=issue.id)
            await tx.incidents.name_issue(candidate.fingerprint, issue.id)
        await claim(parts, tx, issue)
        await trail.note(parts, tx, "issue.created", issue.id, reason=issue.title, by=by)
        tx.on_commit(parts.known.forget)
    return issue


@again_on_conflict
async def change(
    parts: Parts, issue_id: str, wanted: Mapping[str, Any], *, by: str, seen: int | None = None
) -> KnownIssue | None:
    """Change what is said about an issue, by the names of a pack; None values take away. None where there is no such.

    Args:
        seen: the version that was decided on; None: whatever stands. `Outdated` where it is another.
    """
    async with parts.store.transaction() as tx:
        issue = await taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        pattern = await _judged(parts, tx, entries.plain(issue) | dict(wanted))
        fields = {name: value for name, value in entries.fields_of(pattern).items() if value != getattr(issue, name)}
        if not fields:
            return issue
        if fields.keys() & {"expression", "ignore_case"}:  # what was tried before was another expression
            fields |= {"precision": None, "tested": 0}
        changed = await tx.learning.save(replace(issue, **fields), parts.clock.now())
        await claim(parts, tx, changed)
        what = ", ".join(sorted(name for name in fields if name not in ("precision", "tested")))
        await trail.note(parts, tx, "issue.changed", issue.id, reason=what, by=by)
        tx.on_commit(parts.known.forget)
    return changed


@again_on_conflict
async def resolve(
    parts: Parts, issue_id: str, *, by: str, reason: str = "", seen: int | None = None
) -> KnownIssue | None:
    """Say that an issue is over; seen again after a day of quiet it counts as a regression."""
    async with parts.store.transaction() as tx:
        issue = await taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        if issue.state is IssueState.RESOLVED and issue.resolved_by not in (None, MACHINE):
            raise IllegalTransition(f"known issue {issue.id} is resolved already, by {issue.resolved_by}")
        if issue.state is IssueState.RESOLVED:  # by a repair: now a person says so, too
            over = replace(issue, resolved_by=by, resolved_at=parts.clock.now())
            await trail.note(parts, tx, "issue.resolved", issue.id, reason=reason, by=by)
            tx.on_commit(parts.known.forget)
            return await tx.learning.save(over, parts.clock.now())
        return await issues.move(parts, tx, issue, IssueState.RESOLVED, reason, by=by)


@again_on_conflict
async def reopen(
    parts: Parts, issue_id: str, *, by: str, reason: str = "", seen: int | None = None
) -> KnownIssue | None:
    """Say that an issue is not over, or wake one that sleeps."""
    async with parts.store.transaction() as tx:
        issue = await taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        if issue.is_open:
            raise IllegalTransition(f"known issue {issue.id} is {issue.state.value}; reopen needs one that is not")
        return await issues.move(parts, tx, issue, IssueState.ACTIVE, reason, by=by)


async def taken(
    parts: Parts, tx: Transaction, issue_id: str, seen: int | None, *, joined: bool = False
) -> KnownIssue | None:
    """Return an issue that somebody acts on, None where there is no such.

    Args:
        seen: the version that was decided on.
        joined: it may be one that was joined with another.
    """
    issue = await issues.stored(parts, tx, issue_id)
    if issue is None:
        return None
    if seen is not None and issue.version != seen:
        raise Outdated(
            f"known issue {issue_id} is at version {issue.version}, not {seen}; read it again and decide anew"
        )
    if issue.alias_of is not None and not joined:
        raise IllegalTransition(f"known issue {issue_id} was joined with {issue.alias_of}; act on that, or split them")
    return issue


async def claim(parts: Parts, tx: Transaction, issue: KnownIssue, held_by: str | None = None) -> int:
    """Let the open incidents that an issue's words fit be its own; return how many.

    Args:
        held_by: those of this issue are looked at; None: those that are of none.
    """
    if held_by is not None:
        found: Sequence[Any] = await tx.incidents.open_of_issue(held_by, most=INCIDENTS_MAX)
    else:
        found = await tx.incidents.list(most=INCIDENTS_MAX, state=_OPEN, issue_id=None, procedure="")
    failures = await tx.signals.failures([one.signal_id for one in found])
    matcher = Matcher([pattern_of(issue)])
    own = [
        one.id
        for one in found
        if one.signal_id in failures
        and matcher.match(failures[one.signal_id], kind=one.kind, names=_vendors(parts, one.service)) is not None
    ]
    if own:
        await tx.incidents.pass_to_issue(own, issue.id)
    return len(own)


async def _judged(parts: Parts, tx: Transaction, entry: Mapping[str, Any]) -> Pattern:
    """Return an entry as a pattern that can be kept beside the others."""
    pattern = read_entry(entry).pattern
    entries.must_be_kept(pattern)
    if Matcher().add(pattern) is not None:  # it has no letters to find it by, and few of these are kept
        stored = {one.id: pattern_of(one) for one in await tx.learning.issues()}
        Matcher({**parts.known.shipped, **stored}.values()).add(pattern)
    return pattern


async def _candidate(tx: Transaction, fingerprint: str) -> Candidate:
    candidate = await tx.learning.candidate(fingerprint)
    if candidate is None:
        raise InvalidInput(f"there is no pattern {fingerprint[:60]!r}; see the candidates", pointer="/fingerprint")
    if candidate.issue_id is not None:
        raise InvalidInput(f"this pattern is known as {candidate.issue_id} already", pointer="/fingerprint")
    return replace(candidate, message=redact.scrub(candidate.message))  # a secret may have become known since


def _suggested(candidate: Candidate, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pattern of failures says about the issue that it becomes."""
    made = template(candidate.message)
    if isinstance(made, str) and not given.get("pattern"):
        raise InvalidInput(f"its message gives no expression: {made}; write one", pointer="/pattern")
    words = entries.title_of(candidate.message)
    found = {
        "title": words or f"{candidate.kind} of {candidate.service}",
        "pattern": made if isinstance(made, str) else made.expression,
        "severity": candidate.impact.value,
        "service": candidate.service,
        "kind": candidate.kind,
        "code": candidate.code,
    }
    return {name: value for name, value in found.items() if value}


def _counted(candidate: Candidate | None) -> dict[str, Any]:
    """Return how often it was seen before a person made it known."""
    if candidate is None:
        return {"origin": Origin.PERSON}
    return {
        "origin": Origin.PERSON,
        "occurrences": candidate.occurrences,
        "unfixed": candidate.occurrences,
        "last_window": candidate.last_window,
        "first_seen": candidate.first_seen,
        "last_seen": candidate.last_seen,
    }


def _vendors(parts: Parts, service: str) -> tuple[str, ...]:
    return parts.services[service].vendors if service in parts.services else ()
