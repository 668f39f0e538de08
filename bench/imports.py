"""What starting costs: the base import, and `prunella --help`, against what Python itself needs."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.harness import Options, Report, Row, Spread

_RUNS = 10
_COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import asyncio": ["-c", "import asyncio"],
    "import prunella": ["-c", "import prunella"],
    "prunella --help": ["-m", "prunella", "--help"],
}


def run(options: Options) -> Report:
    """Start every command in turn, several times."""
    taken_ms: dict[str, list[float]] = {what: [] for what in _COMMANDS}
    for _ in range(options.amount(_RUNS) + 1):  # the first round warms the disk's cache and is left out
        for what, arguments in _COMMANDS.items():
            begun_s = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            taken_ms[what].append((time.perf_counter() - begun_s) * 1000)
    figures = {what: times[1:] for what, times in taken_ms.items()}
    rows = [
        _row("import prunella by import asyncio", figures["import asyncio"], figures["import prunella"]),
        _row("import prunella by python -c pass", figures["python -c pass"], figures["import prunella"]),
        _row("prunella --help by python -c pass", figures["python -c pass"], figures["prunella --help"]),
    ]
    return Report("imports: wall time of a fresh process", rows)


def _row(what: str, floor: list[float], ours: list[float]) -> Row:
    ratios = [mine / theirs for mine, theirs in zip(ours, floor, strict=True)]
    return Row(what=what, unit="ms", floor=Spread.of(floor), ours=Spread.of(ours), ratio=Spread.of(ratios))
