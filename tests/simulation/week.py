"""A virtual week: failures all the time, people once a day, retention of a day; nothing may grow once that has settled.

`make week`. What the outside keeps as its ledger is forgotten every midnight, so what is counted is prunella's own.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import dataclass
from functools import partial
from statistics import mean

from prunella.core.retention import Retention
from simulation.scenario import Act, Scenario, Shape

DAY_S = 86_400.0
SETTLED = 4
"""Days until retention forgets as much as comes: one that an incident is open, one that it is kept, the audit for two."""
OBJECTS = "objects in memory"
DAYS = SETTLED - 1 + 7
"""A week behind those; over fewer days what grows evenly is hardly told from what is noise."""
MORE = {OBJECTS: 1.03}
"""How much more is still noise; of rows it is less than half, since failures come and go."""
GROWING = ("seals",)  # the chain itself: one row for at most every 30 s in which something happened


def shape(days: int, day_s: float, posts: int) -> Shape:
    """Return the shape of so many days; `posts` each."""
    return Shape(
        storm_s=days * day_s,
        mean_s=900.0,
        workers=1,
        slowness=6.0,
        crash_at=(),  # one process lives all the time: what a crash abandons is never given back
        outages=3 * days,
        kills=0,
        posts=posts * days,
        early=0.0,
        acts=20 * days,
        jumps=0,
        expiries=10 * days,
        retention=Retention(operations_s=day_s, incidents_s=day_s, notifications_s=day_s, audit_s=2 * day_s),
        steps_max=10_000_000,
    )


@dataclass(frozen=True, slots=True)
class Midnight:
    """What there was at the end of a day."""

    day: int
    counts: dict[str, int]


class Week(Scenario):
    """Many days of one seed; a test may have them shorter, but retention looks once an hour."""

    def __init__(self, seed: int, days: int, *, day_s: float = DAY_S, posts: int = 150) -> None:
        super().__init__(seed, shape(days, day_s, posts))
        self.days, self.day_s = days, day_s
        self.crowd.pulls_plugs = False
        self.midnights: list[Midnight] = []

    def midnights_played(self) -> list[Midnight]:
        """Play the days and return what there was at the end of each."""
        result = self.play()
        assert not result.wrongs, result.wrongs
        return self.midnights

    def _timetable(self) -> list[tuple[float, Act]]:
        daily: list[tuple[float, Act]] = []
        for day in range(self.days):
            noon_s = (day + 0.5) * self.day_s
            daily += [
                (noon_s, self.crowd.repair),
                (noon_s + 60.0, partial(self.crowd.clear_away, self.day_s)),
                (noon_s + 110.0, self.crowd.ask_again),
            ]
            daily += [(noon_s + 120.0, self.crowd.report_successes), ((day + 1) * self.day_s - 60.0, self._midnight)]
        return daily + super()._timetable()

    def _judge(self) -> None:
        self.senders.must_be_there()  # the rest speaks of what is forgotten by now

    async def _midnight(self) -> None:
        database = self.machine.database
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        counts = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables}
        self._forget()
        gc.collect()
        counts[OBJECTS] = len(gc.get_objects())
        self.midnights.append(Midnight(len(self.midnights) + 1, counts))

    def _forget(self) -> None:
        """Let the outside forget the day: it would grow, and is not what is measured."""
        self.world.trace.lines.clear()
        self.machine.watch.forget()
        self.world.forget()
        self.machine.forget()
        self.senders.posts = [post for post in self.senders.posts if not self.senders.may_be_forgotten(post)]


def grown(midnights: list[Midnight]) -> list[str]:
    """Say what went on growing when retention had settled: what grows evenly is half as much again later."""
    settled = [midnight.counts for midnight in midnights[SETTLED - 1 :]]
    half = len(settled) // 2
    found = []
    for name in sorted(set(settled[-1]) - set(GROWING)):
        before, later = (mean(one.get(name, 0) for one in part) for part in (settled[:half], settled[half:]))
        if later > MORE.get(name, 1.4) * before + 20:
            found.append(f"{name}: {before:,.0f} a midnight before, {later:,.0f} later")
    return found


def main() -> int:
    """Play the days, tell, judge."""
    wish = argparse.ArgumentParser(prog="make week", description=__doc__)
    wish.add_argument("--days", type=int, default=DAYS)
    wish.add_argument("--seed", type=int, default=1)
    given = wish.parse_args()
    if given.days < DAYS:
        wish.error(f"--days is {given.days}; what grows shows within {DAYS}, so ask for that or more")
    begun, week = time.monotonic(), Week(given.seed, given.days)
    result = week.play()
    for midnight in week.midnights:
        shown = ", ".join(f"{count:,} {name}" for name, count in midnight.counts.items() if count)
        print(f"day {midnight.day}: {shown}")
    wrongs = result.wrongs + [f"it grows: {what}" for what in grown(week.midnights)]
    steps = result.counts["steps"]
    print(f"{given.days} virtual days, {steps:,} I/O steps, in {time.monotonic() - begun:.0f} s: {len(wrongs)} wrong")
    print(*wrongs, sep="\n")
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
