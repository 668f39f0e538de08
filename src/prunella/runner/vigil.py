"""When a worker may be called dead: not seen while somebody looked without a gap.

After an outage of the database nobody has been seen for a while, and everybody lives.
"""

from __future__ import annotations

from prunella.core.clock import Clock
from prunella.runner.contract import STALE_S

_GAP_S = STALE_S / 2
"""Whoever looks less often than this saw nothing in between: the database, or this process itself, was frozen."""


class Vigil:
    """Tell whether this process has looked for long enough to know who is dead."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = self._last = float("-inf")

    def goes_on(self) -> bool:
        """Note a successful look; True once looks have followed each other without a gap for `STALE_S`."""
        now = self._clock.monotonic()
        if now - self._last > _GAP_S:
            self._since = now
        self._last = now
        return now - self._since >= STALE_S
