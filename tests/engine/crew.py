"""Several engines on one store, in real time: workers of their own names that know nothing of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prunella.core.clock import Clock, Ids, Rng
from prunella.core.events import Listeners
from prunella.core.outcomes import Outcome
from prunella.core.records import Incident, Severity
from prunella.engine.learning.known import KnownIssues
from prunella.engine.notices import Route, Routes
from prunella.engine.parts import Parts
from prunella.engine.pauses import Pauses
from prunella.engine.ready import Ready
from prunella.remedies.contract import Target
from prunella.runner.local import LocalRunner
from prunella.store.contract import Store


async def nobody(name: str, target: Target) -> Outcome:
    """Refuse to act on a service: procedures are what these stories are about."""
    raise AssertionError(name)


def engine(store: Store, worker: str, procedures: Mapping[str, Ready] | None = None, **changed: Any) -> Parts:
    """Return one worker's engine; nothing is called by a runner."""
    clock, rng, listeners = changed.get("clock", store.clock), Rng(hash(worker) % 1000), Listeners()
    fields: dict[str, Any] = {
        "store": store,
        "runner": LocalRunner(clock, listeners),
        "services": {},
        "routes": Routes((Route(frozenset(Severity), ("ops",)),)),
        "act": nobody,
        "seal": lambda data, _: data,
        "unseal": lambda data, _: data,
        "clock": clock,
        "ids": Ids(clock, rng),
        "rng": rng,
        "listeners": listeners,
        "worker": worker,
        "public_url": "https://prunella.example",
        "procedures": procedures or {},
        "pauses": Pauses(store, clock),
        "known": KnownIssues(clock),
    }
    return Parts(**{**fields, **changed})


@dataclass
class Tables:
    """What stories ask of a store."""

    store: Store

    async def incidents(self, **equal: Any) -> list[Incident]:
        """Return a ward's incidents, oldest first."""
        async with self.store.transaction() as tx:
            return (await tx.incidents.list(most=2000, procedure="ward", **equal))[::-1]

    async def runs(self) -> Sequence[Any]:
        """Return a ward's attempts, oldest first."""
        async with self.store.transaction() as tx:
            return (await tx.runs.list(most=2000, procedure="ward"))[::-1]


class Jump:
    """The store's clock, which a story may put forward: so time passes for a worker that is frozen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
