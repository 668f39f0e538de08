"""Play many histories on every core, and say what was seen: `make simulate SEEDS=10000`.

Ends with status 1 where a history broke a promise, or where a rare place was passed less than ten times.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from simulation.marks import FAULTS, MARKS
from simulation.walk import OFTEN, Walk, unseen, walks


def main() -> int:
    """Play, tell, judge."""
    wish = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    wish.add_argument("--seeds", type=int, default=1000, help="how many histories")
    wish.add_argument("--first", type=int, default=0, help="the first seed")
    given = wish.parse_args()
    begun, whole = time.monotonic(), Walk()
    for part in walks(range(given.first, given.first + given.seeds)):
        whole.join(part)
        for seed, wrongs in part.wrongs.items():
            print(f"seed {seed}: {'; '.join(wrongs)}\n  again: make simulate SEEDS=1 FIRST={seed}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{whole.histories} histories", end="", file=sys.stderr, flush=True)
    took_s = time.monotonic() - begun
    print(
        f"{whole.histories} histories in {took_s:.0f} s on {os.cpu_count()} cores, {whole.virtual_s / 86400:.0f} virtual "
        f"days, {whole.steps} I/O steps, {whole.faults} faults of {sum(whole.marks[one] > 0 for one in FAULTS)} kinds: "
        f"{len(whole.wrongs)} broke a promise"
    )
    for mark in MARKS:
        print(f"{whole.marks[mark]:9} {mark}")
    seldom = unseen(whole.marks, whole.histories)
    if seldom:
        print(f"passed less than {OFTEN} times: {', '.join(seldom)}")
    return 1 if whole.wrongs or seldom else 0


if __name__ == "__main__":
    sys.exit(main())
