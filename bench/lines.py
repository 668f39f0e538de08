"""Draw lines of logs: templates of many systems (systems.txt), filled with what varies in them, and which one it was.

What varies (values.txt) is drawn as it occurs, not as it is masked: many values are bare words (people, databases,
queues). Some of it is new with every line (times, counts, ids); the rest belongs to the place where it happens, and
most lines tell of a place that was told of before, as a Chinese restaurant fills its tables.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

Drawn = TypeVar("Drawn")
_FOLDER: Final = Path(__file__).parent
_BLANK: Final = re.compile(r"\{([a-z0-9]+)(?::([a-z]+))?\}")
_SIZED: Final = re.compile(r"([a-z]+)(\d+)")
_TIMES: Final = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%d/%b/%Y:%H:%M:%S", "%Y-%m-%dT%H:%M:%S+00:00")
_VOLATILE: Final = re.compile(
    "(?:cents|date|duration|float|minus|money|pid|port|queueid|stamp|tracking|uuid)|(?:n|hex|mixed|time|upperhex)[0-9]+"
)
_NEWNESS: Final = 5.0
"""Of 400 lines of one event some 22 then tell of a new place."""
_LETTERS: Final = "bcdfghjklmnpqrstvwxz"
_START: Final = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log.

    Args:
        system: what wrote it.
        event: which of all templates it is: the truth, not to be shown to what is measured.
    """

    system: str
    event: int
    text: str


def templates() -> list[tuple[str, str]]:
    """Return (system, template), in the order of the file."""
    found, system = [], ""
    for line in _read("systems.txt"):
        if line.startswith("[") and line.endswith("]") and line[1:-1].isalnum():
            system = line[1:-1]
        else:
            found.append((system, line))
    return found


def lines(count: int, seed: int) -> Iterator[Line]:
    """Draw a stream: every system as often as any other, its templates by rank."""
    rng = random.Random(seed)
    known = templates()
    places: dict[str, list[int]] = {}
    for event, (system, _) in enumerate(known):
        places.setdefault(system, []).append(event)
    systems, values = list(places), _Values(rng)
    for _ in range(count):
        system = rng.choice(systems)
        event = _ranked(rng, places[system])
        yield Line(system, event, values.line(event, known[event][1]))


def _read(name: str) -> list[str]:
    return [line for line in (_FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]


def _ranked(rng: random.Random, among: Sequence[Drawn]) -> Drawn:
    """Draw one: the second half as often as the first, the third a third as often (Zipf)."""
    return rng.choices(among, cum_weights=list(accumulate(1 / rank for rank in range(1, len(among) + 1))))[0]


class _Values:
    """Draw what stands in a template's blanks."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now = _START
        self._places: dict[int, list[str]] = {}
        named = (line.split(": ", 1) for line in _read("values.txt"))
        self._alternatives = {name: words.split(" | ") for name, words in named}
        self._plain: dict[str, Callable[[], str]] = {
            "ip": self._ip,
            "uuid": lambda: str(UUID(int=rng.getrandbits(128), version=4)),
            "float": lambda: f"{rng.expovariate(0.1):.{rng.choice([1, 2, 3])}f}",
            "cents": lambda: f"{rng.expovariate(0.02):.2f}",
            "date": lambda: f"{self._now:%Y-%m-%d}",
        }
        self._sized: dict[str, Callable[[int], str]] = {
            "n": lambda size: str(rng.randrange(10 ** rng.randint(max(size - 2, 0), size))),
            "hex": lambda size: self._of("0123456789abcdef", size),
            "upperhex": lambda size: self._of("0123456789ABCDEF", size),
            "letters": lambda size: self._of(_LETTERS, size),
            "upper": lambda size: self._of(_LETTERS.upper(), size),
            "mixed": lambda size: self._of(string.ascii_letters + string.digits, size),
            "time": lambda which: self._now.strftime(_TIMES[which - 1]),
        }

    def line(self, event: int, template: str) -> str:
        """Return a line of a template, a little later than the one before."""
        self._now += timedelta(seconds=self._rng.expovariate(0.1))
        told = self._places.setdefault(event, [])
        is_new = self._rng.random() < _NEWNESS / (_NEWNESS + len(told))
        told.append(self._place(template) if is_new else self._rng.choice(told))
        return self._fill(told[-1])

    def _place(self, template: str) -> str:
        """Return a template with all its blanks filled but those that are new with every line."""

        def fixed(blank: re.Match[str]) -> str:
            is_new = blank[2] is not None or _VOLATILE.fullmatch(blank[1])
            return blank[0] if is_new else self._drawn(blank[1], None)

        return _BLANK.sub(fixed, template)

    def _fill(self, text: str) -> str:
        return _BLANK.sub(lambda blank: self._drawn(blank[1], blank[2]), text)

    def _drawn(self, name: str, prefix: str | None) -> str:
        if prefix is not None:
            return f"{prefix}_{self._sized['mixed'](24)}"
        if name in self._alternatives:
            return self._fill(_ranked(self._rng, self._alternatives[name]))
        if name in self._plain:
            return self._plain[name]()
        sized = _SIZED.fullmatch(name)
        assert sized is not None, name
        return self._sized[sized[1]](int(sized[2]))

    def _of(self, letters: str, count: int) -> str:
        return "".join(self._rng.choices(letters, k=count))

    def _ip(self) -> str:
        if self._rng.random() < 0.05:
            return f"2001:db8:{self._of('0123456789abcdef', 4)}::{self._of('0123456789abcdef', 3)}"
        return ".".join(str(self._rng.randint(1, 254)) for _ in range(4))
