"""What became of a bound remedy, and what that says of the trust in it.

A remedy is credited only where the incident is proven well after it, and stays so; it loses its trust by failing,
whoever gave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from prunella.core.issues import Binding, Effect, Evidence, KnownIssue
from prunella.core.records import Incident
from prunella.core.states import IncidentState
from prunella.engine import trail
from prunella.engine.follow import Result, diagnose
from prunella.engine.learning import evidence, issues
from prunella.engine.learning.evidence import WAIT, scope_of_issue, scope_of_kind
from prunella.engine.parts import Parts
from prunella.engine.plan import Case, Plan
from prunella.remedies.known import Bindable
from prunella.store.contract import Transaction, again_on_conflict

_WATCHED_WINDOWS = 2
"""Stretches of time without the problem after which its repair counts: what is back sooner was not repaired."""
_A_PERSONS = frozenset({IncidentState.ESCALATED, IncidentState.SUPPRESSED})
_UNDER_WAY = timedelta(seconds=10)
"""What failed before a remedy had acted is reported so much later at most."""


def fix_of(incident: Incident) -> Mapping[str, Any]:
    """Return what an incident remembers of its repairs: `tried`, what is judged `now`, the plan `approved`."""
    return dict(incident.memory.get("fix", {}))


def with_fix(incident: Incident, **changes: Any) -> Incident:
    """Return an incident that remembers more of its repairs."""
    return replace(incident, memory={**incident.memory, "fix": {**fix_of(incident), **changes}})


def acted(incident: Incident, plan: Plan, result: Result, now: datetime) -> Incident:
    """Return the incident after a remedy acted: what follows is judged as its effect; busy counts as not tried."""
    assert plan.fix is not None
    if result.outcome.busy:
        return with_fix(incident, tried=[one for one in fix_of(incident).get("tried", ()) if one != plan.fix])
    return with_fix(incident, now=plan.fix if result.outcome.ok else None, since=now.isoformat())


def disproven(case: Case, incident: Incident, results: Sequence[Result], due: datetime | None) -> bool:
    """Tell whether what was tried did not help: the same problem again, in a replay or a probe.

    Args:
        due: when the next replay is; where none is, whatever else failed is no help, either.
    """
    if fix_of(incident).get("now") is None:
        return False
    failed = [one.outcome for one in results if not one.outcome.ok and not one.outcome.busy]
    if not failed or len(failed) < len([one for one in results if not one.outcome.busy]):
        return False
    said = [diagnose(case, one) for one in failed]
    return due is None or any(one is not None and one.kind == incident.kind for one in said)


async def seen_again(parts: Parts, tx: Transaction, case: Case) -> Case:
    """Judge what acted by what failed after it: where there is nothing to replay, nothing else speaks against it."""
    memory = fix_of(case.incident)
    if memory.get("now") is None or case.incident.last_seen <= datetime.fromisoformat(memory["since"]) + _UNDER_WAY:
        return case
    return replace(case, incident=await failed(parts, tx, case.incident, memory["now"]))


async def given_up(parts: Parts, tx: Transaction, incident: Incident) -> Incident:
    """Judge what acted at an incident that is passed on to people: it did not help."""
    remedy = fix_of(incident).get("now")
    return incident if remedy is None else await failed(parts, tx, incident, remedy)


async def failed(parts: Parts, tx: Transaction, incident: Incident, remedy: str) -> Incident:
    """Note that a remedy did not help, and let the next one have its turn; having waited is a turn, too."""
    await note(parts, tx, incident, remedy, Effect.INEFFECTIVE)
    if incident.issue_id is not None:
        await tx.runs.disprove(incident.id, incident.issue_id)
    tried = fix_of(incident).get("tried", ())
    return with_fix(incident, now=None, tried=tried if remedy in tried else [*tried, remedy])


def watched_until(parts: Parts, incident: Incident) -> datetime | None:
    """Return until when a return of what is proven well now counts against what repaired it."""
    if _merit(incident) is None:
        return None
    return parts.clock.now() + timedelta(seconds=_WATCHED_WINDOWS * parts.learning.window_s)


def _merit(incident: Incident) -> str | None:
    """Return whose merit it is that an incident is well; None where a person had it, or it shall teach nothing."""
    if incident.issue_id is None or incident.forced or incident.state in _A_PERSONS:
        return None
    remedy: str | None = fix_of(incident).get("now")
    return remedy


async def proven(parts: Parts, tx: Transaction, incident: Incident, how: str) -> None:
    """Note on an incident's issue that it is proven well; what did it is credited once that has lasted."""
    if incident.issue_id is None or incident.forced:
        return
    remedy = _merit(incident)
    if remedy is None or remedy == WAIT:
        await tx.learning.repaired(incident.issue_id)  # it is well, by the ordinary plan or a person
    else:
        await issues.repaired(parts, tx, incident.issue_id, f"{remedy}: {how}")


@again_on_conflict
async def lasted(parts: Parts, incident_id: str) -> None:
    """Credit what repaired an incident that stayed well."""
    async with parts.store.transaction() as tx:
        incident = await tx.incidents.take(incident_id)
        if incident.watched_until is not None:
            await _end_watch(parts, tx, incident, Effect.VERIFIED)


@again_on_conflict
async def came_back(parts: Parts, incident_id: str, later: Incident) -> None:
    """Count it against what repaired an incident that the same problem came back before that was sure to last.

    What was under way while it was repaired is no return.
    """
    async with parts.store.transaction() as tx:
        incident = await tx.incidents.take(incident_id)
        if incident.watched_until is None or incident.resolved_at is None:
            return
        if later.first_seen <= incident.watched_until and later.last_seen > incident.resolved_at + _UNDER_WAY:
            await _end_watch(parts, tx, incident, Effect.UNDONE)


async def _end_watch(parts: Parts, tx: Transaction, incident: Incident, effect: Effect) -> None:
    await tx.incidents.save(replace(incident, watched_until=None))
    await note(parts, tx, incident, fix_of(incident)["now"], effect)


async def note(parts: Parts, tx: Transaction, incident: Incident, remedy: str, effect: Effect) -> None:
    """Write down what became of a remedy at an incident, and what that says of the trust in it."""
    if incident.issue_id is None or incident.forced:  # what somebody made happen on purpose teaches nothing
        return
    issue = await issues.taken(parts, tx, incident.issue_id)  # issues before evidence, as everywhere
    if issue is None:  # its pack is gone
        return
    if remedy != WAIT and effect is not Effect.VERIFIED:
        issue = await issues.not_repaired(parts, tx, issue, incident)
    now, after = parts.clock.now(), evidence.NOTHING
    for scope in (scope_of_kind(incident.kind), scope_of_issue(issue.id)):
        after = evidence.noted(await tx.learning.take_evidence(scope, remedy), effect, now)
        await tx.learning.save_evidence(scope, remedy, after)
    reason = f"{remedy}: {effect.value} ({after.verified} of {after.tried} verified here)"
    await trail.note(parts, tx, f"remedy.{effect.value}", issue.id, reason=reason, incident=incident.id)
    await _settle_trust(parts, tx, issue, incident, remedy, after)
    tx.on_commit(
        lambda: parts.listeners.emit(
            "remedy.judged", issue=issue.id, service=incident.service, remedy=remedy, effect=effect.value
        )
    )


async def _settle_trust(
    parts: Parts, tx: Transaction, issue: KnownIssue, incident: Incident, remedy: str, known: Evidence
) -> None:
    """Give a pairing the trust that it earned, or take it away at once."""
    binding, acting = issue.binding(remedy), parts.bindable.get(remedy)
    if binding is None or acting is None:
        return
    trusted = is_trusted(binding, acting, known)
    if trusted == binding.trusted:
        return
    changed = replace(binding, trusted=trusted)
    others = tuple(changed if one.remedy == remedy else one for one in issue.remedies)
    await tx.learning.save(replace(issue, remedies=others), parts.clock.now())
    bound = evidence.lower_bound(known.good, known.bad)
    action = "issue.trusted" if trusted else "issue.distrusted"
    reason = (
        f"{remedy}: {known.verified} verified, {known.failures_in_a_row} failures in a row, lower bound {bound:.2f}; "
        f"from now on {changed.acts_at.value}"
    )
    await trail.note(parts, tx, action, issue.id, reason=reason, incident=incident.id)
    tx.on_commit(parts.known.forget)


def is_trusted(binding: Binding, acting: Bindable, known: Evidence) -> bool:
    """Tell whether a pairing may act at its level: what a person gave lasts until it fails, what was learned is earned.

    Only what can be put back, or done twice without harm, earns trust by itself.
    """
    if binding.trusted and not binding.learned:
        return known.failures_in_a_row < evidence.FAILURES_IN_A_ROW
    can_rise = binding.trusted or acting.reversible or acting.idempotent
    return can_rise and evidence.may_act_alone(known, trusted=binding.trusted)
