"""What a runner promises: this handler, with these ids, at or after that time, once per key, again if we die.

Handlers are idempotent and short: they read their row anew, act, save, and submit themselves for later.
Promises, each held by tests/runner/test_contract*.py:
  the same (handler, ids) waits once; the earliest time wins;
  submitted while it runs, it runs once more afterwards;
  submitted inside a transaction, it runs only if that commits;
  a handler that raises is called again after 1, 2, 4, 8, 16 s, then left to the sweep;
  one that found the database away is called again every 2 s until it is back;
  `stop` lets running handlers finish.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Queued:
    """One thing that waits or runs."""

    handler: str
    ids: tuple[str, ...]
    due_in_s: float
    running: bool


class Commit(Protocol):
    """The one thing a runner wants of a transaction."""

    def on_commit(self, action: Callable[[], object]) -> None:
        """Run `action` once the transaction is durable."""
        ...


class Runner(Protocol):
    """Call handlers when they are due."""

    def handle(self, name: str, handler: Handler) -> None:
        """Register what runs under `name`; before `run`."""
        ...

    async def submit(self, name: str, *ids: str, at: datetime | None = None, tx: Commit | None = None) -> None:
        """Call `name` with `ids` at `at` (now when None), with `tx` only once that has committed."""
        ...

    async def cancel(self, name: str, *ids: str) -> None:
        """Forget what waits; what runs is not interrupted."""
        ...

    async def run(self) -> None:
        """Call what is due until `stop`."""
        ...

    async def stop(self) -> None:
        """Take nothing new and wait until what runs has ended."""
        ...

    def queued(self) -> list[Queued]:
        """List what waits and what runs, the next one first."""
        ...
