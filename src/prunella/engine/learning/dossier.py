"""All that is known about known issues: the list, one with what became of its remedies, and what may become known.

Reads only. What stands in the tables takes the place of what is shipped under the same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunella.core.issues import Binding, Evidence, KnownIssue
from prunella.core.records import Incident, Level
from prunella.diagnosis.known import Matcher
from prunella.engine.learning import evidence, issues
from prunella.engine.learning.evidence import (
    FAILURES_IN_A_ROW,
    NOTHING,
    TRUSTED_FROM,
    VERIFIED_MIN,
    WAIT,
    Option,
    scope_of_issue,
    scope_of_kind,
)
from prunella.engine.learning.known import pattern_of
from prunella.engine.learning.pairing import misfit
from prunella.engine.parts import Parts
from prunella.remedies.known import Bindable
from prunella.store.contract import Transaction
from prunella.store.known import Asked

_RECENT = 10
_PACK = "pack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of one remedy at one issue.

    Args:
        binding: how it is bound; None: it is not, or not any more.
        own: outcomes at this issue, as of now.
        expected: share of good outcomes that it promises here.
        lower_bound: what that share hardly lies below.
        lift: how much more it promises than waiting; None while either is hardly known.
        lift_between: the bounds of that at 95 %; it has shown that it helps where both are above 0.
        why: why it may act at its level, or may not.
    """

    remedy: str
    binding: Binding | None
    own: Evidence
    expected: float
    lower_bound: float
    lift: float | None
    lift_between: tuple[float, float] | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A remedy that a person may bind; `misfit` says why it could do nothing here."""

    remedy: Bindable
    misfit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """One issue with all that is known about it.

    Args:
        records: bound remedies first, then others with outcomes; waiting among them.
        joined: ids of the issues that people joined with it.
        warning: what is unwise about its expression.
    """

    issue: KnownIssue
    records: Sequence[Record]
    choices: Sequence[Choice]
    joined: Sequence[str]
    incidents: Sequence[Incident]
    warning: str | None


async def named(parts: Parts, tx: Transaction, asked: Asked) -> list[str]:
    """Return the ids of the known issues that are asked for, in order: those in the tables, and those shipped."""
    stored = set(await tx.known.ids(Asked()))
    fitting = await tx.known.ids(asked)
    shipped = (issues.of_pattern(parts, one) for name, one in parts.known.shipped.items() if name not in stored)
    return sorted([*fitting, *(one.id for one in shipped if asked.fits(one))])


async def whole(parts: Parts, tx: Transaction, ids: Sequence[str]) -> list[KnownIssue]:
    """Return these issues, in their order."""
    stored = {one.id: one for one in await tx.learning.some_issues(ids)}
    return [stored.get(name) or issues.of_pattern(parts, parts.known.shipped[name]) for name in ids]


async def outcomes(parts: Parts, tx: Transaction, shown: Iterable[KnownIssue]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return issue -> remedy -> how often it was tried there, and how often verified; for many at once."""
    scopes = {scope_of_issue(one.id): one.id for one in shown}
    found: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in scopes.values()}
    for (scope, remedy), one in (await tx.learning.evidence(list(scopes))).items():
        found[scopes[scope]][remedy] = (one.tried, one.verified)
    return found


async def of(parts: Parts, tx: Transaction, issue_id: str) -> Dossier | None:
    """Return all about one issue, None where there is no such."""
    issue = await issues.known(parts, tx, issue_id)
    if issue is None:
        return None
    joined = await tx.known.joined(issue_id)
    incidents = await tx.incidents.list(most=_RECENT, issue_id=[issue_id, *joined])
    kind = issue.kind or (incidents[0].kind if incidents else None)
    return Dossier(
        issue=issue,
        records=await _records(parts, tx, issue, kind),
        choices=[Choice(remedy=one, misfit=misfit(parts, issue, name)) for name, one in sorted(parts.bindable.items())],
        joined=joined,
        incidents=incidents,
        warning=Matcher().add(pattern_of(issue)),
    )


async def _records(parts: Parts, tx: Transaction, issue: KnownIssue, kind: str | None) -> list[Record]:
    here, elsewhere = scope_of_issue(issue.id), scope_of_kind(kind or "")
    known = await tx.learning.evidence([here, elsewhere] if kind is not None else [here])
    now = parts.clock.now()
    as_of_now = {key: evidence.as_of(one, now) for key, one in known.items()}
    tried = [remedy for (scope, remedy), one in known.items() if scope == here and one.tried]
    names = dict.fromkeys([*(one.remedy for one in issue.remedies), *sorted(tried, key=lambda one: (one == WAIT, one))])
    waiting = as_of_now.get((here, WAIT)) or as_of_now.get((elsewhere, WAIT), NOTHING)
    return [
        _record(
            parts,
            issue.binding(name),
            name,
            as_of_now.get((here, name), NOTHING),
            as_of_now.get((elsewhere, name), NOTHING),
            waiting,
        )
        for name in names
    ]


def _record(
    parts: Parts, binding: Binding | None, name: str, own: Evidence, elsewhere: Evidence, waiting: Evidence
) -> Record:
    lift = None if name == WAIT else evidence.lift(own, waiting)
    return Record(
        remedy=name,
        binding=binding,
        own=own,
        expected=evidence.expected(Option(remedy=name, own=own, elsewhere=elsewhere)),
        lower_bound=evidence.lower_bound(own.good, own.bad),
        lift=lift,
        lift_between=evidence.lift_between(own, waiting) if lift is not None else None,
        why=why(name, binding, own, parts.bindable),
    )


def why(name: str, binding: Binding | None, own: Evidence, bindable: Mapping[str, Bindable]) -> str:
    """Say in words how far a remedy may act by itself, and why no further."""
    if name == WAIT:
        return "nothing is done, now and then: what gets well by itself is no remedy's merit"
    if binding is None:
        return "not bound: it is not tried"
    if name not in bindable:
        return "no remedy of this name is registered here: it is not tried"
    if binding.level is Level.L3:
        return f"left to a person, as {binding.by} said"
    if binding.trusted and binding.learned:
        return f"earned: {own.verified} verified outcomes, lower bound {_bound(own):.2f}"
    if binding.trusted:
        return "shipped with the issue" if binding.by == _PACK else f"bound by {binding.by}"
    origin = "learned" if binding.learned else ("from a pack" if binding.by == _PACK else f"bound by {binding.by}")
    asks = f"{origin}; a person is asked each time"
    remedy = bindable[name]
    if own.failures_in_a_row >= FAILURES_IN_A_ROW:
        return f"{asks}: it failed {own.failures_in_a_row} times in a row"
    if not (remedy.reversible or remedy.idempotent):
        return f"{asks}: it can neither be undone nor repeated safely"
    return (
        f"{asks}, until {VERIFIED_MIN} outcomes are verified and the lower bound is {TRUSTED_FROM}; "
        f"now {own.verified} and {_bound(own):.2f}"
    )


def _bound(own: Evidence) -> float:
    return evidence.lower_bound(own.good, own.bad)
