"""A prunella process in the simulation: the real parts, wired as `app.py` wires them, over a slow database.

Only the waiting is made up. Every statement takes random time before and after, under the store's own lock; a process
can die at each of these moments, alone or with the whole machine, and what it had not committed is rolled back.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from prunella.core.clock import Ids, Rng
from prunella.core.errors import StoreUnavailable
from prunella.core.events import Event, Listeners
from prunella.core.records import Severity
from prunella.core.retention import Retention
from prunella.engine import patrol, proposals, retention, seals
from prunella.engine.heal import heal
from prunella.engine.intake import Intake
from prunella.engine.learning import occurrences
from prunella.engine.learning.known import KnownIssues
from prunella.engine.notices import Route, Routes
from prunella.engine.parts import LEARN, Parts
from prunella.engine.pauses import Pauses
from prunella.engine.reconcile import reconcile
from prunella.notify.contract import Channel
from prunella.notify.outbox import Delivery
from prunella.remedies.contract import Acts, Target
from prunella.remedies.http import Probe, Replay
from prunella.remedies.known import InvalidateCache
from prunella.remedies.oauth import RefreshToken
from prunella.runner.local import LocalRunner
from prunella.store import migrations
from prunella.store.secrets import Keys, Vault
from prunella.testing import VirtualLoop
from simulation.slow_store import SlowStore
from simulation.watch import Watch
from simulation.world import SCAN_EVERY_S, Chat, WallClock, Wire, World

KEYS = Keys([b"simulation-simulation-simulation"])
ROUTES = Routes(
    (
        Route(frozenset({Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL}), ("ops",)),
        Route(frozenset({Severity.LOW}), ("ops",), digest_s=60.0),
        Route(frozenset({Severity.LOW, Severity.HIGH}), ("mail",)),
    )
)
_TOLD = ("incident", "service", "remedy", "state", "attempt", "how", "channel", "count", "handler", "error")


@cache
def _template() -> bytes:
    """Migrate once; every run starts from a copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        migrations.upgrade(f"sqlite:///{path}")
        database = sqlite3.connect(path)
        try:
            return database.serialize()
        finally:
            database.close()


class Machine:
    """What the processes share: the database, its lock, the loop, and the power switch.

    Args:
        slowness: the higher, the rarer a slow statement: 1 is up to 50 ms evenly, 6 mostly a few.
        outages: when the database is away, as (from, to) in virtual seconds.
        crash_at: numbers of the I/O steps at which everything dies.
        steps_max: a history that takes more I/O than this goes round in circles.
        retention: what is forgotten; None: nothing.
    """

    def __init__(
        self,
        world: World,
        *,
        slowness: float,
        outages: Sequence[tuple[float, float]],
        crash_at: Sequence[int],
        steps_max: int,
        retention: Retention | None,
    ) -> None:
        self.world = world
        self.database = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.database.deserialize(_template())
        self.kept_s = 1e6 if retention is None else retention.incidents_s
        self.watch = Watch(world, self.database, self.kept_s)
        world.called = self.watch.called
        self.rng = Rng(f"{world.seed}/machine")
        self.slowness, self.steps_max, self.retention = slowness, steps_max, retention
        self.outages: tuple[tuple[float, float], ...] = ()
        self.crash_at: set[int] = set()
        self._trouble = tuple(outages), set(crash_at)
        self._others: list[asyncio.Task[None]] = []
        self.steps = 0
        self.turn = asyncio.Lock()
        self.holder: Process | None = None
        self.begun: Callable[[str], None] | None = None  # hears of each attempt that begins
        self.processes: list[Process] = []
        self.graves: list[object] = []  # who is forgotten is collected, and runs its `finally`

    def boot(self, loop: VirtualLoop) -> None:
        """Begin again after a crash: nothing is left but what was committed."""
        self.loop = self.world.loop = loop
        self.turn, self.holder = asyncio.Lock(), None
        self.processes.clear()
        self._others.clear()
        self.world.alive.clear()
        self.watch.people_at_work = 0

    def stand_by(self) -> None:
        """Let trouble begin: until then nothing failed and nothing counted."""
        self.outages, self.crash_at = self._trouble
        self.steps = 0

    def lose_power(self) -> None:
        """End everything, as the loop has ended already."""
        self._roll_back()
        for process in self.processes:
            self.watch.died(process.name)
        self.world.crash()

    def start(self, other: Coroutine[Any, Any, None]) -> None:
        """Let somebody outside of prunella do something meanwhile."""
        self._others.append(self.loop.create_task(other))

    def run(self, process: Process, *, alone: bool) -> None:
        """Let a process work until it dies; it has no other end."""

        def ended(work: asyncio.Task[None]) -> None:
            if not work.cancelled():
                self.world.wrong(f"{process.name} ended: {work}")

        process.working = self.loop.create_task(process.work(alone=alone))
        process.working.add_done_callback(ended)

    def forget(self) -> None:
        """Forget who outside of prunella has got through."""
        self._others = [other for other in self._others if not other.done()]

    def must_be_idle(self) -> None:
        """Judge whether everybody outside has got through."""
        for other in self._others:
            if not other.done():
                self.world.wrong(f"somebody waits for ever: {other}")
            else:
                other.result()

    def is_away(self) -> bool:
        """Tell whether the database does not answer."""
        now_s = self.world.now_s()
        return any(begin_s <= now_s < end_s for begin_s, end_s in self.outages)

    def is_away_about(self, at_s: float, within_s: float) -> bool:
        """Tell whether the database is away some time before or after a moment."""
        return any(begin_s - within_s <= at_s < end_s + within_s for begin_s, end_s in self.outages)

    def any(self, rng: Rng) -> Process | None:
        """Return some process that lives."""
        return rng.choice(self.processes) if self.processes else None

    async def unless_dead(self, process: Process, act: Awaitable[Any]) -> Any:
        """Wait for `act`, or for the death of whoever does it; None also where the database was away."""
        doing = asyncio.ensure_future(act)
        await asyncio.wait({doing, process.died}, return_when=asyncio.FIRST_COMPLETED, timeout=120.0)
        if not doing.done():
            return None
        try:
            return doing.result()
        except StoreUnavailable:
            if not self.outages:
                raise
            return None

    def kill(self, process: Process) -> None:
        """End one process where it stands: its transaction is rolled back, nobody waits for its replies."""
        self.world.seen("kill", process.name)
        process.died.set_result(None)
        self.graves.append(process)
        self.processes.remove(process)
        self.world.alive.discard(process.name)
        if self.holder is process:
            self._roll_back()
            self.holder = None
            self.turn.release()
        self.watch.died(process.name)

    def _roll_back(self) -> None:
        if self.database.in_transaction:
            self.database.execute("ROLLBACK")


class Process:
    """One prunella: store, runner, intake, remedies and delivery of its own."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        world = machine.world
        self.died: asyncio.Future[None] = machine.loop.create_future()
        self.working: asyncio.Task[None] | None = None
        rng = Rng(f"{world.seed}/{name}")
        clock = WallClock(world)
        self.store = SlowStore(machine, self, clock)
        listeners = Listeners()
        listeners.subscribe(self._hear)
        runner = LocalRunner(clock, listeners)
        self.vault = Vault(self.store, KEYS)
        caller = Wire(world, self)
        replay = Replay(caller, self.vault, self.store)
        cache = InvalidateCache(replay)
        known = (replay, Probe(replay), RefreshToken(caller, self.vault, self.store, name), cache)
        remedies: dict[str, Acts] = {one.name: one for one in known}

        def act(remedy: str, target: Target) -> Any:
            return remedies[remedy].apply(target)

        services = {name: place.service for name, place in world.places.items()}
        self.parts = Parts(
            store=self.store,
            runner=runner,
            services=services,
            routes=ROUTES,
            act=act,
            seal=KEYS.seal,
            unseal=KEYS.open,
            clock=clock,
            ids=Ids(clock, rng),
            rng=rng,
            listeners=listeners,
            worker=name,
            public_url="https://prunella.example",
            pauses=Pauses(self.store, clock),
            known=KnownIssues(clock),
            bindable={cache.name: cache},
        )
        self.intake = Intake(self.parts)
        rounds = patrol.rounds(services, {})
        rounds["scan"] = replace(rounds["scan"], every_s=SCAN_EVERY_S)
        if machine.retention is not None:
            rounds[retention.NAME] = retention.round_of(machine.retention)
        self.procedures = {**rounds, LEARN: occurrences.ROUND}
        delivery = Delivery(self.store, runner, caller, self._channel, listeners, Ids(clock, rng))
        runner.handle("heal", partial(heal, self.parts))
        runner.handle("deliver", delivery.deliver)
        runner.handle("procedure", self._procedure)
        runner.handle("approval", partial(proposals.expire, self.parts))
        runner.handle(seals.HANDLER, partial(seals.seal_in_turn, self.parts))
        machine.processes.append(self)
        world.alive.add(name)

    async def work(self, *, alone: bool) -> None:
        """Start, and start again where the database is away, as a supervisor would have it."""
        while True:
            try:
                await reconcile(self.parts, self.procedures, alone=alone)
                if self.machine.retention is not None:
                    await self.parts.runner.submit(seals.HANDLER)
                break
            except StoreUnavailable:
                await self.parts.clock.sleep(1.0)
        await self.parts.runner.run()

    async def io(self, most_s: float, slowness: float = 1.0) -> None:
        """Let random time pass; here everything may end."""
        machine = self.machine
        seconds = most_s * machine.rng.random() ** slowness
        if not machine.loop.pass_alone(seconds):
            await asyncio.sleep(seconds)
        machine.steps += 1
        if (machine.steps in machine.crash_at and machine.world.stormy()) or machine.steps >= machine.steps_max:
            machine.world.seen("crash", f"at step {machine.steps}")
            await machine.loop.crash_here()
        await self.live_on()

    async def live_on(self) -> None:
        """Return to the living only."""
        if self.died.done():
            await self.rest_in_peace()

    async def rest_in_peace(self) -> NoReturn:
        """Never return."""
        never: asyncio.Future[NoReturn] = self.machine.loop.create_future()
        self.machine.graves.append(never)
        await never
        raise AssertionError

    async def _procedure(self, name: str) -> None:
        await patrol.run_procedure(self.parts, self.procedures[name])

    async def _channel(self, name: str) -> Channel:
        return Chat(name, self.machine.world, self)

    def _hear(self, event: Event) -> None:
        world = self.machine.world
        facts = [f"{name}={event.fields[name]}" for name in _TOLD if name in event.fields]
        world.trace.say(world.now_s(), event.name, self.name, *facts)
        if event.name == "run.started" and self.machine.begun is not None:
            self.machine.begun(str(event.fields["incident"]))
        if event.name == "engine.failed":
            world.marks["engine.failed"] += 1
            self.machine.watch.engine_failed(str(event.fields["handler"]), str(event.fields["error"]))
