"""Who dies when: drawn from a seed, and from what the third parties see."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.crew import Crew
from chaos.postgres import Postgres
from chaos.world import World

_CALL_WITHIN_S = 1.0
_ONLY_CALL_WITHIN_S = 10.0
_IN_MID_CALL_S = 0.03
_START_S = 0.15
_WAIT_S = 5.0
_AWAY_S = 1.5
_LONG_AWAY_S = 7.0  # longer than a worker may be silent before it is taken for dead
_LONG_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Outage:
    """When PostgreSQL was away."""

    from_epoch_s: float
    until_epoch_s: float


@dataclass
class Killer:
    """Kill workers and, now and then, all of PostgreSQL.

    Args:
        gap_s: mean time between two kills that wait for nothing else.
        may_kill: whether the kill of this number may come already; after a while it comes all the same.
        within_s: no kill comes later than that.
        manners: how likely it is to kill at any moment, in mid-call, while it starts.
    """

    seed: int
    crew: Crew
    world: World
    postgres: Postgres | None
    kills: int
    postgres_kills: int
    gap_s: float
    manners: tuple[int, int, int]
    may_kill: Callable[[int], bool]
    within_s: float
    done: int = 0
    how: Counter[str] = field(default_factory=Counter)
    outages: list[Outage] = field(default_factory=list)

    def run(self) -> None:
        """Kill as often as was asked for, or as the time allows."""
        rng = random.Random(f"{self.seed}/killer")
        at = set(rng.sample(range(self.kills), min(self.postgres_kills, self.kills)))
        end_s = time.monotonic() + self.within_s
        while self.done < self.kills and time.monotonic() < end_s:
            self._wait()
            if self.done in at:
                self._kill_postgres(rng)
            self._kill_one(rng)
            self.done += 1

    def _wait(self) -> None:
        """Let events keep up, so that every kill meets some."""
        end_s = time.monotonic() + _WAIT_S
        while not self.may_kill(self.done) and time.monotonic() < end_s:
            time.sleep(0.01)

    def _kill_one(self, rng: random.Random) -> None:
        """Wait for nothing, for a call, or for a start; then kill."""
        manner = rng.choices(["at any moment", "in mid-call", "while it starts"], self.manners)[0]
        if manner == "in mid-call" and self._kill_caller(rng):
            return
        starting = manner == "while it starts"
        while True:
            time.sleep(rng.uniform(0.0, _START_S if starting else 2 * self.gap_s))
            alive = sorted(self.crew.living(), key=lambda worker: worker.started_epoch_s)
            if alive and self.crew.kill((alive[-1] if starting else rng.choice(alive)).seat) is not None:
                break
        self.how["while it starts" if starting else "at any moment"] += 1

    def _kill_caller(self, rng: random.Random) -> bool:
        """Kill a process right after its call arrived; False where nobody called, or it was gone already."""
        time.sleep(rng.uniform(0.0, self.gap_s))
        alone = len(self.crew.living()) == 1  # nobody calls while it starts
        call = self.world.next_call(_CALL_WITHIN_S if self.manners[0] and not alone else _ONLY_CALL_WITHIN_S)
        if call is None:
            return False
        time.sleep(rng.uniform(0.0, _IN_MID_CALL_S))
        if self.crew.kill(call.worker.partition(".")[0], call.worker) is None:
            return False
        self.how["in mid-call"] += 1
        return True

    def _kill_postgres(self, rng: random.Random) -> None:
        assert self.postgres is not None
        from_s = time.time()
        self.postgres.kill()
        away_s = _LONG_AWAY_S if rng.random() < _LONG_SHARE else rng.uniform(0.0, _AWAY_S)
        time.sleep(away_s)
        self.postgres.start()
        self.outages.append(Outage(from_s, time.time()))
