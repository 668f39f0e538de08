"""Repair what is known: which bound remedy goes next.

Choosing is pure and seeded by the incident; what was weighed stands in `incident.decided`.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from prunella.core.issues import Binding
from prunella.core.records import Category, Incident, Level, Severity
from prunella.engine.learning import evidence, issues
from prunella.engine.learning.evidence import WAIT, Option, scope_of_issue, scope_of_kind
from prunella.engine.learning.judging import fix_of, with_fix
from prunella.engine.parts import LEASE_S, Parts
from prunella.engine.plan import Case, Plan, Standing, renewal
from prunella.engine.proposals import of_issue
from prunella.remedies.known import Bindable
from prunella.store.contract import Transaction

_WAITS_PER_100 = 7
"""Low-risk incidents that only wait at first: without them every remedy of what passes by itself looks good."""
_LOW_RISK = frozenset({Severity.LOW, Severity.MEDIUM})
_PASSES_BY_ITSELF = frozenset({Category.NETWORK, Category.RATE_LIMIT, Category.UNKNOWN})
_WAIT_KNOWN_FROM = 5.0
"""Outcomes of waiting from which on it is weighed against the remedies."""
_NO_SCOPE = frozenset({Level.L2, Level.L3})


async def standing(parts: Parts, tx: Transaction, incident: Incident) -> Standing | None:
    """Read what is known about an incident's problem; None where there is nothing to choose from."""
    issue = await issues.meant(parts, tx, incident.issue_id) if incident.issue_id is not None else None
    if issue is None or not issue.remedies:
        return None
    bound = {one.remedy for one in issue.remedies}
    scopes = [scope_of_issue(issue.id), scope_of_kind(incident.kind)]
    return Standing(
        issue=issue,
        remedies={name: one for name, one in parts.bindable.items() if name in bound},
        effects=await tx.learning.evidence(scopes),
    )


def weigh(case: Case) -> tuple[Case, Plan | None]:
    """Choose the next remedy of a known problem; None: the ordinary plan goes on. What was weighed is in the case."""
    known, memory = case.known, fix_of(case.incident)
    if known is None or case.service is None or memory.get("now") is not None:
        return case, None
    left = [one for one in known.issue.remedies if _may_be_tried(case, one, known.remedies.get(one.remedy), memory)]
    if not left:
        return case, None
    scored = evidence.ranked([*(_option(case, one.remedy) for one in left), *_waiting(case, memory)])
    agreed = next((one for one in left if digest_of(case, one) == memory.get("approved")), None)
    binding = agreed or known.issue.binding(scored[0][1].remedy)
    if binding is None or (agreed is None and _only_waits(case, binding, memory)):
        waiting = with_fix(case.incident, now=WAIT, since=case.now.isoformat())
        return replace(case, incident=replace(waiting, decided=_decided(case, scored, WAIT))), None
    remedy = known.remedies[binding.remedy]
    until = case.now + timedelta(seconds=LEASE_S + remedy.timeout_s)  # nobody takes us for dead while it acts
    incident = replace(case.incident, decided=_decided(case, scored, binding.remedy), lease_until=until)
    return replace(case, incident=incident), _plan(case, binding, remedy)


async def begin(tx: Transaction, incident: Incident, plan: Plan, now: datetime) -> Incident:
    """Return the incident with a remedy noted as tried, before it acts: no death in mid-call repeats it."""
    assert plan.fix is not None
    memory = fix_of(incident)
    if memory.get("approval") is not None and memory.get("approved") == plan.digest:
        await tx.approvals.use(memory["approval"], now)
    return with_fix(incident, tried=[*memory.get("tried", ()), plan.fix], approved=None, approval=None)


def digest_of(case: Case, binding: Binding) -> str:
    """Return what a person's answer is bound to: this remedy with these values at this incident."""
    assert case.known is not None
    bound = [case.incident.id, case.known.issue.id, binding.remedy, dict(binding.parameters)]
    return hashlib.sha256(json.dumps(bound, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _may_be_tried(case: Case, binding: Binding, remedy: Bindable | None, memory: Mapping[str, Any]) -> bool:
    if remedy is None or binding.remedy in memory.get("tried", ()):
        return False
    assert case.service is not None  # looked at before
    if remedy.misfit(case.service) is not None:
        return False
    return remedy.name != "refresh_auth" or renewal(case) is not None


def _option(case: Case, remedy: str) -> Option:
    """Return a remedy with what became of it, as it counts now."""
    known = case.known
    assert known is not None
    acting = known.remedies.get(remedy)
    own = known.effects.get((scope_of_issue(known.issue.id), remedy), evidence.NOTHING)
    elsewhere = known.effects.get((scope_of_kind(case.incident.kind), remedy), evidence.NOTHING)
    return Option(
        remedy=remedy,
        own=evidence.as_of(own, case.now),
        elsewhere=evidence.as_of(elsewhere, case.now),
        risk=acting.risk if acting is not None else -1,
        cost=acting.cost_s if acting is not None else 0.0,
    )


def _waiting(case: Case, memory: Mapping[str, Any]) -> list[Option]:
    """Return waiting as an option, once it is known what comes of it here."""
    option = _option(case, WAIT)
    known = option.own.good + option.own.bad >= _WAIT_KNOWN_FROM
    return [option] if known and _can_wait(case) and not memory.get("tried") else []


def _only_waits(case: Case, binding: Binding, memory: Mapping[str, Any]) -> bool:
    """Tell whether this is one of the few that show what comes of waiting; seeded by the incident."""
    if memory.get("tried") or not _can_wait(case) or binding.acts_at in _NO_SCOPE:
        return False
    return zlib.crc32(case.incident.id.encode()) % 100 < _WAITS_PER_100


def _can_wait(case: Case) -> bool:
    incident = case.incident
    return (
        incident.severity in _LOW_RISK
        and incident.category in _PASSES_BY_ITSELF
        and bool(case.operations.get("waiting"))
    )


def _plan(case: Case, binding: Binding, remedy: Bindable) -> Plan:
    assert case.known is not None
    digest = digest_of(case, binding)
    approved = fix_of(case.incident).get("approved") == digest and binding.acts_at is Level.L2
    given = ", ".join(f"{name}={value}" for name, value in binding.parameters.items())
    return Plan(
        procedure=of_issue(case.known.issue.id),
        remedy=remedy.acts_as,
        action=f"{remedy.words}{f' ({given})' if given else ''}, which is bound to {case.known.issue.id}",
        stale_version=renewal(case) if remedy.name == "refresh_auth" else None,
        fix=binding.remedy,
        level=Level.L0 if approved else binding.acts_at,
        parameters=binding.parameters,
        digest=digest,
    )


def _decided(case: Case, scored: Sequence[tuple[float, Option]], chosen: str) -> dict[str, Any]:
    """Spell what was weighed, for `explain`."""
    assert case.known is not None
    bindings = {one.remedy: one for one in case.known.issue.remedies}
    return {
        "issue": case.known.issue.id,
        "chosen": chosen,
        "waited": chosen == WAIT,
        "at": case.now.isoformat(),
        "options": [
            {
                "remedy": option.remedy,
                "score": round(score, 3),
                "tried": option.own.tried,
                "verified": option.own.verified,
                "ineffective": option.own.ineffective,
                "undone": option.own.undone,
                "lower_bound": round(evidence.lower_bound(option.own.good, option.own.bad), 3),
                "level": bindings[option.remedy].acts_at.value if option.remedy in bindings else Level.L0.value,
            }
            for score, option in scored
        ],
    }
