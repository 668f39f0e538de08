"""How many things are begun at once: as many as take about a second, so that a kill switch is heard in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prunella.core.clock import Clock

_FIRST, _MOST = 8, 200
_STEP_S = 1.0


class Pace:
    """Learn from what was done how many of them fit into a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.size = _FIRST

    @contextmanager
    def measured(self, count: int) -> Iterator[None]:
        """Measure how long `count` things take."""
        begun = self._clock.monotonic()
        yield
        each_s = (self._clock.monotonic() - begun) / max(count, 1)
        fits = int(_STEP_S / each_s) if each_s > 0 else _MOST
        self.size = max(1, min(fits, self.size * 4, _MOST))
