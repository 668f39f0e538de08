"""How known issues are spelled in answers: in lists, whole, as patterns that may become known, and as packs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from prunella.core.issues import Binding, Candidate, IssueState, KnownIssue, Origin
from prunella.core.records import Incident, Level, Severity
from prunella.core.states import IncidentState
from prunella.diagnosis.templates import template
from prunella.engine.learning.dossier import Choice, Dossier, Record
from prunella.engine.learning.exchange import TakenIn
from prunella.web.api.paging import Out, Time, spell_time

Value = str | int | float | bool
"""What a remedy may be given."""
Outcomes = Mapping[str, tuple[int, int]]
"""Remedy -> how often it was tried, and how often verified."""


class BindingOut(Out):
    """A remedy that stands by for an issue."""

    remedy: str
    parameters: dict[str, Value]
    level: Level
    acts_at: Annotated[Level, Field(description="L2 while it is not trusted: a person is asked each time.")]
    by: str
    trusted: bool
    tried: int
    verified: int

    @classmethod
    def of(cls, one: Binding, outcomes: Outcomes) -> BindingOut:
        """Spell a pairing with how often it helped."""
        tried, verified = outcomes.get(one.remedy, (0, 0))
        return cls(
            remedy=one.remedy,
            parameters=dict(one.parameters),
            level=one.level,
            acts_at=one.acts_at,
            by=one.by,
            trusted=one.trusted,
            tried=tried,
            verified=verified,
        )


class KnownIssueOut(Out):
    """A known issue."""

    id: str
    title: str
    state: IssueState
    origin: Origin
    pattern: str
    ignore_case: bool
    severity: Severity
    service: str | None
    kind: str | None
    code: str | None
    means: str | None
    cause: str
    advice: str
    source: str | None
    tags: list[str]
    remedies: list[BindingOut]
    occurrences: int
    unfixed: Annotated[int, Field(description="Occurrences since it was last repaired and verified.")]
    failed_fixes: Annotated[int, Field(description="Repairs in a row that did not help.")]
    first_seen: Time | None
    last_seen: Time | None
    created_by: str
    resolved_at: Time | None
    resolved_by: str | None
    escalated_at: Time | None
    escalation_reason: str | None
    precision: Annotated[
        float | None, Field(description="Share of stored messages of other problems that it leaves alone.")
    ]
    tested: Annotated[int, Field(description="How many such messages it was tried on.")]
    alias_of: Annotated[str | None, Field(description="The issue that a person joined it with.")]

    @classmethod
    def of(cls, one: KnownIssue, outcomes: Outcomes) -> KnownIssueOut:
        """Spell a known issue."""
        return cls(**facts(one, outcomes))


class RecordOut(Out):
    """What became of one remedy at one issue."""

    remedy: str
    bound: bool
    acts_at: Level | None
    trusted: bool
    tried: int
    verified: int
    ineffective: int
    undone: int
    expected: float
    lower_bound: float
    lift: Annotated[float | None, Field(description="How much more it promises than waiting; null: hardly known.")]
    lift_low: Annotated[float | None, Field(description="Its lower bound at 95 %: above 0 it has shown that it helps.")]
    lift_high: float | None
    why: str

    @classmethod
    def of(cls, one: Record) -> RecordOut:
        """Spell what became of a remedy."""
        return cls(
            remedy=one.remedy,
            bound=one.binding is not None,
            acts_at=one.binding.acts_at if one.binding is not None else None,
            trusted=one.binding is not None and one.binding.trusted,
            tried=one.own.tried,
            verified=one.own.verified,
            ineffective=one.own.ineffective,
            undone=one.own.undone,
            expected=round(one.expected, 4),
            lower_bound=round(one.lower_bound, 4),
            lift=round(one.lift, 4) if one.lift is not None else None,
            lift_low=round(one.lift_between[0], 4) if one.lift_between is not None else None,
            lift_high=round(one.lift_between[1], 4) if one.lift_between is not None else None,
            why=one.why,
        )


class ParameterOut(Out):
    """A value that a remedy is given."""

    name: str
    type: Annotated[str, Field(description="text, whole number, number, true or false.")]
    required: bool


class ChoiceOut(Out):
    """A remedy that may be bound."""

    remedy: str
    words: str
    idempotent: bool
    reversible: bool
    parameters: list[ParameterOut]
    misfit: Annotated[str | None, Field(description="Why it can do nothing here.")]

    @classmethod
    def of(cls, one: Choice) -> ChoiceOut:
        """Spell a remedy that may be bound."""
        remedy = one.remedy
        return cls(
            remedy=remedy.name,
            words=remedy.words,
            idempotent=remedy.idempotent,
            reversible=remedy.reversible,
            parameters=[
                ParameterOut(name=name, type=each.spelled, required=each.required)
                for name, each in remedy.parameters.items()
            ],
            misfit=one.misfit,
        )


class OccurrenceOut(Out):
    """An incident that is an occurrence of an issue."""

    id: str
    title: str
    service: str
    state: IncidentState
    count: int
    first_seen: Time
    last_seen: Time

    @classmethod
    def of(cls, one: Incident) -> OccurrenceOut:
        """Spell an occurrence."""
        return cls(
            id=one.id,
            title=one.title,
            service=one.service,
            state=one.state,
            count=one.count,
            first_seen=one.first_seen.isoformat(),
            last_seen=one.last_seen.isoformat(),
        )


class DossierOut(KnownIssueOut):
    """A known issue with all that is known about it."""

    records: list[RecordOut]
    choices: list[ChoiceOut]
    joined: Annotated[list[str], Field(description="Issues that people joined with it.")]
    incidents: list[OccurrenceOut]
    warning: str | None

    @classmethod
    def told(cls, one: Dossier) -> DossierOut:
        """Spell all about an issue."""
        outcomes = {record.remedy: (record.own.tried, record.own.verified) for record in one.records}
        return cls(
            **facts(one.issue, outcomes),
            records=[RecordOut.of(record) for record in one.records],
            choices=[ChoiceOut.of(choice) for choice in one.choices],
            joined=list(one.joined),
            incidents=[OccurrenceOut.of(incident) for incident in one.incidents],
            warning=one.warning,
        )


class CandidateOut(Out):
    """A pattern of failures that is not known yet."""

    fingerprint: str
    service: str
    kind: str
    code: str | None
    component: str
    action: str
    impact: Severity
    environment: str
    message: str
    pattern: Annotated[str | None, Field(description="The expression that it would be recognised by.")]
    confidence: float
    occurrences: Annotated[int, Field(description="Independent ones: retries and storms count once.")]
    first_seen: Time
    last_seen: Time
    refused: Annotated[str | None, Field(description="Why it can't become known by itself.")]

    @classmethod
    def of(cls, one: Candidate) -> CandidateOut:
        """Spell a pattern that may become known."""
        made = template(one.message)
        return cls(
            fingerprint=one.fingerprint,
            service=one.service,
            kind=one.kind,
            code=one.code,
            component=one.component,
            action=one.action,
            impact=one.impact,
            environment=one.environment,
            message=one.message,
            pattern=None if isinstance(made, str) else made.expression,
            confidence=one.confidence,
            occurrences=one.occurrences,
            first_seen=one.first_seen.isoformat(),
            last_seen=one.last_seen.isoformat(),
            refused=one.refused or (made if isinstance(made, str) else None),
        )


class TakenInOut(Out):
    """What became of a pack."""

    added: list[str]
    changed: list[str]
    alone: Annotated[list[str], Field(description="Entries that say what is known already.")]
    notes: list[str]

    @classmethod
    def of(cls, came: TakenIn) -> TakenInOut:
        """Spell it."""
        return cls(added=list(came.added), changed=list(came.changed), alone=list(came.alone), notes=list(came.notes))


class PackOut(Out):
    """Known issues as a pack."""

    count: int
    text: Annotated[str, Field(description="YAML, as the import takes it.")]


def facts(one: KnownIssue, outcomes: Outcomes) -> dict[str, Any]:
    """Return what every answer says of an issue."""
    same = ("id", "title", "state", "origin", "ignore_case", "severity", "service", "kind", "code", "means", "cause")
    more = ("advice", "occurrences", "unfixed", "failed_fixes", "created_by", "resolved_by", "escalation_reason")
    last = ("precision", "tested", "alias_of")
    times = ("first_seen", "last_seen", "resolved_at", "escalated_at")
    return {
        **{name: getattr(one, name) for name in (*same, *more, *last)},
        **{name: spell_time(getattr(one, name)) for name in times},
        "pattern": one.expression,
        "source": one.source or None,
        "tags": list(one.tags),
        "remedies": [BindingOut.of(binding, outcomes) for binding in one.remedies],
    }
