"""Remedies that people pair with known issues: what a person pairs is trusted at once, whatever is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunella.core import redact
from prunella.core.errors import InvalidInput
from prunella.core.issues import Binding, KnownIssue
from prunella.core.records import Level
from prunella.core.services import Service
from prunella.core.states import IncidentState
from prunella.diagnosis.known import is_of
from prunella.engine import patrol, trail
from prunella.engine.learning import evidence
from prunella.engine.learning.curation import INCIDENTS_MAX, taken
from prunella.engine.parts import Parts
from prunella.remedies.known import must_take
from prunella.store.contract import Transaction, again_on_conflict

_LEFT_ALONE = frozenset({IncidentState.HEALING, IncidentState.SUPPRESSED})
"""Incidents that are not woken: a worker is at it, or a person wanted silence."""


@again_on_conflict
async def bind(
    parts: Parts,
    issue_id: str,
    remedy: str,
    parameters: Mapping[str, Any],
    *,
    by: str,
    level: Level = Level.L1,
    reason: str = "",
    seen: int | None = None,
) -> KnownIssue | None:
    """Pair an issue with a remedy, or pair them anew; its open incidents are tried with it at once.

    Failures in a row are forgiven, since whoever binds it anew knows of them; all else that is known of it stays.

    Raises:
        InvalidInput: there is no such remedy, it takes other parameters, or it can do nothing for the issue's service.
    """
    async with parts.store.transaction() as tx:
        issue = await taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        _must_fit(parts, issue, remedy)
        must_take(parts.bindable[remedy], parameters)
        _must_be_open(parameters)
        pairing = Binding(remedy=remedy, parameters=dict(parameters), level=level, by=by, trusted=True)
        others = [one for one in issue.remedies if one.remedy != remedy]
        bound = await tx.learning.save(replace(issue, remedies=(*others, pairing)), parts.clock.now())
        await tx.learning.forgive(evidence.scope_of_issue(issue.id), remedy)
        told = f"{remedy} at {pairing.level.value}" + (f": {reason}" if reason else "")
        await trail.note(parts, tx, "issue.bound", issue.id, reason=told, by=by)
        await _wake(parts, tx, issue.id)
        tx.on_commit(parts.known.forget)
    return bound


@again_on_conflict
async def unbind(
    parts: Parts, issue_id: str, remedy: str, *, by: str, reason: str = "", seen: int | None = None
) -> KnownIssue | None:
    """Part an issue from a remedy; what became of it so far stays known."""
    async with parts.store.transaction() as tx:
        issue = await taken(parts, tx, issue_id, seen)
        if issue is None:
            return None
        if issue.binding(remedy) is None:
            bound = ", ".join(one.remedy for one in issue.remedies) or "none"
            raise InvalidInput(f"{remedy[:60]!r} is not bound to {issue.id}; bound: {bound}", pointer="/remedy")
        left = tuple(one for one in issue.remedies if one.remedy != remedy)
        parted = await tx.learning.save(replace(issue, remedies=left), parts.clock.now())
        told = remedy + (f": {reason}" if reason else "")
        await trail.note(parts, tx, "issue.unbound", issue.id, reason=told, by=by)
        tx.on_commit(parts.known.forget)
    return parted


def concerned(parts: Parts, issue: KnownIssue) -> list[Service]:
    """Return the configured services that an issue is about; all where it names none."""
    return [one for name, one in sorted(parts.services.items()) if is_of(issue.service, (name, *one.vendors))]


def misfit(parts: Parts, issue: KnownIssue, remedy: str) -> str | None:
    """Return why a remedy can do nothing about an issue, None where it can for at least one of its services."""
    reasons = [parts.bindable[remedy].misfit(service) for service in concerned(parts, issue)]
    return reasons[0] if reasons and all(reasons) else None


def _must_fit(parts: Parts, issue: KnownIssue, remedy: str) -> None:
    if remedy not in parts.bindable:
        known = ", ".join(sorted(parts.bindable)) or "none"
        raise InvalidInput(f"there is no remedy {remedy[:60]!r} to bind; known: {known}", pointer="/remedy")
    reason = misfit(parts, issue, remedy)
    if reason is not None:
        raise InvalidInput(f"{remedy} can do nothing here: {reason}", pointer="/remedy")


async def _wake(parts: Parts, tx: Transaction, issue_id: str) -> None:
    """Let the open incidents of an issue begin anew, with nothing tried."""
    for found in await tx.incidents.open_of_issue(issue_id, most=INCIDENTS_MAX):
        incident = await tx.incidents.take(found.id)
        if incident.is_open and incident.state not in _LEFT_ALONE:
            await patrol.wake(parts, tx, incident, by_person=True)


def _must_be_open(parameters: Mapping[str, Any]) -> None:
    """Refuse a secret: parameters stand in the database and on pages, and a remedy can ask for secrets itself."""
    for name, value in parameters.items():
        if redact.scrub_tree({name: value}) != {name: value}:
            raise InvalidInput(
                f"{redact.scrub(name)[:60]!r} looks like a secret, and parameters are shown; "
                "let the remedy read it from its own environment",
                pointer=f"/parameters/{redact.scrub(name)[:60]}",
            )
