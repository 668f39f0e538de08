"""What rests as a whole, and until when: maintenance windows, and the switch that a person throws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim

from prunella.core.clock import Clock
from prunella.core.procedures import Window
from prunella.store.contract import Store

KILL_SWITCH = "all"
EVERYTHING = "everything is paused"
"""How the reason begins that the kill switch leaves on what it holds."""
_LOOK_EVERY_S = 1.0
"""How old the switch's last reading may be: everything rests within 2 s on every worker."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Why nothing may begin; `until` None: until a person lifts it."""

    reason: str
    until: datetime | None = None


def window_at(windows: Sequence[Window], now: datetime, what: str) -> Rest | None:
    """Return the maintenance window that holds `what` (`procedures` or `notifications`) back now, if any."""
    open_now = [rest for window in windows if what in window.pause and (rest := _rest(window, now)) is not None]
    return max(open_now, key=lambda rest: rest.until or now) if open_now else None


def _rest(window: Window, now: datetime) -> Rest | None:
    """Look at the beginnings since the longest time ago that could still last."""
    end = None
    for begun in CronSim(window.cron, now - timedelta(seconds=window.lasts_s)):
        if begun > now:
            break
        end = begun + timedelta(seconds=window.lasts_s)
    if end is None or end <= now:
        return None
    return Rest(f"maintenance window {window.name} until {end:%Y-%m-%d %H:%M} UTC", end)


class Pauses:
    """Tell whether work may begin; asks the store at most once a second."""

    def __init__(self, store: Store, clock: Clock, windows: Sequence[Window] = ()) -> None:
        self._store = store
        self._clock = clock
        self._windows = windows
        self._switched: Rest | None = None
        self._read_at = float("-inf")

    async def now(self) -> Rest | None:
        """Return what holds every remedy back now."""
        if self._clock.monotonic() - self._read_at >= _LOOK_EVERY_S:
            self._switched = await self._read()
            self._read_at = self._clock.monotonic()
        return self._switched or window_at(self._windows, self._clock.now(), "procedures")

    def messages(self, now: datetime) -> datetime | None:
        """Return until when messages wait, None when they may go."""
        rest = window_at(self._windows, now, "notifications")
        return rest.until if rest is not None else None

    def forget(self) -> None:
        """Ask the store at the next question: a person has just thrown the switch here."""
        self._read_at = float("-inf")

    async def _read(self) -> Rest | None:
        async with self._store.transaction() as tx:
            thrown = (await tx.switches.all()).get(KILL_SWITCH)
        if thrown is None:
            return None
        because = f": {thrown['reason']}" if thrown["reason"] else ""
        return Rest(f"{EVERYTHING} by {thrown['by']}{because}; go on with: prunella resume")
