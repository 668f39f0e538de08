"""The nouns of prunella, as immutable records that check themselves when they are made.

Raw text from outside enters only through `Failure`, which scrubs it; nothing downstream sees the original.
Times are aware and in UTC, durations are seconds, None means "none" and 0 is a real 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from prunella.core import lineage, redact, shapes
from prunella.core.states import ApprovalState, GateState, IncidentState, OperationState, RunState


class Category(StrEnum):
    """The outside contract of a diagnosis (document B): named by the remedy that fits."""

    AUTH = "auth"
    RATE_LIMIT = "rate_limit"
    NETWORK = "network"
    DATA = "data"
    UNKNOWN = "unknown"


class Actor(StrEnum):
    """Who has to move next."""

    SYSTEM = "system"
    PROVIDER = "provider"
    OWNER = "owner"
    DATA_OWNER = "data_owner"
    DEVELOPER = "developer"
    OPERATOR = "operator"


class Severity(StrEnum):
    """How loud a message is, from a whisper to a siren."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class Level(StrEnum):
    """How far prunella may go alone: heal, heal and tell, propose, leave to a person."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


KINDS: Mapping[str, Category] = {
    **dict.fromkeys(("auth.expired", "auth.invalid", "auth.permission"), Category.AUTH),
    **dict.fromkeys(("rate_limit.window", "rate_limit.quota"), Category.RATE_LIMIT),
    **dict.fromkeys(
        ("network.timeout", "network.dns", "network.connection", "network.tls", "network.server", "network.contention"),
        Category.NETWORK,
    ),
    **dict.fromkeys(
        ("data.validation", "data.conflict", "data.not_found", "data.too_large", "data.bad_response", "data.business"),
        Category.DATA,
    ),
    **dict.fromkeys(
        ("config", "bug", "billing", "policy", "cancelled", "resource", "unclassified"),
        Category.UNKNOWN,
    ),
}
"""Every kind and the category it belongs to."""


_NAMES_MAX: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Normalised evidence of one error; text and headers are scrubbed here, on the only road in.

    Args:
        service: name of the service that failed, as configured ("hubspot").
        source: where the evidence comes from (http, graphql, oauth, db, python, node, grpc, webhook).
        status: HTTP status, None where there was none.
        code: the service's own code, SQLSTATE, errno name, gRPC status.
        exc_type: class of the exception as raised, with its package ("httpx.ReadTimeout").
        message: text or raw body; cut to 16 kB before anything reads it.
        headers: lower-case names; only those that carry evidence are kept.
        operation: what was attempted, without ids ("POST /contacts/{id}").
        bases: classes that the exception's class is made of, nearest first.
        causes: classes of the errors behind the exception, nearest first.
        frames: functions of the application in which it was raised, innermost first.
    """

    service: str
    source: str = "http"
    status: int | None = None
    code: str | None = None
    exc_type: str | None = None
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    operation: str = ""
    bases: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("message", "code", "exc_type", "operation"):
            text = getattr(self, name)
            if text:
                object.__setattr__(self, name, redact.scrub(text))
        for name in ("bases", "causes", "frames"):
            names = getattr(self, name)
            if names != ():
                object.__setattr__(self, name, tuple(map(redact.scrub, names[:_NAMES_MAX])))
        object.__setattr__(self, "headers", redact.evidence_headers(self.headers))

    @classmethod
    def from_exception(
        cls, error: BaseException, *, service: str, source: str = "python", operation: str = ""
    ) -> Failure:
        """Read what an exception says about a service: its class, causes, text, code, and the response it carries."""
        status = shapes.status_of(error)
        return cls(
            service=service,
            source="http" if status is not None and source == "python" else source,
            status=status,
            code=shapes.code_of(error),
            exc_type=lineage.name_of(type(error)),
            message=shapes.message_of(error),
            headers=shapes.headers_of(error),
            operation=operation,
            bases=lineage.bases_of(error),
            causes=lineage.causes_of(error),
            frames=lineage.frames_of(error),
        )

    @classmethod
    def from_response(cls, response: object, *, service: str, source: str = "http", operation: str = "") -> Failure:
        """Read what a response says about a service: its status, headers and body."""
        return cls(
            service=service,
            source=source,
            status=shapes.status_of(response),
            message=shapes.text_of(response),
            headers=shapes.headers_of(response),
            operation=operation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong and how sure we are.

    `because` names the evidence that decided; `signals` lists all that was seen; `retry_after_s` is what the
    service asked for, None where it said nothing.
    """

    kind: str
    confidence: float
    because: str
    retryable: bool
    actor: Actor
    advice: str
    signals: tuple[str, ...] = ()
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"diagnosis: unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"diagnosis: confidence must be within 0 and 1, got {self.confidence}")

    @property
    def category(self) -> Category:
        """Return the category that the kind belongs to."""
        return KINDS[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The original call of an integration, as far as it may be replayed.

    `ordering_key`: what it is about, where the sender says so; None leaves it to `engine.sequence`, empty asks for no
    order.
    """

    method: str
    endpoint: str
    payload: Any = None
    ordering_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One observation about a service, unique by (source, event_id); never changed once recorded.

    Args:
        about: what a success is limited to: it proves only what failed under this name; "": the whole service.
    """

    id: str
    source: str
    event_id: str
    service: str
    account: str = ""
    outcome: str = "failure"
    occurred_at: datetime
    received_at: datetime
    failure: Failure | None = None
    request: Request | None = None
    forced: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The open case of one problem: at most one per (service, account, fingerprint) is open at a time.

    Args:
        procedure, resource: what found it and what it is about, where a check did; both empty for events.
        regressions: how often it came back soon after it was proven well.
        memory: what its procedure has to remember from look to look.
        issue_id: the known issue that it is an occurrence of.
        decided: what was weighed when a remedy was chosen, and how: remedy -> figures.
        learned: how many of its events were learned from.
        watched_until: a return until then counts against what repaired it; None: nothing is to be judged.
    """

    id: str
    service: str
    account: str
    fingerprint: str
    signal_id: str
    title: str
    category: Category
    kind: str
    confidence: float
    because: str
    advice: str
    severity: Severity
    level: Level = Level.L0
    state: IncidentState = IncidentState.OPEN
    version: int = 0
    count: int = 1
    attempts: int = 0
    wave: int = 1
    first_seen: datetime
    last_seen: datetime
    next_at: datetime | None = None
    held_reason: str | None = None
    action_taken: str = "recorded"
    acknowledged_by: str | None = None
    regressed: bool = False
    previous_id: str | None = None
    forced: bool = False
    refresh_failed: bool = False
    claimed_by: str | None = None
    lease_until: datetime | None = None
    resolved_at: datetime | None = None
    procedure: str = ""
    resource: str = ""
    regressions: int = 0
    memory: Mapping[str, Any] = field(default_factory=dict)
    issue_id: str | None = None
    decided: Mapping[str, Any] = field(default_factory=dict)
    learned: int = 0
    watched_until: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "category", Category(self.category))
        object.__setattr__(self, "severity", Severity(self.severity))
        object.__setattr__(self, "level", Level(self.level))
        object.__setattr__(self, "state", IncidentState(self.state))

    @property
    def is_open(self) -> bool:
        """Tell whether somebody, machine or person, still has to do something."""
        return self.state is not IncidentState.RESOLVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A piece of work that waits in a service's lane: here, the original request to be replayed.

    `due_at` None: not planned yet (attempts 0), or resting until the next scan (attempts > 0). `last_kind` and
    `token_version` say what the last try ran into and with which version of the account's tokens. Operations of one
    service and one `ordering_key` go one after another, in the order in which they came; without a key they are free.
    """

    id: str
    incident_id: str
    signal_id: str
    service: str
    account: str
    method: str
    endpoint: str
    payload_sealed: bytes
    idempotency_key: str
    state: OperationState = OperationState.WAITING
    attempts: int = 0
    due_at: datetime | None = None
    last_error: str | None = None
    last_kind: str | None = None
    token_version: int | None = None
    created_at: datetime
    ordering_key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", OperationState(self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt of a plan on one target; written before the outside call, settled after it.

    Args:
        resource, issue: what it was about and what was wrong with it, where a procedure made it.
        touched: how many rows it changed.
        verified_at: when its effect was proven.
    """

    id: str
    incident_id: str
    operation_id: str | None
    service: str
    procedure: str
    remedy: str
    state: RunState
    attempt: int
    idempotency_key: str
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    status: int | None = None
    detail: str = ""
    resource: str = ""
    issue: str = ""
    touched: int = 0
    verified_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", RunState(self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's answer to a plan, bound to its digest.

    Args:
        plan: targets, count, share, sample before and after, SQL: what the person was shown.
        proposed_by: who asked; with four eyes somebody else has to answer.
        used_at: when the approved plan began to be carried out; it is good for one time.
    """

    id: str
    incident_id: str
    procedure: str
    plan: Mapping[str, Any]
    digest: str
    state: ApprovalState = ApprovalState.WAITING
    created_at: datetime
    expires_at: datetime
    proposed_by: str = "prunella"
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str = ""
    superseded_by: str | None = None
    used_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", ApprovalState(self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether calls to a service may pass, and every counter that decides it: one owner, one truth.

    Args:
        failures: consecutive failed calls of ours, towards `open`.
        successes: consecutive good calls while half open, towards `closed`.
        auth, data, unknown: consecutive failures from outside, towards `disabled` (document B).
        counting_from: network failures before this moment no longer count.
        throttled_until: the service asked for silence until then; not a state, a wait.
        down_since: when it stopped answering; None while it answers.
        rate_per_s: how fast our calls may begin, as it was learned; None before the first one, or without a limit.
        tokens, tokens_at: how many calls may begin at once, and when that was counted.
        rate_since, rate_good: when the rate changed last, and how many calls went well since.
    """

    service: str
    state: GateState = GateState.CLOSED
    version: int = 0
    reason: str | None = None
    changed_by: str = "prunella"
    since: datetime
    reopen_at: datetime | None = None
    throttled_until: datetime | None = None
    counting_from: datetime
    failures: int = 0
    successes: int = 0
    openings: int = 0
    auth: int = 0
    data: int = 0
    unknown: int = 0
    recovery_fail_count: int = 0
    last_recovery_at: datetime | None = None
    auto_recovery_enabled: bool = True
    down_since: datetime | None = None
    rate_per_s: float | None = None
    tokens: float = 0.0
    tokens_at: datetime | None = None
    rate_since: datetime | None = None
    rate_good: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", GateState(self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One account's tokens, sealed; `version` grows with each change and is what single-flight compares.

    `refreshed_at` is when prunella itself last refreshed them, None for tokens that a person handed over.
    `refreshing_since` is when the first refresh of this version was begun of whose end nobody knows. `rotates` tells
    whether the account's last refresh brought a new refresh token; None: never refreshed.
    """

    service: str
    account: str
    access_sealed: bytes
    refresh_sealed: bytes | None = None
    version: int = 1
    expires_at: datetime | None = None
    refreshed_at: datetime | None = None
    needs_person: str | None = None
    refreshing_by: str | None = None
    refreshing_until: datetime | None = None
    refreshing_since: datetime | None = None
    rotates: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should hear; which channels carry it is decided by the notification rules.

    `key` makes it unique: the same notice is stored once per channel, however often it is raised.
    """

    key: str
    kind: str
    severity: Severity
    title: str
    facts: tuple[tuple[str, str], ...]
    incident_id: str | None = None
    link: str | None = None
    resource: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One notice on its way to one channel: a row of the outbox.

    Args:
        tier: how many tiers of people were told before, because nobody acknowledged.
        escalates_at: when the next tier is told.
        tries: each try to deliver: when, and what came of it.
    """

    id: str
    key: str
    channel: str
    kind: str
    severity: Severity
    title: str
    facts: tuple[tuple[str, str], ...]
    incident_id: str | None
    link: str | None
    state: str = "waiting"  # waiting, sending, sent, dead
    attempts: int = 0
    next_at: datetime | None
    last_error: str | None = None
    created_at: datetime
    sent_at: datetime | None = None
    resource: str | None = None
    run_id: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    tier: int = 0
    escalates_at: datetime | None = None
    tries: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", Severity(self.severity))
        object.__setattr__(self, "tries", tuple(self.tries))
        object.__setattr__(self, "facts", tuple((str(name), str(value)) for name, value in self.facts))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to which thing, and why; written in the transaction of the change, never altered.

    Args:
        seal: which seal it stands under; None: not sealed yet.
    """

    id: str
    at: datetime
    actor: str
    action: str
    target: str
    incident_id: str | None = None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    seal: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """One link of the chain over the audit; entries that stand under it can't change unnoticed.

    Args:
        number: 1, 2, 3 ... without a gap.
        previous: the digest of the seal before; empty for the first.
        content: digest of the entries; the digest itself covers all of this but `forgotten_at`.
        entries: how many stand under it.
        forgotten_at: when retention let its entries go.
    """

    number: int
    previous: str
    content: str
    digest: str
    entries: int
    sealed_at: datetime
    forgotten_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of a program; what it looks like is shown once, when it is made, and only its digest is kept."""

    id: str
    name: str
    role: str
    digest: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    used_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Tell whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
