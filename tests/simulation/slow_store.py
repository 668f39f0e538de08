"""The real SQLite store, slow: every statement takes random time before and after, under the lock that all share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from prunella.core.errors import StoreUnavailable
from prunella.store.sql import Bound
from prunella.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from simulation.machine import Machine, Process
    from simulation.world import WallClock

STATEMENT_MAX_S = 0.05


class SlowStore(SqliteStore):
    """The real SQLite store whose statements take time, and sometimes fail."""

    def __init__(self, machine: Machine, process: Process, clock: WallClock) -> None:
        super().__init__(machine.database, clock)
        self._machine, self._process = machine, process
        self._turn = Turn(machine, process)

    async def run(self, text: str, values: Bound) -> tuple[Sequence[Sequence[Any]], int]:
        machine = self._machine
        await self._process.io(STATEMENT_MAX_S, machine.slowness)
        if machine.is_away():
            machine.world.seen("store.failed", self._process.name)
            raise StoreUnavailable("SQLite: disk I/O error; nothing of this request was recorded")
        machine.watch.before(text, values, self._process.name)
        result = await super().run(text, values)
        machine.watch.after(text, values)
        if text.startswith("UPDATE") and not result[0] and result[1] <= 0:
            table = text.split(maxsplit=2)[1]
            machine.world.seen("missed claim" if table == "incidents" and ":worker" in text else "missed", table)
        if text == "COMMIT":  # after any other one it would be the time before the next
            await self._process.io(STATEMENT_MAX_S, machine.slowness)
        return result


class Turn(asyncio.Lock):
    """One process's view of the lock that all share: the dead neither take it nor keep it."""

    def __init__(self, machine: Machine, process: Process) -> None:
        super().__init__()
        self._machine, self._process = machine, process

    async def acquire(self) -> Literal[True]:
        machine = self._machine
        await machine.turn.acquire()
        if self._process.died.done():
            machine.turn.release()
            await self._process.rest_in_peace()
        machine.holder = self._process
        return True

    def release(self) -> None:
        machine = self._machine
        if machine.holder is self._process:
            machine.holder = None
            machine.turn.release()
