"""What every benchmark shares: rounds in turn, figures with their spread, and the table they end in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was asked for.

    Args:
        rounds: how often each contender is measured, in turn.
        scale: factor on the amount of work per round; 0.1 is a quick look.
    """

    rounds: int = 5
    scale: float = 1.0

    def amount(self, full: int) -> int:
        """Return `full` at this run's scale."""
        return max(int(full * self.scale), 1)


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise `values`, at least one."""
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return " / ".join(_figure(value) for value in (self.least, self.median, self.most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        ratio: ours by the floor's, of the same round.
        target: what was aimed at, in words; empty where nothing was.
        met: whether it was reached.
    """

    what: str
    unit: str
    ours: Spread
    floor: Spread | None = None
    ratio: Spread | None = None
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found."""

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        head = ("", "unit", "floor", "ours", "ratio", "target")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        body = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([self.title, *(f"  {line}" for line in body), *(f"  {note}" for note in self.notes)])


def compare(
    rounds: int, floor: Callable[[], Mapping[str, float]], ours: Callable[[], Mapping[str, float]]
) -> tuple[dict[str, Spread], dict[str, Spread], dict[str, Spread]]:
    """Measure floor, ours, floor, ours ...; return the figures of both and the ratio of each round, by name."""
    floors: list[Mapping[str, float]] = []
    own: list[Mapping[str, float]] = []
    for _ in range(rounds):
        floors.append(floor())
        own.append(ours())
    ratios = [
        {name: mine[name] / base[name] for name in mine if name in base} for mine, base in zip(own, floors, strict=True)
    ]
    return _spreads(floors), _spreads(own), _spreads(ratios)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _spreads(rounds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    return {name: Spread.of([one[name] for one in rounds]) for name in rounds[0]}


def _cells(row: Row) -> tuple[str, ...]:
    met = {None: "", True: " reached", False: " MISSED"}[row.met]
    return (row.what, row.unit, str(row.floor or ""), str(row.ours), str(row.ratio or ""), f"{row.target}{met}")


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
