"""What a runner promises: this handler, with these ids, at or after that time, once per key, again if we die.

Handlers are idempotent and short: they read their row anew, act, save, and submit themselves for later.
Promises, each held by tests/runner/test_contract*.py:
  the same (handler, ids) waits once; the earliest time wins;
  submitted while it runs, it runs once more afterwards, on whichever worker, and never beside itself;
  submitted inside a transaction, it runs only if that commits;
  a handler that raises is called again after 1, 2, 4, 8, 16 s, then left to the sweep;
  one that found the database away is called again every 2 s until it is back;
  what a worker had begun when it died is called again on another; a slow one that lives is not;
  a call over which five workers die in a row waits, for longer each time, unless it got on before one died;
  `stop` lets running handlers finish, for as long as it is told to; what it cuts off is called again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from prunella.core.errors import StoreUnavailable

Handler = Callable[..., Awaitable[None]]
Key = tuple[str, ...]
"""A handler's name and its ids."""

STALE_S = 5.0
"""A worker that was not seen for so long is dead: five of its heartbeats, or two with slow commits."""

_STORE_AGAIN_S = 2.0  # work goes on by itself soon after the database is back, however long it was away
_AGAIN_AFTER_S = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Queued:
    """One thing that waits or runs."""

    handler: str
    ids: tuple[str, ...]
    due_in_s: float
    running: bool


class Commit(Protocol):
    """What a runner wants of a transaction."""

    @property
    def driver(self) -> Any:
        """The database driver's open connection: a queue in the same database writes its rows there."""
        ...

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

    async def submit_many(self, calls: Iterable[tuple[Key, datetime | None]], tx: Commit | None = None) -> None:
        """Submit many at once, as `submit` does one."""
        ...

    async def cancel(self, name: str, *ids: str) -> None:
        """Forget what waits; what runs is not interrupted."""
        ...

    async def gets_on(self, name: str, *ids: str, tx: Commit) -> None:
        """Say that a call under way has achieved something: deaths over it are counted anew once that is committed."""
        ...

    async def run(self) -> None:
        """Call what is due until `stop`."""
        ...

    async def stop(self, within_s: float | None = None) -> None:
        """Take nothing new and wait until what runs has ended; may be asked again with less patience.

        Args:
            within_s: cut off what still runs after so long; None: wait for it.
        """
        ...

    def trouble(self) -> str | None:
        """Say why no calls are taken in this process, None while they are."""
        ...

    async def queued(self) -> list[Queued]:
        """List what waits and what runs, the next one first."""
        ...


def again(error: Exception, times: int) -> tuple[float, int] | None:
    """Return in how many seconds a handler that raised is called again, and how often it has raised by then.

    None: it has raised often enough and is left to the sweep.

    Args:
        times: how often it had raised before.
    """
    if isinstance(error, StoreUnavailable):
        return _STORE_AGAIN_S, times
    return (_AGAIN_AFTER_S[times], times + 1) if times < len(_AGAIN_AFTER_S) else None
