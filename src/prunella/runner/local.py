"""The runner of one process: a heap of due times in memory, rebuilt from the tables at every start.

Nothing is lost with the process, because nothing is kept here that the tables do not say (see engine/reconcile.py).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable
from datetime import datetime

from prunella.core.clock import Clock
from prunella.core.events import Listeners
from prunella.runner.contract import Commit, Handler, Key, Queued, again

_log = logging.getLogger(__name__)
_STALE_MAX = 64


class LocalRunner:
    """Call handlers in this process.

    Args:
        clock: wall time for `at`, monotonic time for waiting.
        concurrency: handlers under way at once; they mostly wait for others, so far more than there are cores.
    """

    def __init__(self, clock: Clock, listeners: Listeners, *, concurrency: int = 64) -> None:
        self._clock = clock
        self._listeners = listeners
        self._concurrency = concurrency
        self._handlers: dict[str, Handler] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()  # submitted while running: queued anew when that run ends
        self._raised: dict[Key, int] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._stopping = False

    def handle(self, name: str, handler: Handler) -> None:
        """Register what runs under `name`."""
        self._handlers[name] = handler

    async def submit(self, name: str, *ids: str, at: datetime | None = None, tx: Commit | None = None) -> None:
        """Queue a call; with `tx`, once that has committed."""
        if tx is not None:
            tx.on_commit(lambda: self._push((name, *ids), self._delay_s(at)))
        else:
            self._push((name, *ids), self._delay_s(at))

    async def submit_many(self, calls: Iterable[tuple[Key, datetime | None]], tx: Commit | None = None) -> None:
        """Queue many calls; with `tx`, once that has committed."""
        for (name, *ids), at in calls:
            await self.submit(name, *ids, at=at, tx=tx)

    async def cancel(self, name: str, *ids: str) -> None:
        """Forget what waits."""
        key = (name, *ids)
        self._due.pop(key, None)
        self._again.discard(key)
        self._raised.pop(key, None)

    async def gets_on(self, name: str, *ids: str, tx: Commit) -> None:
        """Note nothing: with this process its whole queue dies, and each start makes it anew."""

    async def run(self) -> None:
        """Call what is due until `stop`."""
        while not self._stopping:
            self._wake.clear()
            self._start_due()
            await self._until_next()
        while self._running:
            await asyncio.wait(self._running.values())

    async def stop(self, within_s: float | None = None) -> None:
        """Take nothing new and wait until what runs has ended, or cut it off: the tables know it at the next start."""
        self._stopping = True
        self._wake.set()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=within_s)
        for cut in self._running.values():
            cut.cancel()
        while self._running:
            await asyncio.wait(self._running.values())

    def trouble(self) -> str | None:
        """Say why no calls are taken: never, the queue is in this process."""
        return None

    async def queued(self) -> list[Queued]:
        """List what waits and what runs, the next one first."""
        return self.in_memory()

    def in_memory(self) -> list[Queued]:
        """List the same, for whoever stands in the same loop."""
        now = self._clock.monotonic()
        running = [Queued(key[0], key[1:], 0.0, True) for key in self._running]
        waiting = sorted((due, key) for key, due in self._due.items())
        return running + [Queued(key[0], key[1:], max(due - now, 0.0), False) for due, key in waiting]

    def _delay_s(self, at: datetime | None) -> float:
        return 0.0 if at is None else (at - self._clock.now()).total_seconds()

    def _push(self, key: Key, delay_s: float) -> None:
        due = self._clock.monotonic() + delay_s  # in the past as well: what is overdue longest comes first
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._enqueue(key, due)
        self._wake.set()

    def _enqueue(self, key: Key, due: float) -> None:
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        if len(self._heap) > 2 * len(self._due) + _STALE_MAX:  # cancelled, or moved forward: they would stay till due
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now and len(self._running) < self._concurrency:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue  # cancelled, or submitted again for an earlier time
            if key in self._running:
                self._again.add(key)
                continue
            del self._due[key]
            self._running[key] = asyncio.create_task(self._call(key), name=":".join(key))

    async def _until_next(self) -> None:
        """Wait for a submission, an ending or the next due time, whichever comes first."""
        waits = bool(self._heap) and len(self._running) < self._concurrency
        timeout = max(self._heap[0][0] - self._clock.monotonic(), 0.0) if waits else None
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _call(self, key: Key) -> None:
        try:
            await self._handlers[key[0]](*key[1:])
            self._raised.pop(key, None)
        except Exception as error:
            self._after_error(key, error)
        finally:
            del self._running[key]
            if key in self._again:
                self._again.discard(key)
                self._enqueue(key, self._due[key])
            self._wake.set()

    def _after_error(self, key: Key, error: Exception) -> None:
        """Our own failure: told apart from the failures we heal, and tried again."""
        times = self._raised.pop(key, 0)
        _log.error("handler %s failed (%s times before)", ":".join(key), times, exc_info=error)
        self._listeners.emit("engine.failed", handler=key[0], error=type(error).__name__)
        if (next_try := again(error, times)) is not None:
            delay_s, self._raised[key] = next_try
            self._push(key, delay_s)
