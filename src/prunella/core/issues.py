"""What was learned from failures: patterns that may become known, and known issues with what helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from prunella.core.records import Level, Severity
from prunella.core.states import StateMachine

BUILTIN = "builtin"
"""The pack of known issues that comes along."""
MACHINE = "prunella"
"""Who did it, where nobody else did."""


class IssueState(StrEnum):
    """Where a known issue stands; `dormant` was not seen for long and is kept."""

    ACTIVE = "active"
    RESOLVED = "resolved"
    REGRESSED = "regressed"
    DORMANT = "dormant"


class Origin(StrEnum):
    """Who says that an issue is known."""

    LEARNED = "learned"
    PACK = "pack"
    PERSON = "person"


_S = IssueState
ISSUE = StateMachine(
    {
        _S.ACTIVE: (_S.RESOLVED, _S.DORMANT),
        _S.RESOLVED: (_S.REGRESSED, _S.ACTIVE, _S.DORMANT),
        _S.REGRESSED: (_S.RESOLVED, _S.DORMANT),
        _S.DORMANT: (_S.ACTIVE, _S.RESOLVED),
    },
    name="known issue",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pattern of failures that is not known yet.

    Args:
        confidence: 0 to 1, how sure it is that this is an error worth knowing (document C).
        occurrences: independent ones; retries of one call and a storm count once.
        last_window: when one was counted last, in milliseconds.
        refused: why it can't become a known issue.
        issue_id: what it became.
    """

    fingerprint: str
    service: str
    kind: str
    code: str | None = None
    component: str = ""
    action: str = ""
    impact: Severity = Severity.MEDIUM
    environment: str = ""
    message: str = ""
    confidence: float = 0.5
    occurrences: int = 0
    last_window: int = -1
    first_seen: datetime
    last_seen: datetime
    refused: str | None = None
    issue_id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "impact", Severity(self.impact))


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A remedy that stands by for a known issue.

    Args:
        remedy: its registered name.
        parameters: what it is given, by name.
        level: how much the machine may do by itself once the pairing is trusted.
        by: who paired them: a person, or "prunella", which learned it.
        trusted: whether it acts at its level; otherwise a person is asked each time (L2).
    """

    remedy: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    level: Level = Level.L1
    by: str = MACHINE
    trusted: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", Level(self.level))

    @property
    def learned(self) -> bool:
        """Tell whether nobody but the machine said that the remedy helps here."""
        return self.by == MACHINE

    @property
    def acts_at(self) -> Level:
        """Return how much the machine may do by itself now."""
        return self.level if self.trusted or self.level is Level.L3 else Level.L2


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownIssue:
    """A problem that has been seen before: how it is recognised, what causes it, what helps.

    Args:
        means: the kind that it is, whatever its failures are diagnosed as; told, and no condition.
        remedies: what may repair it; none where a person has to.
        unfixed: occurrences since it was last repaired and verified.
        failed_fixes: repairs in a row that did not help.
        precision: share of stored messages of other problems that its expression leaves alone; None: not tried.
        resolved_by: who says that it is over: "prunella" after a verified repair, or a person.
        alias_of: the issue that a person joined it with.
    """

    id: str
    title: str
    expression: str
    ignore_case: bool = True
    state: IssueState = IssueState.ACTIVE
    origin: Origin = Origin.PERSON
    severity: Severity = Severity.MEDIUM
    service: str | None = None
    kind: str | None = None
    code: str | None = None
    means: str | None = None
    cause: str = ""
    advice: str = ""
    source: str = ""
    tags: Sequence[str] = ()
    remedies: Sequence[Binding] = ()
    occurrences: int = 0
    unfixed: int = 0
    failed_fixes: int = 0
    last_window: int = -1
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    created_at: datetime
    created_by: str
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    escalated_at: datetime | None = None
    escalation_reason: str | None = None
    precision: float | None = None
    tested: int = 0
    alias_of: str | None = None
    version: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", IssueState(self.state))
        object.__setattr__(self, "origin", Origin(self.origin))
        object.__setattr__(self, "severity", Severity(self.severity))
        object.__setattr__(self, "tags", tuple(self.tags))

    @property
    def is_open(self) -> bool:
        """Tell whether it is a problem at present, as far as anybody knows."""
        return self.state in (_S.ACTIVE, _S.REGRESSED) and self.alias_of is None

    def binding(self, remedy: str) -> Binding | None:
        """Return how a remedy is bound to it."""
        return next((one for one in self.remedies if one.remedy == remedy), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """How quickly something becomes known (document C).

    Args:
        packs: `builtin`, and files of known issues; of two entries with one id the later counts.
        promote_after: independent occurrences that make a pattern a known issue.
        escalate_at: occurrences without a verified repair after which a person hears of an issue.
        window_s: what fails again sooner than that is the same occurrence.
    """

    packs: tuple[str, ...] = (BUILTIN,)
    promote_after: int = 3
    escalate_at: int = 10
    window_s: float = 300.0


class Effect(StrEnum):
    """What became of one application of a remedy; undone: proven well, and back before it was sure to last."""

    VERIFIED = "verified"
    INEFFECTIVE = "ineffective"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about one remedy at one problem.

    Args:
        good, bad: outcomes as they count at `at`: older ones count less.
        failures_in_a_row: since the last verified one.
    """

    tried: int = 0
    verified: int = 0
    ineffective: int = 0
    undone: int = 0
    good: float = 0.0
    bad: float = 0.0
    failures_in_a_row: int = 0
    at: datetime | None = None

    @property
    def share(self) -> float:
        """Return the share of good outcomes with no prior; 0 where nothing is known."""
        return self.good / (self.good + self.bad) if self.good + self.bad else 0.0
