"""What is decided within one transaction, gathered and written at its end in a few statements, however many things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace

from prunella.core.records import AuditEntry, Incident, Notice, Run
from prunella.core.states import RunState
from prunella.engine import trail
from prunella.engine.parts import Parts
from prunella.engine.ready import Ready
from prunella.store.contract import Transaction
from prunella.store.metrics import Daily

_FIGURES = tuple(one.name for one in fields(Daily) if one.name not in ("day", "procedure", "issue", "action"))


class Gathered:
    """Changes to the incidents and runs of one procedure, with their audit, figures and messages."""

    def __init__(self, parts: Parts, tx: Transaction, ready: Ready) -> None:
        self.parts = parts
        self.tx = tx
        self.ready = ready
        self.now = parts.clock.now()
        self._incidents: dict[str, Incident] = {}
        self._runs: dict[str, tuple[Run, RunState]] = {}
        self._audit: list[AuditEntry] = []
        self._figures: dict[tuple[str, str], dict[str, float]] = {}
        self._notices: list[Notice] = []

    def save(self, incident: Incident) -> Incident:
        """Have an incident written as it is here; of several words about one, the last counts."""
        self._incidents[incident.id] = incident
        return incident

    def as_written(self, incident: Incident) -> Incident:
        """Return an incident as it stands once everything is written."""
        changed = incident.id in self._incidents
        return replace(incident, version=incident.version + 1) if changed else incident

    def settle(self, run: Run, was: RunState) -> None:
        """Have an attempt's end written."""
        _, first = self._runs.get(run.id, (run, was))
        self._runs[run.id] = (run, first)

    def settled(self, run: Run) -> Run:
        """Return an attempt as it will stand."""
        return self._runs[run.id][0] if run.id in self._runs else run

    def note(self, action: str, target: str, *, reason: str, incident: str, by: str = "") -> None:
        """Append to the audit."""
        self._audit.append(trail.entry(self.parts, action, target, reason=reason, incident=incident, by=by))

    def count(self, issue: str, action: str, **figures: float) -> None:
        """Add to the day's figures."""
        sums = self._figures.setdefault((issue, action), {})
        for name, value in figures.items():
            sums[name] = sums.get(name, 0) + value

    def tell(self, notice: Notice) -> None:
        """Put a message into the outbox."""
        self._notices.append(notice)

    async def history(self, incident_id: str) -> list[Run]:
        """Return an incident's attempts, oldest first, as they will stand."""
        written = await self.tx.runs.of_incident(incident_id)
        return [self.settled(run) for run in written]

    async def write(self) -> None:
        """Write it all; `Conflict` when an incident or an attempt is not as it was read."""
        tx = self.tx
        for was in {was for _, was in self._runs.values()}:
            await tx.runs.settle_all([run for run, before in self._runs.values() if before is was], was)
        await tx.incidents.save_all(list(self._incidents.values()))
        await tx.audit.add(self._audit)
        await tx.metrics.add([self._daily(*place, figures) for place, figures in self._figures.items()])
        await trail.tell(self.parts, tx, self._notices)

    def _daily(self, issue: str, action: str, figures: dict[str, float]) -> Daily:
        day = self.now.date().isoformat()
        added = {name: figures.get(name, 0) for name in _FIGURES}
        recovery_s = float(added.pop("recovery_s"))
        whole = {name: int(value) for name, value in added.items()}
        return Daily(day=day, procedure=self.ready.name, issue=issue, action=action, recovery_s=recovery_s, **whole)


@asynccontextmanager
async def gathering(parts: Parts, ready: Ready) -> AsyncIterator[Gathered]:
    """Open a transaction over the incidents of one procedure, alone among the workers; write what was gathered."""
    async with parts.store.transaction() as tx:
        await tx.procedures.lock(ready.name)
        gathered = Gathered(parts, tx, ready)
        yield gathered
        await gathered.write()
