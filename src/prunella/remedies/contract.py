"""What a remedy gets and what it gives back. It acts once and reports; it never decides, waits or records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.core.records import Request
from prunella.core.services import Service

__all__ = ["Acts", "Assignment", "Outcome", "Preview", "Remedy", "Target", "Undone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing to act on at a service.

    Args:
        request: the call to make, None where the remedy knows it itself.
        idempotency_key: the same for every try of one operation, so that a receiver can tell a repeat.
        facts, parameters: what a remedy of a known issue is told: what failed, and what its binding hands it.
    """

    service: Service
    account: str
    incident_id: str
    idempotency_key: str
    request: Request | None = None
    stale_version: int | None = None
    attempt: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Acts(Protocol):
    """Something that can be done at a service."""

    name: str

    async def apply(self, target: Target) -> Outcome:
        """Act once; what it runs into comes back as an outcome."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One finding to act on.

    Args:
        run_id: names the attempt; what is archived carries it.
        idempotency_key: the same for every try of one attempt, so that a receiver can tell a repeat.
    """

    run_id: str
    incident_id: str
    attempt: int
    idempotency_key: str
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an act would do, without doing any of it.

    Args:
        sql: the statement that would change rows; empty where the remedy writes none itself.
        before, after: a sample of rows as they are and as they would be; `after` None: known only once it ran.
    """

    words: str
    sql: str = ""
    before: tuple[Mapping[str, Any], ...] = ()
    after: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What could be put back.

    Args:
        refused: key of a row -> why it was left as it is.
    """

    restored: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


class Remedy(Protocol):
    """Something that can be done about findings.

    `outside`: it calls the outside, so it goes out in waves. `idempotent`: an attempt that died half-way may be made
    again under its key. `reversible`: `undo` can put back what it changed.
    """

    name: str
    outside: bool
    idempotent: bool
    reversible: bool

    async def preview(self, finding: Finding) -> Preview:
        """Say what would be done, without any write or call."""
        ...

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        """Act on each, once; never raises for what one of them runs into."""
        ...

    async def undo(self, run_id: str) -> Undone:
        """Put back what the run changed, where it still is as the run left it."""
        ...
