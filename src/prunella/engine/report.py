"""Tell how things stand: answers to events, the story of an incident, the overview's figures. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prunella.core.records import AuditEntry, Gate, Incident, Operation, Run
from prunella.core.states import GateState, IncidentState, OperationState
from prunella.engine.parts import Parts

_OTHER_WORKER_S = 0.5  # another process may settle the incident: then nothing is announced here


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an accepted event belongs to; `incident_id` None for a success that healed nothing.

    Args:
        incident: as the event's own transaction left it; None where it has to be read.
        gate: that of the incident's service, likewise; None also where the service is not configured.
    """

    incident_id: str | None
    signal_id: str
    duplicate: bool
    incident: Incident | None = None
    gate: Gate | None = None


_MOVING = (IncidentState.PENDING, IncidentState.OPEN, IncidentState.HEALING)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an event stands: its incident, its own replay and its service's gate."""

    incident: Incident
    operation: Operation | None
    gate: Gate | None

    @property
    def status(self) -> str:
        """Return document B's status of this event: its own request went through, or its incident's status."""
        if self.operation is not None and self.operation.state is OperationState.DONE:
            return "resolved"
        return outward_status(self.incident, self.gate)

    @property
    def next_at(self) -> datetime | None:
        """Return when the next try is due, None when none is scheduled."""
        if self.status != "pending":
            return None
        own = self.operation.due_at if self.operation is not None else None
        return own or self.incident.next_at

    def is_settled(self, horizon: datetime) -> bool:
        """Tell whether nothing more will happen to this event before `horizon`."""
        if outward_status(self.incident, self.gate) != "pending" or self.incident.state not in _MOVING:
            return True
        if self.incident.lease_until is not None:
            return False
        upcoming = [moment for moment in (self.next_at, self.incident.next_at) if moment is not None]
        return all(moment > horizon for moment in upcoming)


def outward_status(incident: Incident, gate: Gate | None) -> str:
    """Return document B's status of an incident: resolved, disabled or pending."""
    if not incident.is_open:
        return "resolved"
    return "disabled" if gate is not None and gate.state is GateState.DISABLED else "pending"


async def first_standing(parts: Parts, receipt: Receipt) -> Standing | None:
    """Tell where an event stands as it is accepted; what its own transaction has seen is not read again."""
    if receipt.incident is None:
        return await standing(parts, receipt)
    return Standing(receipt.incident, None, receipt.gate)


async def standing(parts: Parts, receipt: Receipt) -> Standing | None:
    """Read where an event stands; None for a success that belongs to no incident."""
    if receipt.incident_id is None:
        return None
    async with parts.store.transaction() as tx:
        incident = await tx.incidents.get(receipt.incident_id)
        assert incident is not None  # incidents are never deleted while signals point at them
        return Standing(
            incident, await tx.operations.of_signal(receipt.signal_id), await tx.gates.read(incident.service)
        )


async def settled(parts: Parts, receipt: Receipt, *, within_s: float) -> Standing | None:
    """Wait until the event has come as far as it will within `within_s` seconds, and tell where it stands."""
    if receipt.incident_id is None:
        return None
    end = parts.clock.monotonic() + within_s
    horizon = parts.clock.now() + timedelta(seconds=within_s)
    while True:
        moved = parts.bulletin.watch(receipt.incident_id)
        try:
            found = await standing(parts, receipt)
            left = end - parts.clock.monotonic()
            if found is None or left <= 0 or found.is_settled(horizon) or parts.bulletin.closed:
                return found
            await asyncio.wait([moved], timeout=min(left, _OTHER_WORKER_S))
        finally:
            parts.bulletin.unwatch(receipt.incident_id, moved)


@dataclass(frozen=True, slots=True)
class Story:
    """An incident with everything that was done about it."""

    incident: Incident
    gate: Gate | None
    timeline: list[AuditEntry]
    runs: list[Run]
    evidence: Mapping[str, Any] | None


async def story(parts: Parts, incident_id: str) -> Story | None:
    """Read the whole story of an incident; None when there is no such incident."""
    async with parts.store.transaction() as tx:
        incident = await tx.incidents.get(incident_id)
        if incident is None:
            return None
        return Story(
            incident,
            await tx.gates.read(incident.service),
            await tx.audit.of_incident(incident_id),
            await tx.runs.of_incident(incident_id),
            await tx.signals.last_of(incident_id),
        )
