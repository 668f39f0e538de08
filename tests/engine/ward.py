"""Things that fall ill and are healed by script, for stories about sweeps: a check and a remedy by their contracts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prunella.core.clock import Clock
from prunella.core.findings import Finding, Sighting
from prunella.core.outcomes import Outcome
from prunella.core.procedures import Entity, Limits, PluginCheck, PluginRemedy, Procedure, StuckRule
from prunella.core.records import Level
from prunella.core.states import StateMachine
from prunella.engine.ready import Ready
from prunella.remedies.contract import Assignment, Preview, Undone

ORDER = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine({"PENDING": ["CONFIRMED", "CANCELLED"]}, name="order"),
    stuck={"PENDING": StuckRule(after_s=1800, remedy="treat")},
)


@dataclass
class Ward:
    """Patients by key; whoever is in `sick` is found.

    Args:
        cures: the remedy really heals.
        rows: the sick are rows of one table, `total` in number, and one finding names them all.
    """

    clock: Clock
    sick: dict[str, str] = field(default_factory=dict)
    active: int | None = None
    cures: bool = True
    rows: bool = False
    total: int | None = None
    occurred_at: dict[str, datetime] = field(default_factory=dict)
    script: list[Outcome | BaseException] = field(default_factory=list)
    treated: list[tuple[float, str, str]] = field(default_factory=list)
    during: Callable[[Assignment], Awaitable[None]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    issue: str = "SICK"
    looks: int = 0

    async def look(self, only: str | None = None) -> Sighting:
        """Find the sick."""
        self.looks += 1
        if self.rows:
            return Sighting(findings=self._table(), at=self.clock.now())
        found = [key for key in self.sick if only in (None, key)]
        findings = tuple(
            Finding(
                key=key,
                issue=self.issue,
                message=f"{key} is sick",
                facts=self.facts,
                row={"id": key, "status": self.sick[key], "updated_at": "then"},
                occurred_at=self.occurred_at.get(key),
            )
            for key in found
        )
        return Sighting(findings=findings, at=self.clock.now(), active=self.active)

    async def row(self, key: str) -> dict[str, Any] | None:
        """Return a patient's row, whatever its state."""
        return {"id": key, "status": self.sick.get(key, "WELL"), "updated_at": "then"}

    def _table(self) -> tuple[Finding, ...]:
        if not self.sick:
            return ()
        keys = tuple(self.sick)
        return (
            Finding(
                key="beds", issue="ROWS", message=f"{len(keys)} rows", keys=keys, count=len(keys), total=self.total
            ),
        )

    async def apply(self, assignments: Sequence[Assignment], name: str) -> list[Outcome]:
        """Treat each patient; unscripted, all goes well."""
        return [await self._treat(one, name) for one in assignments]

    async def _treat(self, one: Assignment, name: str) -> Outcome:
        self.treated.append((self.clock.monotonic(), one.finding.key, one.idempotency_key))
        if self.during is not None:
            await self.during(one)
        answer: Outcome | BaseException = self.script.pop(0) if self.script else Outcome.done("treated")
        if isinstance(answer, BaseException):
            raise answer
        if answer.ok and self.cures:
            for key in map(str, one.finding.keys or (one.finding.key,)):
                self.sick.pop(key, None)
        return answer

    def times(self) -> list[float]:
        """Return when each treatment began."""
        return [at for at, _, _ in self.treated]


@dataclass
class Treatment:
    """A remedy over a ward."""

    ward: Ward
    name: str = "treat"
    outside: bool = True
    idempotent: bool = False
    reversible: bool = True

    async def preview(self, finding: Finding) -> Preview:
        """Say what would be done."""
        return Preview(words=f"{self.name} {finding.key}", before=({"status": "sick"},), after=({"status": "well"},))

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        return await self.ward.apply(assignments, self.name)

    async def undo(self, run_id: str) -> Undone:
        return Undone(restored=1)


def procedure(ward: Ward, **changed: Any) -> Ready:
    """Return a procedure over a ward, every 5 min at level L0, unless told otherwise."""
    remedies: Mapping[str, Treatment] = changed.pop("remedies", None) or {"treat": Treatment(ward)}
    wired = {name: changed.pop(name) for name in ("entity", "delays_s") if name in changed}
    fields: dict[str, Any] = {
        "name": "ward",
        "id": "HEAL_WARD",
        "check": PluginCheck(name="ward"),
        "remedy": PluginRemedy(name="treat"),
        "every_s": 300.0,
        "level": Level.L0,
        "limits": Limits(cool_down_s=60.0),
    }
    policy = Procedure(**{**fields, **changed})
    return Ready(policy=policy, check=ward, remedies=remedies, proof="it is well", scope="shop", **wired)
