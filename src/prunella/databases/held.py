"""A transaction that stays open while something else goes on: opened with the first statement, ended by one word.

Its connection lives in one thread of the handle; statements are handed over and wait for their turn there. It must be
ended: until then it occupies a connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection

from prunella.core.errors import DatabaseUnavailable
from prunella.databases.handle import Database

Done = TypeVar("Done")
Statement = tuple[Callable[[Connection], Any], "Future[Any]"]


class _RolledBack(Exception):
    """End the transaction without a trace."""


class HeldTransaction:
    """One transaction, used from the event loop or from a plug-in's thread; not by two at once.

    Args:
        first: what its connection does before anything else.
        turn: waited for before it opens and given back at its end, where only one may be open at a time.
    """

    def __init__(
        self,
        database: Database,
        loop: asyncio.AbstractEventLoop,
        *,
        first: Callable[[Connection], None] | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self._database = database
        self._loop = loop
        self._statements: SimpleQueue[Statement | bool] = SimpleQueue()
        self._served: Future[None] | None = None
        self._over = self._ending = False
        self._first = first
        self._alone = turn
        self._turn = threading.Lock()

    @property
    def opened(self) -> bool:
        """Tell whether anything was run in it."""
        return self._served is not None

    def submit(self, work: Callable[[Connection], Done]) -> Future[Done]:
        """Hand `work` over to the transaction's thread; from any thread."""
        done: Future[Done] = Future()
        with self._turn:
            if self._over:
                done.set_exception(self._is_over())
                return done
            self._statements.put((work, done))
            if self._served is None:
                self._served = asyncio.run_coroutine_threadsafe(self._opened(), self._loop)
                self._served.add_done_callback(self._ended)
        return done

    async def run(self, work: Callable[[Connection], Done]) -> Done:
        """Run `work` in the transaction."""
        return await asyncio.wrap_future(self.submit(work))

    async def end(self, *, commit: bool) -> None:
        """Commit or roll back; nothing to do where nothing was run, or where it is over.

        Raises:
            DatabaseRefused, DatabaseUnavailable: it could not be committed.
        """
        with self._turn:
            ended, self._ending, self._over = self._ending, True, True
        if ended or self._served is None:
            return
        self._statements.put(commit)
        try:
            await asyncio.wrap_future(self._served)
        except _RolledBack:
            return

    async def _opened(self) -> None:
        async with nullcontext() if self._alone is None else self._alone:
            await self._database.writing(self._serve)

    def _serve(self, connection: Connection) -> None:
        """Run what is handed over until the word to end comes."""
        if self._first is not None:
            self._first(connection)
        while True:
            wanted = self._statements.get()
            if isinstance(wanted, bool):
                if not wanted:
                    raise _RolledBack
                return
            work, done = wanted
            try:
                with connection.begin_nested():  # a statement that fails does not take the others with it
                    result = work(connection)
                done.set_result(result)
            except BaseException as error:
                done.set_exception(error)

    def _ended(self, served: Future[None]) -> None:
        """Let nobody wait for a transaction that never began or is over."""
        with self._turn:
            self._over = True
        error = None if served.cancelled() else served.exception()
        while not self._statements.empty():
            wanted = self._statements.get()
            if not isinstance(wanted, bool):
                wanted[1].set_exception(error or self._is_over())

    def _is_over(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"database {self._database.name}: the transaction of this run is over")
