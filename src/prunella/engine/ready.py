"""A procedure, wired: its policy with the check and the remedies that carry it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunella.checks.contract import Check
from prunella.core.findings import Finding
from prunella.core.procedures import Entity, Procedure
from prunella.remedies.contract import Remedy

MANUAL = "manual_intervention"
"""The remedy that hands a thing over to a person."""

FUTURE_ROW = "FUTURE_ROW"
"""The issue of a row that is dated in the future."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Everything that one procedure needs to run.

    Args:
        remedies: by name; one, or the ladder of an entity.
        proof: what it means, in words, when the check finds nothing any more ("the newest row is fresh").
        scope: what stands as `service` of its incidents: the database, or the service it looks at.
        delays_s: the wait before each attempt; empty: at once, then the cool-down.
    """

    policy: Procedure
    check: Check
    remedies: Mapping[str, Remedy]
    proof: str
    scope: str
    entity: Entity | None = None
    delays_s: tuple[float, ...] = field(default=())

    @property
    def name(self) -> str:
        """Return the procedure's name."""
        return self.policy.name

    @property
    def attempts(self) -> int:
        """Return after how many failures it gives up."""
        return self.entity.attempts if self.entity is not None else self.policy.limits.attempts

    @property
    def give_up(self) -> str:
        """Return the remedy that comes last."""
        return self.entity.give_up if self.entity is not None else MANUAL

    def remedy_for(self, finding: Finding) -> str:
        """Return the name of the remedy that fits a finding."""
        if finding.issue == FUTURE_ROW:
            return MANUAL  # no machine knows which moment was meant
        return finding.remedy or next(iter(self.remedies), MANUAL)
