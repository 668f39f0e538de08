"""A virtual week: failures all the time, people once a day, retention of a day; nothing may grow after the second day.

`make week`. What the outside keeps as its ledger is forgotten every midnight, so what is counted is prunella's own.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import dataclass

from prunella.core.retention import Retention
from simulation.scenario import Act, Scenario, Shape

DAY_S = 86_400.0
SETTLED = 3
"""Days until retention forgets as much as comes: everything is kept for one day, the audit for two."""
MORE = 1.25
"""How much more than on the first settled day is still noise of failures that come and go."""
GROWING = ("seals",)  # the chain itself: one row for at most every 30 s in which something happened
OBJECTS = "objects in memory"


def shape(days: int) -> Shape:
    """Return the shape of so many days."""
    return Shape(
        storm_s=days * DAY_S,
        mean_s=900.0,
        workers=2,
        slowness=6.0,
        crash_at=tuple(number * 10_000 for number in range(1, 3 * days)),
        outages=3 * days,
        kills=3 * days,
        posts=150 * days,
        acts=20 * days,
        jumps=0,
        expiries=10 * days,
        retention=Retention(operations_s=DAY_S, incidents_s=DAY_S, notifications_s=DAY_S, audit_s=2 * DAY_S),
        steps_max=10_000_000,
    )


@dataclass(frozen=True, slots=True)
class Midnight:
    """What there was at the end of a day."""

    day: int
    counts: dict[str, int]


class Week(Scenario):
    """Many days of one seed."""

    def __init__(self, seed: int, days: int) -> None:
        super().__init__(seed, shape(days))
        self.days = days
        self.midnights: list[Midnight] = []

    def _timetable(self) -> list[tuple[float, Act]]:
        daily: list[tuple[float, Act]] = []
        for day in range(self.days):
            noon_s = (day + 0.5) * DAY_S
            daily += [(noon_s, self.crowd.repair), (noon_s + 60.0, self.crowd.ask_again)]
            daily += [(noon_s + 120.0, self.crowd.report_successes), ((day + 1) * DAY_S - 60.0, self._midnight)]
        return daily + super()._timetable()

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
        there = {row[0] for row in self.machine.database.execute("SELECT event_id FROM signals")}
        self.senders.posts = [
            post for post in self.senders.posts if post.receipt is None or post.body["event_id"] in there
        ]


def grown(midnights: list[Midnight]) -> list[str]:
    """Say what went on growing when retention had settled."""
    first, last = midnights[SETTLED - 1].counts, midnights[-1].counts
    return [
        f"{name}: {first[name]:,} after {SETTLED} days, {last[name]:,} after {len(midnights)}"
        for name in last
        if name not in GROWING and last[name] > MORE * first.get(name, 0) + 50
    ]


def main() -> int:
    """Play the days, tell, judge."""
    wish = argparse.ArgumentParser(prog="make week", description=__doc__)
    wish.add_argument("--days", type=int, default=7)
    wish.add_argument("--seed", type=int, default=1)
    given = wish.parse_args()
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
