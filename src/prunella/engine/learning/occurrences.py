"""Learn what failed: count what is known, remember what is not, and make known what keeps coming back.

One look at a time in the whole deployment, apart from intake: an arrival never waits for it. What counts is a stretch
of time in which something failed, not how often: retries of one call and a storm of thousands are one occurrence.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from prunella.core.errors import StoreError
from prunella.core.issues import MACHINE, Candidate, IssueState, KnownIssue, Learning
from prunella.core.records import Failure, Incident, Severity
from prunella.engine.learning import evidence, issues, judging, promotion
from prunella.engine.parts import LEARN, Parts
from prunella.engine.patrol import Round
from prunella.store.contract import Transaction, again_on_conflict

_EVERY_S = 300.0
_INCIDENTS = 500
_BATCHES = 4
_BREATH = timedelta(seconds=1)
PATTERNS_MAX = 10_000
"""A flood of ever new errors pushes out what was not seen for longest, and nothing else."""
_QUIET = timedelta(hours=24)
"""After so long without it, what a person resolved and comes back is a regression."""
_DORMANT_AFTER = timedelta(days=90)


async def learn(parts: Parts) -> Mapping[str, Any]:
    """Learn from incidents with events that were not learned from yet; return what was counted.

    After an outage much waits: the rest has its turn at the next look, which then comes at once.
    """
    seen = credited = 0
    for _ in range(_BATCHES):
        count = await _look(parts)
        seen += count
        if count < _INCIDENTS:
            credited = await _credit(parts)
            break
    else:  # what came back may be among the rest: nothing is credited before that is looked at
        await parts.runner.submit("procedure", LEARN, at=parts.clock.now() + _BREATH)
    promoted = await promotion.promote(parts)
    now = parts.clock.now()
    async with parts.store.transaction() as tx:
        forgotten = await tx.learning.forget_beyond(PATTERNS_MAX)
        dormant = await tx.learning.sleep(now - _DORMANT_AFTER, now)
        watched_until = await tx.incidents.next_watched(now)
    if watched_until is not None and watched_until < now + timedelta(seconds=_EVERY_S):
        await parts.runner.submit("procedure", LEARN, at=watched_until)
    return {"seen": seen, "credited": credited, "promoted": promoted, "forgotten": forgotten, "dormant": dormant}


async def _look(parts: Parts) -> int:
    """Count what failed since the last look; return at how many incidents was looked.

    What is counted and that it was counted are written apart: no incident is locked while an issue is, which is the
    order of all others. A death in between does no harm, for a stretch of time that counted already counts no more.
    """
    async with parts.store.transaction() as tx:
        fresh = await tx.incidents.to_learn(most=_INCIDENTS)
        earlier = [one.previous_id for one in fresh if one.previous_id is not None]
        watched = {one.id for one in await tx.incidents.some(earlier) if one.watched_until is not None}
    if not fresh:
        return 0
    for one in fresh:
        if one.previous_id in watched:
            await _shielded(parts, judging.came_back(parts, one.previous_id, one))
    await _shielded(parts, _count_unknown(parts, [one for one in fresh if one.issue_id is None]))
    for issue_id in sorted({one.issue_id for one in fresh if one.issue_id is not None}):
        await _shielded(parts, _occurred(parts, issue_id, [one for one in fresh if one.issue_id == issue_id]))
    async with parts.store.transaction() as tx:
        await tx.incidents.learned({one.id: one.count for one in fresh})
    return len(fresh)


async def _shielded(parts: Parts, one: Coroutine[Any, Any, object]) -> bool:
    """Let nothing that is odd about one problem keep the others from being learned; False where it failed."""
    try:
        await one
    except StoreError:
        raise  # the next look does it all again
    except Exception as error:
        parts.listeners.emit("engine.failed", handler=LEARN, error=type(error).__name__)
        return False
    finally:
        await parts.give_way()
    return True


@again_on_conflict
async def _count_unknown(parts: Parts, incidents: Sequence[Incident]) -> None:
    """Count what failed and is not known: once per problem and stretch of time, however many accounts it hit."""
    async with parts.store.transaction() as tx:
        failures = await tx.signals.failures([one.signal_id for one in incidents])
        for within in _stretches(parts, [one for one in incidents if one.signal_id in failures]):
            newest = {one.fingerprint: one for one in within}
            found = [_candidate(parts, one, failures[one.signal_id]) for one in newest.values()]
            await tx.learning.seen_again(found, _apart(parts))


async def _credit(parts: Parts) -> int:
    """Credit the remedies after which nothing came back; return how many."""
    credited = 0
    async with parts.store.transaction() as tx:
        lasting = await tx.incidents.watched(parts.clock.now(), most=_INCIDENTS)
    for incident in lasting:
        credited += await _shielded(parts, judging.lasted(parts, incident.id))
    return credited


@again_on_conflict
async def _occurred(parts: Parts, issue_id: str, incidents: Sequence[Incident]) -> None:
    """Count the occurrences of a known issue, and face what follows from them."""
    async with parts.store.transaction() as tx:
        for within in _stretches(parts, incidents):
            before = await issues.taken(parts, tx, issue_id)
            if before is not None:  # otherwise its pack is gone
                await _count_one(parts, tx, before, within[-1])


def _stretches(parts: Parts, incidents: Sequence[Incident]) -> list[list[Incident]]:
    """Part incidents by the stretch of time in which they were seen last, oldest first."""

    def window(one: Incident) -> int:
        return window_of(one.last_seen, parts.learning.window_s)

    return [list(within) for _, within in groupby(sorted(incidents, key=lambda one: one.last_seen), key=window)]


async def _count_one(parts: Parts, tx: Transaction, before: KnownIssue, newest: Incident) -> None:
    issue = await tx.learning.occurred(before.id, _ms(newest.last_seen), newest.last_seen, _apart(parts))
    if issue is None:  # counted already
        return
    if issue.resolved_at is not None and issue.resolved_at >= newest.last_seen:  # repaired before we looked
        await tx.learning.repaired(issue.id)
        return
    if not issue.is_open:
        issue = await _came_back(parts, tx, before, issue, newest)
    why = _too_often(issue, parts.learning)
    if why is not None and issue.escalated_at is None:
        await issues.escalate(parts, tx, issue, why, newest)


async def _came_back(
    parts: Parts, tx: Transaction, before: KnownIssue, issue: KnownIssue, incident: Incident
) -> KnownIssue:
    """Open an issue again; where a person thought it solved for a day or more, what was learned counts half."""
    quiet_since = max(filter(None, (before.last_seen, before.resolved_at)), default=None)
    by_person = issue.state is IssueState.RESOLVED and issue.resolved_by not in (None, MACHINE)
    if by_person and quiet_since is not None and incident.last_seen - quiet_since >= _QUIET:
        await tx.learning.halve_evidence(evidence.scope_of_issue(issue.id))
        return await issues.move(
            parts, tx, issue, IssueState.REGRESSED, f"seen again after it was resolved by {issue.resolved_by}"
        )
    return await issues.move(parts, tx, issue, IssueState.ACTIVE, f"seen again in incident {incident.id}")


def _too_often(issue: KnownIssue, learning: Learning) -> str | None:
    """Say why a person should hear of an issue that comes back and back (document C: at 10 occurrences)."""
    if issue.unfixed < learning.escalate_at:
        return None
    return f"high occurrence rate: {issue.unfixed} occurrences without a verified repair"


def _candidate(parts: Parts, incident: Incident, failure: Failure) -> Candidate:
    """Return what an incident says about its pattern (document C: component, action, impact, environment)."""
    environment = "development" if parts.development else "production"
    return Candidate(
        fingerprint=incident.fingerprint,
        service=incident.service,
        kind=incident.kind,
        code=failure.code,
        component=failure.service,
        action=failure.operation or failure.source,
        impact=incident.severity,
        environment=environment,
        message=failure.message[:1000],
        confidence=confidence(failure, incident.severity, environment),
        occurrences=1,
        last_window=_ms(incident.last_seen),
        first_seen=incident.first_seen,
        last_seen=incident.last_seen,
    )


def confidence(failure: Failure, impact: Severity, environment: str) -> float:
    """Return how sure it is that an error is worth knowing (document C section 3.1)."""
    parts = (
        0.5,
        0.2 if failure.frames else 0.0,
        0.1 if environment == "production" else 0.0,
        0.2 if impact is Severity.CRITICAL else 0.0,
    )
    return min(round(sum(parts), 3), 1.0)


def window_of(moment: datetime, window_s: float) -> int:
    """Return the stretch of time that a moment lies in."""
    return int(moment.timestamp() // window_s)


def _apart(parts: Parts) -> int:
    """Return how far apart two occurrences are at least: were it the next stretch, a storm at its edge would be two."""
    return int(parts.learning.window_s * 1000)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


ROUND = Round(LEARN, _EVERY_S, learn, quiet=True)
