"""The ledger of a run: what was counted, what it must be, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_SHOWN = 5


@dataclass
class Book:
    """The ledger of a run: figures to print, and what is wrong."""

    figures: dict[str, str] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)

    def count(self, what: str, number: float, *, must_be: int | None = None) -> None:
        """Enter a figure; it is wrong where it has to be another."""
        shown = f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"
        self.figures[what] = shown if must_be is None else f"{shown}  (must be {must_be:,})"
        if must_be is not None and number != must_be:
            self.wrongs.append(f"{what}: {shown}, and it must be {must_be:,}")

    def blame(self, what: str, found: Sequence[object]) -> None:
        """Enter what was found wrong, with a few examples."""
        if found:
            self.wrongs.append(f"{what}: {len(found)}, for example {', '.join(str(one) for one in found[:_SHOWN])}")

    def add(self, other: Book, prefix: str) -> None:
        """Enter all of another run, under its own name."""
        self.figures |= {f"{prefix}{what}": figure for what, figure in other.figures.items()}
        self.wrongs += [f"{prefix}{wrong}" for wrong in other.wrongs]

    def __str__(self) -> str:
        width = max(len(name) for name in self.figures)
        lines = [f"  {name.ljust(width)}  {figure}" for name, figure in self.figures.items()]
        return "\n".join([*lines, *(f"  WRONG  {one}" for one in self.wrongs)])
