"""The runner on PostgreSQL: one row of Procrastinate's queue per handler and ids, many workers, one beside the other.

With `rows`, `takeover` and `tables`, all that knows Procrastinate. Its queue holds names and ids, nothing that our
tables do not say.
Its `lock` is our key, and so is its `queueing_lock`: a key waits once and runs once at a time, and no key ever holds
up another (the stall of procrastinate-org/procrastinate#1599 needs two that wait under one lock).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import psycopg
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker

from prunella.core.clock import Clock
from prunella.core.errors import StoreError, StoreUnavailable
from prunella.core.events import Listeners
from prunella.runner.contract import STALE_S, Commit, Handler, Key, Queued, again
from prunella.runner.rows import SUBMIT, Rows, spelled
from prunella.runner.tables import Tables, install
from prunella.runner.takeover import DEATHS_MAX, Takeover

__all__ = ["ProcrastinateRunner", "install"]

_BEAT_S = 1.0
_BEATS_PER_SWEEP = 2
_POLL_S = 0.5  # how late a delayed call begins at most; 5 s by Procrastinate's default (measured: p50 4.1 s)
_AGAIN_S = 1.0
_NEVER_S = 86_400.0
_LAST_WORDS_S = 2.0
_FORGET_WORKERS_S = 86_400.0

_log = logging.getLogger(__name__)
logging.getLogger("procrastinate").setLevel(logging.WARNING)  # two lines per call are nobody's news


class ProcrastinateRunner:
    """Call handlers in this process and in every other one on the same database.

    Args:
        url: the database; its own address, not a pooler's, where there is one.
        pooled: behind a pooler that lends connections per transaction: nothing is listened for, only asked.
        concurrency: handlers under way at once in this process; as many as in `local`.
    """

    def __init__(
        self, url: str, clock: Clock, listeners: Listeners, *, pooled: bool = False, concurrency: int = 64
    ) -> None:
        self._clock = clock
        self._listeners = listeners
        self._concurrency = concurrency
        self._pooled = pooled
        self._handlers: dict[str, Handler] = {}
        self._tables = Tables(url, clock, pooled=pooled)
        self._takeover = Takeover(self._tables, clock)
        self._rows = Rows(self._tables, self._takeover)
        self._app = App(connector=self._tables.connector)
        self._app.job_manager = self._rows
        self._app.task(name="call")(self._call)
        self._worker: _Worker | None = None
        self._ended: asyncio.Event | None = None
        self._under_way: set[asyncio.Future[None]] = set()
        self._feared: set[Key] = set()
        self._stopping = self._cuts = False
        self._heard_s = clock.monotonic()

    def handle(self, name: str, handler: Handler) -> None:
        """Register what runs under `name`; a worker takes only calls that it knows how to carry out."""
        self._handlers[name] = handler

    async def submit(self, name: str, *ids: str, at: datetime | None = None, tx: Commit | None = None) -> None:
        """Queue a call; with `tx` on its own connection, so that both are committed or none."""
        await self.submit_many([((name, *ids), at)], tx)

    async def submit_many(self, calls: Iterable[tuple[Key, datetime | None]], tx: Commit | None = None) -> None:
        """Queue many calls in one statement."""
        earliest: dict[Key, datetime | None] = {}
        for key, at in calls:
            known = earliest.get(key, at)
            earliest[key] = None if at is None or known is None else min(at, known)
        values = spelled(sorted(earliest.items(), key=lambda one: one[0]))  # in one order, or two workers deadlock
        if not earliest:
            return
        if tx is not None:
            await tx.driver.execute(SUBMIT.encode(), values)
        else:
            await self._tables.ask(SUBMIT, **values)

    async def cancel(self, name: str, *ids: str) -> None:
        """Forget what waits."""
        await self._rows.cancel((name, *ids))

    async def gets_on(self, name: str, *ids: str, tx: Commit) -> None:
        """Count deaths over a call anew; one statement, and only where somebody died over it."""
        if (key := (name, *ids)) in self._feared:
            await self._rows.gets_on(key, tx)
            tx.on_commit(lambda: self._feared.discard(key))

    async def queued(self) -> list[Queued]:
        """List what waits and what runs, on every worker."""
        return await self._rows.queued()

    def trouble(self) -> str | None:
        """Say why no calls are taken: the queue, whose way may be another than the store's, was not heard of."""
        if self._clock.monotonic() - self._heard_s <= STALE_S:
            return None
        return f"the queue was not heard of for {STALE_S:g} s; look whether service.direct_url can be reached"

    async def run(self) -> None:
        """Take calls until `stop`; a worker that lost its place among the others takes a new one."""
        self._ended = asyncio.Event()
        await self._tables.open()
        living = asyncio.create_task(self._live(), name="live")
        try:
            while not self._stopping:
                self._worker = self._new_worker()
                try:
                    await self._worker.run()  # type: ignore[no-untyped-call]
                except (StoreError, ConnectorException, psycopg.Error) as error:
                    _log.warning("the worker lost its place among the others (%s)", type(error).__name__)
                if not self._stopping:
                    await self._clock.sleep(_AGAIN_S)
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            self._ended.set()

    async def stop(self, within_s: float | None = None) -> None:
        """Take nothing new and wait until what runs has ended, or cut it off and leave it to other workers."""
        self._stopping = self._tables.stopping = True
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]
        if self._ended is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._ended.wait()
        except TimeoutError:
            self._cuts = True
            for cut in self._under_way:
                cut.cancel()
            await self._ended.wait()

    async def close(self) -> None:
        """Give every connection back; after `stop`."""
        await self._tables.close()

    def _new_worker(self) -> _Worker:
        worker = _Worker(
            self._app,
            queues=list(self._handlers),
            name="prunella",
            concurrency=self._concurrency,
            fetch_job_polling_interval=_POLL_S,
            abort_job_polling_interval=_NEVER_S,  # a call is cancelled before it begins or not at all
            listen_notify=not self._pooled,
            delete_jobs="always",  # the history stands in our tables
            install_signal_handlers=False,
            update_heartbeat_interval=_NEVER_S,  # its own falls silent while a worker ends: see `_live`
            stalled_worker_timeout=_FORGET_WORKERS_S,
        )
        self._rows.on_ring = worker.look  # type: ignore[method-assign]
        return worker

    async def _call(self, *, name: str, ids: list[str], raised: int = 0, deaths: int = 0) -> None:
        key = (name, *ids)
        if deaths:
            self._feared.add(key)
        try:
            await self._uncut(name, ids)
        except _Cut:
            async with asyncio.timeout(_LAST_WORDS_S):  # after that the others find out that this worker is gone
                await self._rows.call_again(key, 0.0, raised)
        except Exception as error:
            _log.error("handler %s failed (%s times before)", ":".join(key), raised, exc_info=error)
            self._listeners.emit("engine.failed", handler=name, error=type(error).__name__)
            if (next_try := again(error, raised)) is not None:
                await self._rows.call_again(key, *next_try)
        finally:
            self._feared.discard(key)

    async def _uncut(self, name: str, ids: list[str]) -> None:
        """Call a handler apart, so that `stop` may cut it off and Procrastinate doesn't take that for its own end."""
        if self._cuts:  # it was being fetched when the others were cut off
            raise _Cut
        under_way = asyncio.ensure_future(self._handlers[name](*ids))
        self._under_way.add(under_way)
        try:
            await asyncio.wait({under_way})
        finally:
            self._under_way.discard(under_way)
            under_way.cancel()
        if under_way.cancelled():
            raise _Cut
        under_way.result()

    async def _live(self) -> None:
        """Say each second that this worker lives, and take over what dead ones had begun, until it has ended.

        In every process, so that nothing has to run a sweep; and until its last call has ended, or that would be taken
        over by the others while it runs.
        """
        for beats in itertools.count(1):
            try:
                if self._worker is not None and self._worker.worker_id is not None:
                    await self._beat(self._worker.worker_id, sweeps=beats % _BEATS_PER_SWEEP == 0)
            except StoreUnavailable:
                pass
            except (StoreError, psycopg.Error) as error:  # whoever falls silent is taken for dead, whatever it was
                _log.warning("this worker could not say that it lives (%s)", type(error).__name__)
            await self._clock.sleep(_BEAT_S)

    async def _beat(self, worker_id: int, *, sweeps: bool) -> None:
        lost = await self._takeover.beat(worker_id)
        self._heard_s = self._clock.monotonic()
        for args in await self._takeover.give_back(lost) if lost else ():
            _log.warning("%s was begun and its answer or its end lost; it is queued again", args["name"])
        for args in await self._takeover.take_over() if sweeps else ():
            self._taken_over(args)

    def _taken_over(self, args: dict[str, Any]) -> None:
        call = ":".join([args["name"], *args["ids"]])
        self._listeners.emit("worker.taken_over", call=call, deaths=args["deaths"])
        if args["deaths"] >= DEATHS_MAX:
            _log.error("%s: %s workers died over it; it is put off, for longer each time", call, args["deaths"])


class _Cut(Exception):
    """The handler was cut off because this process ends."""


class _Worker(Worker):
    """Procrastinate's worker, which may be told to look for calls."""

    def look(self) -> None:
        """Look for calls now instead of at the next poll."""
        self._new_job_event.set()
