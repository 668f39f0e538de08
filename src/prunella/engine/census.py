"""How things stand at this moment, in figures: what gauges show. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from prunella.engine.parts import Parts
from prunella.runner.contract import STALE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """One look at everything that stands.

    Args:
        incidents: state -> open ones.
        operations: (service, state) -> those that wait, run or are in quarantine.
        gates: service -> state of its gate; services that nobody called yet have a closed one.
        messages: channel -> those that wait.
        lag_s: for how long the longest waiting incident is due.
        unsealed: entries of the audit that wait for their seal.
    """

    incidents: Mapping[str, int]
    operations: Mapping[tuple[str, str], int]
    gates: Mapping[str, str]
    messages: Mapping[str, int]
    approvals: int
    lag_s: float
    unsealed: int
    workers: int


async def take(parts: Parts, *, alone: bool) -> Census:
    """Look.

    Args:
        alone: this process is the only one, and nobody counts workers.
    """
    now = parts.clock.now()
    names = sorted(parts.services)
    async with parts.store.transaction() as tx:
        due = await tx.census.due_since(now)
        gates = {gate.service: gate.state.value for gate in await tx.gates.all()}
        seen = [row["seen_at"] for row in await tx.workers.all()]
        return Census(
            incidents=await tx.census.incidents(),
            operations=await tx.census.operations(names),
            gates={name: gates.get(name, "closed") for name in names},
            messages=await tx.census.messages(),
            approvals=await tx.census.approvals(),
            lag_s=max((now - due).total_seconds(), 0.0) if due is not None else 0.0,
            unsealed=await tx.census.unsealed(),
            workers=1 if alone else sum(now - one <= timedelta(seconds=STALE_S) for one in seen),
        )
