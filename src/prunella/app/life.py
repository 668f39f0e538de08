"""Whether this process is fit to be given work: what `/readyz` answers, and what a signal to stop changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from prunella.core.errors import StoreError
from prunella.runner.contract import STALE_S
from prunella.store import migrations
from prunella.store.contract import Store

WELL: Final = "ok"
_ANSWER_S = 2.0


class Life:
    """What a process is at.

    Attributes:
        stopping: it was told to stop.
        work: what runs its handlers; None before it began.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.work: asyncio.Task[None] | None = None

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
