"""What the engine is given to work with; `app.py` puts it together, tests and the simulation put in their own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prunella.core.clock import Clock, Ids, Rng
from prunella.core.events import Listeners
from prunella.core.issues import Learning
from prunella.core.services import Service
from prunella.engine.learning.known import KnownIssues
from prunella.engine.notices import Routes
from prunella.engine.pauses import Pauses
from prunella.engine.ready import Ready
from prunella.remedies.contract import Outcome, Target
from prunella.remedies.known import Bindable
from prunella.runner.contract import Runner
from prunella.store.contract import Store

ADVISE = "advise"
"""The handler that asks for a second opinion."""
LEARN = "learn"
"""The round that learns from what failed."""
LEASE_S = 20.0
"""How long a claim lasts: twice the longest call, so that a live worker never loses one."""
_WAY_S = 0.001
"""Long enough for all that is ready, not for one turn of one task; nothing beside a batch of 10 to 30 ms."""


class Bulletin:
    """Tell those who wait in this process that an incident moved."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: defaultdict[str, dict[asyncio.Future[None], None]] = defaultdict(dict)  # who asked first, first

    def announce(self, incident_id: str) -> None:
        """Wake everybody who waits for `incident_id`."""
        for future in self._waiting.pop(incident_id, ()):
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Wake everybody for good: nothing moves in this process any more."""
        self.closed = True
        for incident_id in list(self._waiting):
            self.announce(incident_id)

    def watch(self, incident_id: str) -> asyncio.Future[None]:
        """Return a future that ends at the next announcement; ask before reading the row, so that none is missed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[incident_id][future] = None
        return future

    def unwatch(self, incident_id: str, future: asyncio.Future[None]) -> None:
        """Stop waiting."""
        waiting = self._waiting.get(incident_id)
        if waiting is not None:
            waiting.pop(future, None)
            if not waiting:
                del self._waiting[incident_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything the engine's functions need.

    Args:
        act: performs a remedy by name; never raises.
        seal, unseal: payloads at rest, bound to a row.
        public_url: where links in messages lead, without a slash at the end.
        worker: this process's name in claims and runs.
        procedures: what is looked after by checks, by name.
        pauses: what rests as a whole.
        known: what has been seen before.
        bindable: what may be bound to known issues, by name.
        learning: how quickly something becomes known.
        advised: a handler `advise` is registered, so incidents nobody can explain or heal get an opinion.
    """

    store: Store
    runner: Runner
    services: Mapping[str, Service]
    routes: Routes
    act: Callable[[str, Target], Awaitable[Outcome]]
    seal: Callable[[bytes, str], bytes]
    unseal: Callable[[bytes, str], bytes]
    clock: Clock
    ids: Ids
    rng: Rng
    listeners: Listeners
    worker: str
    public_url: str = ""
    development: bool = False
    procedures: Mapping[str, Ready] = field(default_factory=dict)
    pauses: Pauses
    known: KnownIssues
    bindable: Mapping[str, Bindable] = field(default_factory=dict)
    learning: Learning = field(default_factory=Learning)
    advised: bool = False
    bulletin: Bulletin = field(default_factory=Bulletin)

    async def give_way(self) -> None:
        """Let everything else of this process have its turn, between two steps of long work.

        On SQLite nothing that a step awaits ever gives it up.
        """
        await self.clock.sleep(_WAY_S)
