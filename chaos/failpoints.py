"""Named boundaries: before and after each commit, each call outwards, each change in a user's database.

They are put around the store, the way out and the handle on users' databases in a forked worker, from outside: the
product holds no switch for them. A boundary is named after who reached it, so that none has to be listed by hand.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection

from prunella.databases.handle import Database
from prunella.egress import Egress, Reply
from prunella.store.contract import Transaction
from prunella.store.postgres import PostgresStore
from prunella.store.sqlite import SqliteStore

DIED = 77
"""The status of a process that ended at its boundary."""


class Points:
    """Count boundaries and end the process, as a kill would, at one of them.

    Args:
        trace: where each boundary is written down as it is reached.
        die_at: `name#occurrence`; empty: go on for ever.
    """

    def __init__(self, trace: str, die_at: str) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._die_at = die_at
        self._seen: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Pass a boundary, or die at it."""
        self._seen[name] += 1
        point = f"{name}#{self._seen[name]}"
        os.write(self._trace, f"{point}\n".encode())
        if point == self._die_at:
            os._exit(DIED)

    def plant(self) -> None:
        """Put boundaries around everything that reaches beyond this process."""
        for store in (PostgresStore, SqliteStore):
            _put(store, "transaction", self._transaction(store.transaction))
        _put(Egress, "request", self._request(Egress.request))
        _put(Database, "writing", self._writing(Database.writing))

    def _transaction(self, opened: Callable[[Any], AbstractAsyncContextManager[Transaction]]) -> Callable[[Any], Any]:
        points = self

        def transaction(store: Any) -> AbstractAsyncContextManager[Transaction]:
            caller = sys._getframe(1)
            module = str(caller.f_globals["__name__"]).removeprefix("prunella.")
            return points._watched(opened(store), f"{module}.{caller.f_code.co_qualname}")

        return transaction

    @asynccontextmanager
    async def _watched(self, opened: AbstractAsyncContextManager[Transaction], name: str) -> AsyncIterator[Transaction]:
        async with opened as tx:
            tx.on_commit(lambda: self.reach(f"{name}, after its commit"))
            yield tx
            self.reach(f"{name}, before its commit")

    def _request(self, send: Callable[..., Any]) -> Callable[..., Any]:
        async def request(egress: Egress, method: str, url: str, **options: Any) -> Reply:
            what = f"{method} {urlsplit(url).path}"
            self.reach(f"{what}, before the call")
            reply: Reply = await send(egress, method, url, **options)
            self.reach(f"{what}, after the reply")
            return reply

        return request

    def _writing(self, write: Callable[..., Any]) -> Callable[..., Any]:
        async def writing(database: Database, work: Callable[[Connection], Any]) -> Any:
            name = f"{database.name}: {getattr(work, '__qualname__', type(work).__name__)}"

            def watched(connection: Connection) -> Any:
                done = work(connection)
                self.reach(f"{name}, before its commit")
                return done

            done = await write(database, watched)
            self.reach(f"{name}, after its commit")
            return done

        return writing


def _put(place: type, name: str, value: object) -> None:
    assert hasattr(place, name), f"{place} has no {name}: its boundaries can't be watched any more"
    setattr(place, name, value)
