"""One state machine for our own states and for the users' status columns.

A machine only answers whether a change is legal; whoever stores the state does the compare-and-set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from prunella.core.errors import IllegalTransition


class StateMachine:
    """Hold which states may follow which.

    Args:
        transitions: state -> states that may follow it. A state that never stands on the left is terminal.
        name: what changes state, for messages ("order", "incident").

    Same to same is always allowed: a repeated update is not a change (document E).
    """

    def __init__(self, transitions: Mapping[str, Iterable[str]], *, name: str = "state") -> None:
        self._name = name
        self._next = {str(state): tuple(map(str, following)) for state, following in transitions.items()}
        for following in list(self._next.values()):
            for state in following:
                self._next.setdefault(state, ())

    @property
    def states(self) -> tuple[str, ...]:
        """List every state, those of the left side first."""
        return tuple(self._next)

    def is_terminal(self, state: str) -> bool:
        """Tell whether nothing may follow `state`."""
        return not self._following(state)

    def allows(self, current: str, new: str) -> bool:
        """Tell whether `current` may become `new`."""
        return new in self._following(current) or (new == current and new in self._next)

    def check(self, current: str, new: str) -> None:
        """Raise `IllegalTransition` unless `current` may become `new`."""
        if self.allows(current, new):
            return
        allowed = ", ".join(self._following(current)) or "nothing, it is terminal"
        raise IllegalTransition(f"{self._name}: {current} -> {new} is not allowed; from {current}: {allowed}")

    def _following(self, state: str) -> tuple[str, ...]:
        try:
            return self._next[state]
        except KeyError:
            known = ", ".join(self._next)
            raise IllegalTransition(f"{self._name}: unknown state {state!r}; known: {known}") from None


class IncidentState(StrEnum):
    """Where an incident stands; acknowledged, held, regressed and forced are facts beside it."""

    PENDING = "pending"
    OPEN = "open"
    HEALING = "healing"
    VERIFYING = "verifying"
    AWAITING_APPROVAL = "awaiting_approval"
    ESCALATED = "escalated"
    SUPPRESSED = "suppressed"
    RESOLVED = "resolved"


DIED = "the worker died in mid-call"
"""What is said of an attempt whose worker died: nobody knows how it ended."""
UNANSWERED = "a call brought no reply, so its outcome is unknown"
"""What is said first of an attempt whose call may have had its effect, and nobody said so."""


class RunState(StrEnum):
    """Where one attempt stands; `unknown` means that the worker died in mid-call."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"
    VERIFIED = "verified"
    INEFFECTIVE = "ineffective"
    UNDONE = "undone"


class GateState(StrEnum):
    """Whether calls to a service may pass; `paused` is a person's and only a person ends it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    DISABLED = "disabled"
    PAUSED = "paused"


class ApprovalState(StrEnum):
    """Where a proposal stands; `closed`: nothing was left to do when its turn came."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CLOSED = "closed"


class OperationState(StrEnum):
    """Where a piece of waiting work stands; `dead` is quarantine: kept, visible, replayable by a person."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


_A, _I, _R, _G, _O = ApprovalState, IncidentState, RunState, GateState, OperationState

INCIDENT = StateMachine(
    {
        _I.PENDING: (
            _I.OPEN,
            _I.HEALING,
            _I.AWAITING_APPROVAL,
            _I.ESCALATED,
            _I.RESOLVED,
            _I.SUPPRESSED,
        ),
        _I.OPEN: (_I.HEALING, _I.VERIFYING, _I.AWAITING_APPROVAL, _I.ESCALATED, _I.SUPPRESSED, _I.RESOLVED),
        _I.HEALING: (_I.OPEN, _I.VERIFYING, _I.AWAITING_APPROVAL, _I.ESCALATED, _I.RESOLVED),
        _I.VERIFYING: (_I.OPEN, _I.HEALING, _I.ESCALATED, _I.SUPPRESSED, _I.RESOLVED),
        _I.AWAITING_APPROVAL: (_I.OPEN, _I.HEALING, _I.ESCALATED, _I.SUPPRESSED, _I.RESOLVED),
        _I.ESCALATED: (_I.OPEN, _I.HEALING, _I.SUPPRESSED, _I.RESOLVED),
        _I.SUPPRESSED: (_I.OPEN, _I.RESOLVED),
        _I.RESOLVED: (),
    },
    name="incident",
)
RUN = StateMachine(
    {
        _R.PLANNED: (_R.RUNNING,),
        _R.RUNNING: (_R.DONE, _R.FAILED, _R.TIMED_OUT, _R.UNKNOWN),
        _R.DONE: (_R.VERIFIED, _R.INEFFECTIVE, _R.UNDONE),
        _R.VERIFIED: (_R.INEFFECTIVE, _R.UNDONE),
        _R.INEFFECTIVE: (_R.UNDONE,),
    },
    name="run",
)
GATE = StateMachine(
    {
        _G.CLOSED: (_G.OPEN, _G.DISABLED, _G.PAUSED),
        _G.OPEN: (_G.HALF_OPEN, _G.CLOSED, _G.DISABLED, _G.PAUSED),
        _G.HALF_OPEN: (_G.CLOSED, _G.OPEN, _G.DISABLED, _G.PAUSED),
        _G.DISABLED: (_G.CLOSED, _G.PAUSED),
        _G.PAUSED: (_G.CLOSED, _G.DISABLED),
    },
    name="gate",
)
OPERATION = StateMachine(
    {
        _O.WAITING: (_O.RUNNING, _O.DEAD, _O.CANCELLED),
        _O.RUNNING: (_O.WAITING, _O.DONE, _O.DEAD),
        _O.DEAD: (_O.WAITING, _O.CANCELLED),
    },
    name="operation",
)
APPROVAL = StateMachine(
    {
        _A.WAITING: (_A.APPROVED, _A.REJECTED, _A.EXPIRED, _A.SUPERSEDED, _A.CLOSED),
        _A.APPROVED: (_A.SUPERSEDED, _A.CLOSED),
    },
    name="approval",
)
