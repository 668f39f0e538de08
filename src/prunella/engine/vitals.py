"""How a service stands: its gate, its rate, its accounts, its figures, and what happened to it lately. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prunella.core.records import AuditEntry, Credential, Gate, Incident
from prunella.core.services import Service
from prunella.core.states import GateState
from prunella.engine import rate
from prunella.engine.parts import Parts

FIGURES_OF = timedelta(hours=24)
_INCIDENTS_MAX = 10
_EVENTS_MAX = 30
_ALLOWED: Mapping[GateState, tuple[str, ...]] = {
    GateState.CLOSED: ("probe", "pause", "disable"),
    GateState.OPEN: ("probe", "pause", "disable"),
    GateState.HALF_OPEN: ("probe", "pause", "disable"),
    GateState.DISABLED: ("enable", "probe", "pause"),
    GateState.PAUSED: ("resume", "disable"),
}
"""Gate's state -> what a person may do about it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast our calls may begin, per second, and between which bounds that is learned."""

    now: float
    configured: float
    floor: float
    ceiling: float
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One service as it stands.

    Args:
        gate: None: nothing was ever reported of it, so it is closed.
        failed: category -> failures that arrived within `FIGURES_OF`; `well`: successes that somebody reported.
    """

    service: Service
    gate: Gate | None
    rate: Rate | None
    accounts: Sequence[Credential]
    failed: Mapping[str, int]
    well: int

    @property
    def state(self) -> GateState:
        """Return the gate's state."""
        return self.gate.state if self.gate is not None else GateState.CLOSED

    @property
    def failures(self) -> int:
        """Return how many failures arrived lately."""
        return sum(self.failed.values())

    @property
    def error_rate(self) -> float | None:
        """Return which part of what was reported lately failed; None where no success is ever reported."""
        return self.failures / (self.failures + self.well) if self.well else None

    @property
    def acts(self) -> tuple[str, ...]:
        """Return what a person may do about it as it stands."""
        return tuple(act for act in _ALLOWED[self.state] if act != "probe" or self.service.health is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One service with what happened to it lately, newest first."""

    vitals: Vitals
    incidents: Sequence[Incident]
    events: Sequence[AuditEntry]


async def all_of(parts: Parts) -> list[Vitals]:
    """Return every configured service, by name."""
    return await _vitals(parts, sorted(parts.services))


async def of(parts: Parts, name: str) -> Story | None:
    """Return one service; None where it is not configured."""
    if name not in parts.services:
        return None
    (vitals,) = await _vitals(parts, [name])
    async with parts.store.transaction() as tx:
        incidents = await tx.incidents.list(most=_INCIDENTS_MAX, service=name)
        events = await tx.audit.list(most=_EVENTS_MAX, target=name)
    return Story(vitals=vitals, incidents=incidents, events=[one for one in events if one.incident_id is None])


async def _vitals(parts: Parts, names: Sequence[str]) -> list[Vitals]:
    since = parts.clock.now() - FIGURES_OF
    async with parts.store.transaction() as tx:
        gates = {gate.service: gate for gate in await tx.gates.all()}
        accounts = {name: await tx.credentials.of_service(name) for name in names}
        failed: dict[str, dict[str, int]] = {name: {} for name in names}
        for row in await tx.signals.failed_since(names, since):
            failed[row["service"]][row["category"]] = row["count"]
        well = await tx.signals.went_well_since(names, since)
    return [
        Vitals(
            service=parts.services[name],
            gate=gates.get(name),
            rate=_rate(parts.services[name], gates.get(name)),
            accounts=accounts[name],
            failed=failed[name],
            well=well.get(name, 0),
        )
        for name in names
    ]


def _rate(service: Service, gate: Gate | None) -> Rate | None:
    bounds = rate.bounds(service)
    if bounds is None or service.rate_per_s is None:
        return None
    learned = rate.of(gate, service) if gate is not None else None
    return Rate(
        now=service.rate_per_s if learned is None else learned,
        configured=service.rate_per_s,
        floor=bounds[0],
        ceiling=bounds[1],
        changed_at=gate.rate_since if gate is not None else None,
    )
