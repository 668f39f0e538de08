"""Many histories, one after another or on every core, and what they showed together."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from simulation.marks import FAULTS, MARKS
from simulation.scenario import play

CHUNK = 25
OFTEN = 10
SEEDS_FOR_MARKS = 10_000
"""So many histories have to pass each mark often enough; fewer prove nothing about the rarest."""


@dataclass
class Walk:
    """What many histories showed together."""

    histories: int = 0
    steps: int = 0
    faults: int = 0
    virtual_s: float = 0.0
    marks: Counter[str] = field(default_factory=Counter)
    wrongs: dict[int, list[str]] = field(default_factory=dict)

    def join(self, other: Walk) -> None:
        """Add what another walk showed."""
        self.histories += other.histories
        self.steps += other.steps
        self.faults += other.faults
        self.virtual_s += other.virtual_s
        self.marks.update(other.marks)
        self.wrongs |= other.wrongs


def walk(seeds: Sequence[int]) -> Walk:
    """Play the histories of some seeds, one after another."""
    gc.disable()  # a sixteenth of the time; what a history leaves behind is collected after each part
    seen = Walk()
    for seed in seeds:
        result = play(seed)
        faults = sum(result.marks[mark] for mark in FAULTS)
        marks = Counter({mark: result.marks[mark] for mark in MARKS})
        seen.join(Walk(1, result.counts["steps"], faults, result.virtual_s, marks))
        if result.wrongs:
            seen.wrongs[seed] = result.wrongs
    gc.collect()
    return seen


def walks(seeds: range) -> Iterator[Walk]:
    """Play histories on every core; yield what each part of them showed."""
    parts = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(os.cpu_count(), maxtasksperchild=20) as pool:  # what a crash abandoned is never given back
        yield from pool.imap_unordered(walk, parts)


def unseen(marks: Counter[str], histories: int) -> list[str]:
    """Return the marks that were passed too seldom for so many histories."""
    if histories < SEEDS_FOR_MARKS:
        return []
    return [mark for mark in MARKS if marks[mark] < OFTEN]
