"""A running runner in virtual time, and a record of what it called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prunella.core.events import Listeners
from prunella.runner.contract import Runner
from prunella.runner.local import LocalRunner
from prunella.testing import LoopClock, run_virtual

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the moment at which virtual time shows `seconds`."""
    return START + timedelta(seconds=seconds)


def now_s() -> float:
    """Return the virtual seconds since the story began."""
    return asyncio.get_running_loop().time()


@dataclass
class Stage:
    """A running runner, and what it called: (seconds, handler, ids)."""

    runner: Runner
    listeners: Listeners
    called: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)

    def handles(self, name: str, work: Callable[..., Awaitable[None]] | None = None) -> None:
        """Register a handler that notes each call and then does `work`."""

        async def handler(*ids: str) -> None:
            self.called.append((now_s(), name, ids))
            if work is not None:
                await work(*ids)

        self.runner.handle(name, handler)

    @property
    def times(self) -> list[float]:
        return [seconds for seconds, _, _ in self.called]

    @property
    def ids(self) -> list[str]:
        return [ids[0] for _, _, ids in self.called]


@asynccontextmanager
async def stage(concurrency: int = 64) -> AsyncIterator[Stage]:
    """Lend a runner that runs until the block ends."""
    listeners = Listeners()
    runner: Runner = LocalRunner(LoopClock(), listeners, concurrency=concurrency)
    running = asyncio.create_task(runner.run())
    try:
        yield Stage(runner, listeners)
    finally:
        await runner.stop()
        await running


Story = Callable[[], Coroutine[Any, Any, None]]


def plays(story: Story) -> Callable[[], None]:
    """Play an asynchronous test in virtual time."""

    def play() -> None:
        run_virtual(story())

    play.__name__, play.__doc__ = story.__name__, story.__doc__
    return play


class Commit:
    """A transaction as far as a runner sees it."""

    def __init__(self) -> None:
        self.actions: list[Callable[[], object]] = []
        self.driver = None

    def on_commit(self, action: Callable[[], object]) -> None:
        self.actions.append(action)

    def commit(self) -> None:
        for action in self.actions:
            action()
