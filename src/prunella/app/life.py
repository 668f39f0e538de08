"""Whether this process is fit to be given work: what `/readyz` answers, and what a signal to stop changes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from prunella.core.errors import StoreError
from prunella.runner.contract import STALE_S, Runner
from prunella.store import migrations
from prunella.store.contract import Store

WELL: Final = "ok"
_ANSWER_S = 2.0
_NOTICE_S = 1.0
"""How long the socket stays open after SIGTERM: who asks `/readyz` hears it in time, and goes elsewhere."""


class Life:
    """What a process is at.

    Attributes:
        stopping: it was told to stop.
        work: what runs its handlers; None before it began.
        trouble: says why no calls are taken here, although the database answers others.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.work: asyncio.Task[None] | None = None
        self.trouble: Callable[[], str | None] = lambda: None

    async def checks(self, store: Store, worker: str | None) -> Mapping[str, str]:
        """Return what was looked at, each `ok` or the reason why not.

        Args:
            worker: the name under which this process beats; None where it is alone and need not.
        """
        database, schema = await _tables(store)
        return {
            "stopping": "this process was told to stop" if self.stopping.is_set() else WELL,
            "database": database,
            "schema": schema,
            "worker": await self._worker(store, worker) if database == WELL else "unknown while the database is away",
        }

    async def _worker(self, store: Store, name: str | None) -> str:
        if self.work is None:
            return "nothing carries out work in this process yet"
        if self.work.done():
            return "what carries out work in this process has ended; the log says why"
        if (trouble := self.trouble()) is not None:
            return trouble
        if name is None:
            return WELL
        try:
            async with asyncio.timeout(_ANSWER_S), store.transaction() as tx:
                seen = [row["seen_at"] for row in await tx.workers.all() if row["name"] == name]
        except (TimeoutError, StoreError):
            return "unknown while the database is away"
        late = not seen or store.clock.now() - seen[0] > timedelta(seconds=STALE_S)
        return f"this worker was not seen for {STALE_S:g} s; others take it for dead" if late else WELL


async def _tables(store: Store) -> tuple[str, str]:
    """Return whether the database answers, and whether its tables are as this version needs them."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            revision = await store.revision()
    except TimeoutError:
        return f"no answer within {_ANSWER_S:g} s", "unknown while the database is away"
    except StoreError as error:
        return str(error), "unknown while the database is away"
    try:
        migrations.require(revision)
    except StoreError as error:
        return WELL, str(error)
    return WELL, WELL


def leave_on_signals(life: Life, runner: Runner, stop_serving: Callable[[bool], None] | None = None) -> None:
    """Let the first signal end this process in good order, and the second one at once.

    Args:
        stop_serving: ends the HTTP side, where there is one; True: at once.
    """
    loop = asyncio.get_running_loop()
    hurried: set[asyncio.Task[None]] = set()

    def leave(notice_s: float) -> None:
        again = life.stopping.is_set()
        life.stopping.set()
        if again:
            hurried.add(asyncio.ensure_future(runner.stop(0)))
        if stop_serving is not None:
            loop.call_later(0 if again else notice_s, stop_serving, again)

    loop.add_signal_handler(signal.SIGTERM, leave, _NOTICE_S)
    loop.add_signal_handler(signal.SIGINT, leave, 0)  # a person, who need not be told that we leave
