"""One problem or two: people join known issues that are the same, take them apart again, and divide one that is two.

What was counted goes along with what is joined and comes back with what is parted. Expressions stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.issues import Evidence, KnownIssue
from prunella.diagnosis.known import counts_before
from prunella.diagnosis.packs import read_entry
from prunella.engine import trail
from prunella.engine.learning import curation, entries
from prunella.engine.learning.evidence import as_of, scope_of_issue
from prunella.engine.learning.known import pattern_of
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction, again_on_conflict


@again_on_conflict
async def merge(
    parts: Parts, issue_id: str, into: str, *, by: str, reason: str = "", seen: int | None = None
) -> KnownIssue | None:
    """Join an issue with another, which stands for both from now on; return that one.

    Raises:
        InvalidInput: the other one is not there, or is this one.
        IllegalTransition: either is joined with a third one, or a third one with this.
    """
    async with parts.store.transaction() as tx:
        issue = await curation.taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        if into == issue_id:
            raise InvalidInput(f"known issue {issue_id} can't be joined with itself", pointer="/into")
        target = await curation.taken(parts, tx, into, None)
        if target is None:
            raise InvalidInput(f"there is no known issue {into[:60]!r}", pointer="/into")
        joined = await tx.known.joined(issue_id)
        if joined:
            raise IllegalTransition(f"{', '.join(joined)} stands for itself no more but for {issue_id}; split it first")
        issue = await _held(parts, tx, replace(issue, alias_of=into))
        target = await _counted(parts, tx, target, issue, +1)
        open_ = await tx.incidents.open_of_issue(issue_id, most=curation.INCIDENTS_MAX)
        await tx.incidents.pass_to_issue([one.id for one in open_], into)
        told = f"with {into}" + (f": {reason}" if reason else "")
        await trail.note(parts, tx, "issue.merged", issue_id, reason=told, by=by)
        tx.on_commit(parts.known.forget)
    return target


@again_on_conflict
async def part(parts: Parts, issue_id: str, *, by: str, reason: str = "", seen: int | None = None) -> KnownIssue | None:
    """Let an issue that was joined with another stand for itself again, with what it brought along."""
    async with parts.store.transaction() as tx:
        issue = await curation.taken(parts, tx, issue_id, seen, joined=True)
        if issue is None:
            return None
        if issue.alias_of is None:
            raise IllegalTransition(
                f"known issue {issue_id} is joined with none; to make two of it, say which expression the second has"
            )
        target = await tx.learning.issue(issue.alias_of)
        alone = await tx.learning.save(replace(issue, alias_of=None), parts.clock.now())
        if target is not None:
            await _counted(parts, tx, target, issue, -1)
            await curation.claim(parts, tx, alone, held_by=target.id)
        told = f"from {issue.alias_of}" + (f": {reason}" if reason else "")
        await trail.note(parts, tx, "issue.split", issue_id, reason=told, by=by)
        tx.on_commit(parts.known.forget)
    return alone


async def divide(
    parts: Parts, issue_id: str, wanted: Mapping[str, Any], *, by: str, seen: int | None = None
) -> KnownIssue | None:
    """Make two issues of one: the new one has a narrower pattern and counts wherever it fits; return it.

    It begins with no remedies and no occurrences. Open incidents that its words fit are its own.

    Args:
        wanted: at least `pattern`; what is not said (service, kind, code, severity) is as it was.

    Raises:
        InvalidInput: the pattern is unsafe, or would not count before the one that it comes from.
    """
    async with parts.store.transaction() as tx:
        issue = await curation.taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        given = {name: value for name, value in entries.plain(issue).items() if name in _KEPT} | dict(wanted)
        if not given.get("pattern"):
            raise InvalidInput("the pattern of the second problem is missing", pointer="/pattern")
        given.setdefault("id", entries.name_for(given))
        pattern = read_entry(given).pattern
        entries.must_be_kept(pattern)
        if not counts_before(pattern, pattern_of(issue)):
            raise InvalidInput(
                f"where both fit, {issue_id} would still count: its pattern has as many fixed letters; "
                "write more of what only the second problem says, or a louder severity",
                pointer="/pattern",
            )
        now = parts.clock.now()
        second = KnownIssue(id=pattern.id, **entries.fields_of(pattern), created_at=now, created_by=by)
        await tx.learning.add([second], now)
        await curation.claim(parts, tx, second, held_by=issue_id)
        await trail.note(parts, tx, "issue.split", issue_id, reason=f"{second.id} is a problem of its own", by=by)
        tx.on_commit(parts.known.forget)
    return second


_KEPT = frozenset({"service", "kind", "code", "severity", "ignore_case", "means"})


async def _counted(parts: Parts, tx: Transaction, target: KnownIssue, issue: KnownIssue, sign: int) -> KnownIssue:
    """Add what is known of `issue` to `target`, or take it away."""
    now_stands = await _held(parts, tx, target)
    if sign > 0:
        now_stands = replace(
            now_stands,
            last_window=max(now_stands.last_window, issue.last_window),
            first_seen=min(filter(None, (now_stands.first_seen, issue.first_seen)), default=None),
            last_seen=max(filter(None, (now_stands.last_seen, issue.last_seen)), default=None),
        )
    await tx.learning.add_counts(now_stands, sign * issue.occurrences, sign * issue.unfixed)
    for (_, remedy), brought in (await tx.learning.evidence([scope_of_issue(issue.id)])).items():
        scope = scope_of_issue(target.id)
        own = await tx.learning.take_evidence(scope, remedy)
        now = parts.clock.now()
        await tx.learning.save_evidence(scope, remedy, together(as_of(own, now), as_of(brought, now), sign))
    counted = await tx.learning.issue(target.id)
    assert counted is not None
    return counted


async def _held(parts: Parts, tx: Transaction, issue: KnownIssue) -> KnownIssue:
    """Save an issue, which locks its row, and return it with all that was counted until then."""
    await tx.learning.save(issue, parts.clock.now())
    stands = await tx.learning.issue(issue.id)
    assert stands is not None
    return stands


def together(own: Evidence, brought: Evidence, sign: int) -> Evidence:
    """Return what both say of a remedy; with -1 what is left without the second."""
    return replace(
        own,
        tried=max(own.tried + sign * brought.tried, 0),
        verified=max(own.verified + sign * brought.verified, 0),
        ineffective=max(own.ineffective + sign * brought.ineffective, 0),
        undone=max(own.undone + sign * brought.undone, 0),
        good=max(own.good + sign * brought.good, 0.0),
        bad=max(own.bad + sign * brought.bad, 0.0),
        failures_in_a_row=max(own.failures_in_a_row, brought.failures_in_a_row) if sign > 0 else own.failures_in_a_row,
    )
