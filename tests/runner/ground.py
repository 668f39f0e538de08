"""Real runners on real stores in real time: the settings that keep one contract, and what they called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg

from prunella.core.events import Listeners
from prunella.runner.contract import Queued, Runner
from prunella.runner.local import LocalRunner
from prunella.runner.procrastinate import ProcrastinateRunner, install
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore

Work = Callable[..., Awaitable[object]]


@dataclass
class Calls:
    """What was called, by which worker; `until` waits for it."""

    begun: list[tuple[str, ...]] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    running: dict[tuple[str, ...], int] = field(default_factory=dict)
    beside_itself: list[tuple[str, ...]] = field(default_factory=list)
    ended: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, holds: Callable[[], bool], within_s: float = 15.0) -> None:
        """Wait until something holds; it is looked at whenever a call begins or ends."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(holds)

    async def times(self, count: int) -> None:
        """Wait until `count` calls have ended."""
        await self.until(lambda: self.ended >= count)

    def handler(self, name: str, worker: str, work: Work | None) -> Callable[..., Awaitable[None]]:
        """Return a handler that notes each call and then does `work`."""

        async def handler(*ids: str) -> None:
            key = (name, *ids)
            self.running[key] = self.running.get(key, 0) + 1
            if self.running[key] > 1:
                self.beside_itself.append(key)
            self.begun.append(key)
            self.by.append(worker)
            await self._tell()
            try:
                if work is not None:
                    await work(*ids)
            finally:
                self.running[key] -= 1
                self.ended += 1
                await self._tell()

        return handler

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @property
    def ids(self) -> list[str]:
        return [key[1] for key in self.begun]


@dataclass
class Ground:
    """A store, and the kind of runner that stands on it.

    Args:
        url: where Procrastinate's runner works; None: the runner of one process.
        late_s: how late a delayed call may be on a busy machine, the poll of the queue included.
    """

    store: Store
    url: str | None
    pooled: bool = False
    late_s: float = 2.0
    lent: list[ProcrastinateRunner] = field(default_factory=list)

    def runner(self, listeners: Listeners | None = None, **options: Any) -> Runner:
        """Return a runner that does not run yet."""
        listeners = listeners or Listeners()
        if self.url is None:
            return LocalRunner(self.store.clock, listeners, **options)
        runner = ProcrastinateRunner(self.url, self.store.clock, listeners, pooled=self.pooled, **options)
        self.lent.append(runner)
        return runner

    async def close(self) -> None:
        """Give back the store and every connection of the runners: those that never ran hold some, too."""
        for runner in self.lent:
            await runner.close()
        await self.store.close()

    def after(self, seconds: float) -> datetime:
        """Return a moment of the store's clock."""
        return self.store.clock.now() + timedelta(seconds=seconds)


@asynccontextmanager
async def running(*runners: Runner) -> AsyncIterator[None]:
    """Let runners run until the block ends."""
    works = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
    finally:
        async with asyncio.timeout(20):
            await asyncio.gather(*(runner.stop() for runner in runners))
            await asyncio.gather(*works)
            for runner in runners:
                if isinstance(runner, ProcrastinateRunner):
                    await runner.close()


async def waiting(runner: Runner) -> Queued:
    """Return the one call that waits, as soon as none runs."""
    async with asyncio.timeout(10):
        # a call's row goes a moment after its handler has ended: no event tells
        while len(queued := await runner.queued()) != 1 or queued[0].running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return queued[0]


@contextmanager
def queue_of(url: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Lend a way to ask the queue's tables behind the runner's back."""
    with psycopg.connect(url, autocommit=True, options="-c search_path=prunella") as connection:

        def ask(statement: str, *values: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

        yield ask


async def emptied_queue(url: str) -> None:
    """Make the queue's tables where they are missing, and empty them."""
    await install(url)
    with queue_of(url) as ask:
        ask("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


@asynccontextmanager
async def workers(url: str, count: int, **options: Any) -> AsyncIterator[tuple[Ground, list[ProcrastinateRunner]]]:
    """Lend runners of one queue; they do not run yet."""
    await emptied_queue(url)
    store = await PostgresStore.open(url)
    ground = Ground(store, url)
    runners = [ProcrastinateRunner(url, store.clock, Listeners(), **options) for _ in range(count)]
    ground.lent.extend(runners)
    try:
        yield ground, runners
    finally:
        await ground.close()
