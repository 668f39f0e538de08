"""Diagnosis, policy and history in, plan out. Pure: the same case gives the same plan, so `explain` can replay it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prunella.core.clock import Rng
from prunella.core.issues import Evidence, KnownIssue
from prunella.core.records import Category, Credential, Diagnosis, Failure, Gate, Incident, Level, Operation
from prunella.core.services import Service
from prunella.engine.learning import evidence
from prunella.engine.pauses import Rest
from prunella.guard import backoff
from prunella.remedies.known import Bindable

TRIES = {Category.AUTH: 3, Category.RATE_LIMIT: 3, Category.NETWORK: 3, Category.DATA: 0, Category.UNKNOWN: 1}
"""How often an event is replayed before it rests (document B)."""

INLINE_WAIT_MAX_S = 10.0
"""A longer wait becomes a due time instead of a short backoff (document B)."""

WAIT_MAX_S = 31 * 24 * 3600.0
"""No service can ask for more silence than this; a longer wait is cut and marked."""

WAVE_MAX = 64
"""How many requests go at once when all goes well; larger waves were no faster (python -m bench backlog)."""

_FRESH_S = 30.0
_GOOD_FOR_S = 60.0  # refused sooner: the token is not the trouble; refused later: it may have ended
_STATUS_CONFIDENCE = 0.95  # what a bare 401 or 403 is worth; more means that a machine-readable code spoke


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known about an incident's problem.

    Args:
        remedies: those of its bindings that are registered here, by name.
        effects: (scope, remedy) -> what became of it.
    """

    issue: KnownIssue
    remedies: Mapping[str, Bindable]
    effects: Mapping[tuple[str, str], Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that is known about an incident at the moment of deciding.

    Args:
        due: operations that may be replayed now, oldest first.
        operations: how many operations the incident has, by state.
        quarantined: why the newest operation in quarantine is there.
        in_flight: calls to this service that are under way in any process.
        rest: what holds every remedy back: the kill switch, or a maintenance window.
        known: what is known about the problem, where it was seen before and something is bound to it.
        crowd: incidents of the service that want their turn now, where not all can have it.
    """

    incident: Incident
    failure: Failure
    diagnosis: Diagnosis
    service: Service | None
    gate: Gate
    credential: Credential | None
    due: tuple[Operation, ...]
    operations: dict[str, int]
    quarantined: str | None
    in_flight: int
    now: datetime
    rest: Rest | None = None
    known: Standing | None = None
    crowd: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next.

    Args:
        remedy: name of the remedy, None where nothing can be done by machine.
        action: the plan in words, shown outside as `action_taken`.
        targets: operations to replay, at most one wave.
        stale_version: the tokens that are known to be bad.
        person: True where only a person can move this on.
        fix: the bound remedy of a known issue that this is; its effect is learned.
        level: how much of it the machine may do by itself, whatever the incident's own level.
        parameters: what a bound remedy is given.
        digest: what a person's answer to this is bound to.
    """

    procedure: str
    remedy: str | None
    action: str
    targets: tuple[Operation, ...] = ()
    stale_version: int | None = None
    person: bool = False
    fix: str | None = None
    level: Level = Level.L0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


def choose(case: Case) -> Plan:
    """Pick the next step for an incident."""
    procedure = f"recover.{case.incident.category.value}"
    if case.incident.category is Category.DATA and not is_repaired(case.incident):
        return Plan(
            procedure=procedure,
            remedy=None,
            person=True,
            action="no retry: the data has to be corrected and sent again",
        )
    if _wants_new_token(case):
        return _refresh(case, procedure)
    if case.due:
        targets = case.due[: case.incident.wave]
        return Plan(procedure=procedure, remedy="replay", targets=targets, action="replay the original request")
    if case.operations.get("waiting") or case.operations.get("running"):
        return Plan(procedure=procedure, remedy=None, action="retry scheduled")
    if case.operations.get("dead"):
        return Plan(procedure=procedure, remedy=None, person=True, action=f"request in quarantine: {case.quarantined}")
    if case.service is not None and case.service.health is not None and case.incident.attempts < 3:
        return Plan(procedure=procedure, remedy="probe", action="check the service's health")
    return Plan(procedure=procedure, remedy=None, action="wait for a success signal")


def first_wait_s(case: Case, rng: Rng) -> float:
    """Return the wait before the first try of an event (document B; DECISIONS: waits)."""
    return wait_s(case.incident.category, case.diagnosis, 1, rng)


def wait_s(category: Category, diagnosis: Diagnosis, attempt: int, rng: Rng) -> float:
    """Return the wait before try number `attempt` (from 1), given what the last failure was."""
    if category is Category.AUTH and diagnosis.category is Category.AUTH:
        return 0.0  # the token is the cure; waiting adds nothing
    if category is Category.UNKNOWN and diagnosis.retry_after_s is None:
        return backoff.at_least_s(1.0, rng)
    step = backoff.recovery_wait_s(attempt, rng)
    asked = diagnosis.retry_after_s
    if asked is None:
        return step
    if asked < INLINE_WAIT_MAX_S:
        return max(asked, step)
    return min(asked, WAIT_MAX_S)


def cut(asked_s: float | None) -> str | None:
    """Say that a wait was cut, where it was."""
    if asked_s is None or asked_s <= WAIT_MAX_S:
        return None
    return f"asked for {asked_s / 86400:.0f} days, cut to {WAIT_MAX_S / 86400:.0f} days"


def _wants_new_token(case: Case) -> bool:
    """Tell whether the tokens at hand are the ones that failed."""
    if case.service is None or case.service.oauth is None or case.credential is None:
        return case.incident.category is Category.AUTH
    if case.diagnosis.kind == "auth.permission" and case.diagnosis.confidence > _STATUS_CONFIDENCE:
        return False
    refused = [one for one in case.due if (one.last_kind or "").startswith("auth.")]
    if any(one.token_version == case.credential.version for one in refused) and not refreshed_lately(case):
        return True
    if case.credential.refresh_sealed is None and case.due and not refused:
        return False  # nothing to refresh with, but the access token may be newer than the failure
    return case.incident.category is Category.AUTH and (not refreshed_for_it(case) or _expired(case))


def refreshed_for_it(case: Case) -> bool:
    """Tell whether the tokens were refreshed for this failure, or so shortly before that it may not have seen them."""
    refreshed = case.credential.refreshed_at if case.credential else None
    return refreshed is not None and refreshed >= case.incident.last_seen - timedelta(seconds=_FRESH_S)


def refreshed_lately(case: Case) -> bool:
    """Tell whether the tokens were refreshed for this failure and can't have ended since: it may rest for hours."""
    refreshed = case.credential.refreshed_at if case.credential else None
    return refreshed_for_it(case) and refreshed is not None and refreshed >= case.now - timedelta(seconds=_GOOD_FOR_S)


def is_repaired(incident: Incident) -> bool:
    """Tell whether a bound remedy acted, and has yet to be proven or disproven."""
    return incident.memory.get("fix", {}).get("now") not in (None, evidence.WAIT)


def renewal(case: Case) -> int | None:
    """Return the version of the tokens that a known issue's `refresh_auth` replaces; None where there is no need.

    Where tokens are the diagnosed trouble, the ordinary plan renews them, with all that it knows of them.
    """
    if case.credential is None or case.credential.needs_person is not None or refreshed_lately(case):
        return None
    ordinary = case.incident.category is Category.AUTH or case.credential.refresh_sealed is None
    return None if ordinary else case.credential.version


def _expired(case: Case) -> bool:
    assert case.credential is not None
    return case.credential.expires_at is not None and case.credential.expires_at <= case.now


def _refresh(case: Case, procedure: str) -> Plan:
    name = case.incident.service
    if case.service is not None and case.service.oauth is None:
        action = (
            f"a person has to renew the credentials of {name}: it has no oauth section, so nothing can be refreshed"
        )
        return Plan(procedure=procedure, remedy=None, person=True, action=action)
    if case.service is not None and case.credential is None:
        action = f"a person has to connect {name}: run prunella credentials set {name}"
        return Plan(procedure=procedure, remedy=None, person=True, action=action)
    if case.credential is not None and case.credential.needs_person is not None:
        return Plan(procedure=procedure, remedy=None, person=True, action=case.credential.needs_person)
    version = case.credential.version if case.credential else None
    return Plan(
        procedure=procedure,
        remedy="refresh_token",
        action="refresh the OAuth token and replay the original request",
        stale_version=version,
    )
