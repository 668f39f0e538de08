"""One simulated history: a storm of failures, deaths and people, then calm weather to see what is left.

Everything is drawn from one seed before and while it plays; the same seed plays the same history.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prunella.core import redact
from prunella.core.clock import Rng
from prunella.core.retention import Retention
from prunella.testing import SimulatedCrash, virtual_time
from simulation.crowd import Crowd
from simulation.invariants import at_the_end, healed_by_now
from simulation.machine import Machine, Process
from simulation.marks import been
from simulation.places import MOODS, PROVIDER_MOODS, Moods, Place
from simulation.senders import Senders
from simulation.services import ACCOUNTS, services
from simulation.world import World

CALM_S = 1150.0  # two scans and more
Act = Callable[[], Awaitable[None]]


@dataclass
class Result:
    """What a history showed."""

    seed: int
    digest: str
    wrongs: list[str]
    lines: list[str]
    counts: dict[str, int]
    marks: Counter[str]
    virtual_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much of everything a history has.

    Args:
        storm_s: seconds in which things go wrong; then follows the calm.
        mean_s: how long a third party keeps its mood, on average.
        slowness: the higher, the rarer a slow statement.
        crash_at: the I/O steps at which the power fails.
        moments of the storm, so many of each: outages of the database, kills of a worker, acts of people, jumps of the
            wall clock.
        expiries: access tokens that end before their time.
        early: the share of posts that comes in the first ten seconds, all at once.
        retention: what the engine forgets meanwhile; None: the history is too short for it.
    """

    storm_s: float
    mean_s: float
    workers: int
    slowness: float
    crash_at: tuple[int, ...]
    outages: int
    kills: int
    posts: int
    acts: int
    jumps: int
    expiries: int
    early: float = 0.5
    retention: Retention | None = None
    steps_max: int = 40_000


def drawn(rng: Rng) -> Shape:
    """Draw a shape: mostly short and small, because that is where most of what can happen happens, now and then not."""
    is_long, is_big = rng.random() < 0.04, rng.random() < 0.06
    workers = 2 if rng.random() < 0.35 else 1
    last_step = 1500 if is_big or is_long else 500
    return Shape(
        storm_s=rng.uniform(1200, 3000) if is_long else rng.uniform(15, 100),
        mean_s=300.0 if is_long else rng.choice((5.0, 20.0)),
        workers=workers,
        slowness=rng.choice((1.0, 3.0, 6.0, 10.0)),
        crash_at=tuple(rng.randrange(5, last_step) for _ in range(rng.choice((0, 1, 2, 3)))),
        outages=rng.choice((0, 1, 2, 4, 6)),
        kills=rng.choice((0, 1, 2, 4)) if workers > 1 else 0,
        posts=rng.randrange(8, 24) if is_big else rng.randrange(1, 7),
        acts=rng.randrange(0, 14 if is_big else 5),
        jumps=rng.choice((0, 0, 1, 2)),
        expiries=rng.randrange(0, 12),
    )


def _apart(moments: list[float], gap_s: float) -> list[float]:
    """Leave out what comes too soon after what is kept: two outages on end are one that is longer than is survived."""
    kept: list[float] = []
    for moment_s in moments:
        if not kept or moment_s > kept[-1] + gap_s:
            kept.append(moment_s)
    return kept


class Scenario:
    """One seed's history."""

    def __init__(self, seed: int, shape: Shape | None = None) -> None:
        self.seed = seed
        self.rng = rng = Rng(f"{seed}/scenario")
        self.shape = shape = drawn(rng) if shape is None else shape
        self.storm_s = shape.storm_s
        self.world = World(seed, calm_from_s=self.storm_s)
        self._found_places(shape.mean_s)
        self.machine = Machine(
            self.world,
            slowness=shape.slowness,
            outages=[(at_s, at_s + rng.uniform(0.01, 4.0)) for at_s in _apart(self._moments(shape.outages), 15.0)],
            crash_at=shape.crash_at,
            steps_max=shape.steps_max,
            retention=shape.retention,
        )
        self.senders = Senders(self.machine, rng, self.storm_s, shape.posts, shape.early)
        self.crowd = Crowd(self.machine, self.senders, rng)
        self.kills, self.acts, self.jumps = (self._moments(one) for one in (shape.kills, shape.acts, shape.jumps))
        self.expiries = [rng.uniform(0, self.storm_s + 250.0) for _ in range(shape.expiries)]
        self._started = 0
        self._done: set[float] = set()

    def play(self) -> Result:
        """Play the history to its end, crash after crash."""
        log = logging.getLogger("prunella")
        level = log.level
        log.setLevel(logging.CRITICAL + 1)  # crashes and outages are meant to be
        redact.set_hash_key(b"simulation")
        try:
            self._move_in()
            result = self._play()
        finally:
            log.setLevel(level)  # later tests of this process read the log
        self.machine.database.close()
        self.world.trace.lines = []  # what a crash abandoned is kept for ever, so let it hold little
        return result

    def _move_in(self) -> None:
        with virtual_time() as loop:
            self.machine.boot(loop)
            loop.run_until_complete(self.crowd.move_in(Process(self.machine, "w0.0")))
        self.machine.stand_by()

    def _play(self) -> Result:
        while True:
            with virtual_time(self.rng.getrandbits(32)) as loop:
                self.machine.boot(loop)
                redact.known._spellings, redact.known._by_piece = {}, {}  # a new process knows no tokens yet
                try:
                    loop.run_until_complete(self._live())
                    return self._result()
                except SimulatedCrash:
                    if self.machine.steps >= self.shape.steps_max:
                        self.world.wrong("it works without end")
                        return self._result()
                    self.machine.lose_power()
                    self.world.epoch_s += loop.time() + self.rng.choice((0.1, 5.0, 25.0))

    async def _live(self) -> None:
        """Live until the end, or until the power fails."""
        if self.world.stormy():
            self.world.echo, self.machine.begun = self.senders.echo, self.crowd.meddle
            self.world.refreshing, self.world.rotated = self.crowd.cut_in, self.crowd.pull_the_plug
        for number in range(self.shape.workers):
            self._start(number)
        now_s = self.world.now_s()
        posts, known = self.senders.posts, self.senders.known()
        others = [self.senders.send(post) for post in posts if post.receipt is None]
        others += [self.senders.send_again(post) for post in known if self.rng.random() < 0.2]
        others += [self._at(at_s, self.crowd.act) for at_s in self.acts if at_s > now_s]
        others += [self._at(at_s, self._kill) for at_s in self.kills if at_s > now_s]
        others += [self._at(at_s, self._set_clock) for at_s in self.jumps if at_s > now_s]
        others += [self._at(at_s, self._expire) for at_s in self.expiries if at_s > now_s]
        others += [self._once(at_s, act) for at_s, act in self._timetable()]
        for other in others:
            self.machine.start(other)
        await asyncio.sleep(max(self.storm_s + CALM_S - now_s, 60.0))
        self.machine.must_be_idle()

    def _timetable(self) -> list[tuple[float, Act]]:
        """Return what people do and look at, and when: each once, whatever fails in the middle of it."""
        calm_s = self.storm_s
        return [
            (calm_s + 45.0, self.crowd.repair),
            (calm_s + 90.0, self.crowd.ask_again),
            (calm_s + 300.0, self.crowd.repair),
            (calm_s + 345.0, self.crowd.ask_again),
            (calm_s + 1005.0, self._look_at_the_scan),
            (calm_s + 1015.0, self.crowd.report_successes),
        ]

    async def _at(self, at_s: float, act: Act) -> None:
        await asyncio.sleep(max(at_s - self.world.now_s(), 0.0))
        await act()

    async def _once(self, at_s: float, act: Act) -> None:
        """Do what is not done yet, also when the power failed in the middle of it."""
        if at_s not in self._done:
            await self._at(at_s, act)
            self._done.add(at_s)

    def _start(self, number: int) -> None:
        self._started += 1
        process = Process(self.machine, f"w{number}.{self._started}")
        self.world.trace.say(self.world.now_s(), "start", process.name)
        self.machine.run(process, alone=self.shape.workers == 1)

    async def _kill(self) -> None:
        victim = self.machine.any(self.rng)
        if victim is not None:
            self.machine.kill(victim)
            await asyncio.sleep(self.rng.choice((0.5, 30.0)))
            self._start(int(victim.name[1]))

    async def _expire(self) -> None:
        """Let an access token end before its time."""
        service, name = self.rng.choice(ACCOUNTS)
        account = self.world.places[service].accounts[name]
        if account.since_s < self.world.now_s() - 60.0:
            self.world.seen("expired", service, name)
            account.access = "expired"

    async def _set_clock(self) -> None:
        """Set the wall clock right, or wrong: nobody can tell."""
        self.world.set_clock(self.rng.choice((-1.0, 1.0)) * self.rng.choice((0.5, 5.0, 45.0)) * self.rng.random())
        if self.rng.random() < 0.1:
            self.world.set_clock(self.rng.choice((3600.0, 86400.0)))

    async def _look_at_the_scan(self) -> None:
        healed_by_now(self.world, self.machine.database)

    def _result(self) -> Result:
        database, watch = self.machine.database, self.machine.watch
        marks = been(self.world.marks, database)
        self._judge()
        counts = {f"failed {name}": number for name, number in watch.failures.items()}
        for table in ("incidents", "runs"):
            for state, number in database.execute(f"SELECT state, count(*) FROM {table} GROUP BY state"):
                counts[f"{table} {state}"] = number
        counts |= {"steps": self.machine.steps, "interrupted": len(watch.interrupted)}
        return Result(
            self.seed,
            self.world.trace.digest(),
            self.world.wrongs,
            self.world.trace.lines,
            counts,
            marks,
            self.world.now_s(),
        )

    def _judge(self) -> None:
        """Judge how everything stands at the end."""
        at_the_end(self.world, self.machine.database, self.machine.watch)
        self.senders.must_be_there()

    def _moments(self, count: int) -> list[float]:
        """Draw moments of the storm."""
        return sorted(self.rng.uniform(0, self.storm_s) for _ in range(count))

    def _found_places(self, mean_s: float) -> None:
        for service in services():
            moods, tokens = Rng(f"{self.seed}/{service.name}"), Rng(f"{self.seed}/{service.name}/tokens")
            self.world.places[service.name] = Place(
                service,
                Moods(moods, MOODS, mean_s, self.storm_s),
                Moods(tokens, PROVIDER_MOODS, mean_s, self.storm_s),
            )


def play(seed: int) -> Result:
    """Play one history."""
    return Scenario(seed).play()
