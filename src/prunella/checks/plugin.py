"""A user's function as a check: read-only, within its time, and believed only where it returns findings.

A function that raises, hangs or returns nonsense fails its own look and nothing else. A thread that hangs can't be
ended: it is left behind, and the function is not called again until it has come back.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NoReturn

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from prunella.core.clock import Clock, SystemClock
from prunella.core.errors import PrunellaError
from prunella.core.findings import Finding, Sighting
from prunella.core.redact import scrub
from prunella.databases.handle import Database
from prunella.plugin import CheckFunction

_CHARS_MAX = 300


class PluginFailed(PrunellaError):
    """Say which function of the user failed as a check, and how."""

    code = "PR312"


class Plugin:
    """Call a registered function and hold what it returns to the contract.

    Args:
        database: the procedure's, None where it names none.
        params: handed over as keywords where the function takes any.
        cap: how many findings are believed, and how many rows one query may bring.
        log: where the function's own lines go.
    """

    def __init__(
        self,
        database: Database | None,
        function: CheckFunction,
        *,
        params: Mapping[str, Any] | None = None,
        cap: int = 500,
        clock: Clock | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._database = database
        self._function = function
        self._params = dict(params or {})
        self._cap = cap
        self._clock = clock or SystemClock()
        self._log = log or (lambda _: None)
        self._left_behind: Future[Any] | None = None

    async def look(self, only: str | None = None) -> Sighting:
        """Return the function's findings.

        Raises:
            PluginFailed: it raised, took too long, or returned something else.
        """
        context = _Context(self._database, self._cap, self._function, self._clock, self._log)
        try:
            returned = await self._in_time(asyncio.ensure_future(self._called(context)))
        except PluginFailed:
            raise
        except Exception as error:
            said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error  # without its SQL
            raise PluginFailed(self._words(f"raised {type(said).__name__}: {said}")) from error
        found = self._findings(returned)
        count, kept = len(found), [one for one in found if only in (None, one.key)][: self._cap]
        return Sighting(findings=tuple(kept), at=await self._now(), count=count if only is None else None)

    async def _in_time(self, call: asyncio.Future[Any]) -> Any:
        done, _ = await asyncio.wait({call}, timeout=self._function.timeout_s)
        if not done:
            call.cancel()  # and not waited for: it may not listen
            call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._refuse(f"did not end within {self._function.timeout_s:g} s; raise timeout_s or let it do less")
        if call.cancelled():
            self._refuse("cancelled itself")
        return call.result()

    async def _called(self, context: _Context) -> Any:
        try:
            return await self._returned(context)
        except (SystemExit, KeyboardInterrupt) as error:
            self._refuse(f"raised {type(error).__name__}; the worker goes on")

    async def _returned(self, context: _Context) -> Any:
        function = self._function.function
        if inspect.iscoroutinefunction(function):
            return await function(context, **self._params)
        if self._left_behind is not None and not self._left_behind.done():
            self._refuse("still hangs in an earlier call; it is called again once that one ends")
        self._left_behind = _in_thread(lambda: function(context, **self._params))
        returned = await asyncio.wrap_future(self._left_behind)
        return await returned if inspect.isawaitable(returned) else returned

    def _findings(self, returned: Any) -> list[Finding]:
        if isinstance(returned, str | bytes | Mapping | Finding) or not isinstance(returned, Iterable):
            self._refuse(
                f"returned {_shown(returned)}; return a list of prunella.plugin.Finding, empty where all is well"
            )
        found = list(returned)
        for one in found:
            if not isinstance(one, Finding):
                self._refuse(f"returned {_shown(one)} among its findings; each must be a prunella.plugin.Finding")
            if not one.key or {type(one.key), type(one.issue)} != {str}:
                self._refuse(f"returned a finding with key {_shown(one.key)}; its key and issue must be texts")
        keys = [one.key for one in found]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            self._refuse(f"returned two findings with key {_shown(twice)}; a key names one resource")
        return found

    async def _now(self) -> Any:
        database = self._database
        return self._clock.now() if database is None else await database.reading(database.now)

    def _refuse(self, what: str) -> NoReturn:
        raise PluginFailed(self._words(what))

    def _words(self, what: str) -> str:
        function = self._function
        return scrub(f"check {function.name} ({function.function.__module__}) {what}")[:_CHARS_MAX]


class _Context:
    """What the function is given (`prunella.plugin.Context`): a look has no attempt and calls nobody."""

    idempotency_key = ""
    attempt = 0
    incident_id = ""

    def __init__(
        self, database: Database | None, cap: int, function: CheckFunction, clock: Clock, log: Callable[[str], None]
    ) -> None:
        self.database = _Reads(database, cap)
        self.egress = None
        self.log = log
        self._clock = clock
        self._until = clock.monotonic() + function.timeout_s

    @property
    def deadline(self) -> float:
        """Return the seconds that are left."""
        return max(self._until - self._clock.monotonic(), 0.0)


class _Reads:
    """`ctx.database` of a check: queries only, and the database itself refuses a write."""

    def __init__(self, database: Database | None, cap: int) -> None:
        self._database = database
        self._cap = cap
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def fetch_all(self, sql: str, **values: Any) -> Any:
        """Return the rows of a query as mappings: to be awaited, in a plain function the rows themselves."""
        if self._database is None:
            raise LookupError("this procedure names no database; set `database:` on it to use ctx.database")
        call = self._database.reading(lambda connection: self._rows(connection, sql, values))
        if threading.get_ident() == self._thread:
            return call
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def execute(self, sql: str, **values: Any) -> NoReturn:
        """Refuse: a check changes nothing."""
        raise PermissionError("a check only reads; write through a remedy, whose changes can be undone")

    def _rows(self, connection: Connection, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        result = connection.execution_options(stream_results=True).execute(text(sql), values).mappings()
        rows = [dict(row) for row in result.fetchmany(self._cap + 1)]
        result.close()
        if len(rows) > self._cap:
            raise ValueError(f"the query brings more than {self._cap} rows; count in SQL, or add LIMIT {self._cap}")
        return rows


def _in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Run in a thread that the end of the process does not wait for."""
    future: Future[Any] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()  # from here on it can't be cancelled, only waited for
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="prunella-check").start()
    return future


def _shown(value: Any) -> str:
    try:
        return f"{type(value).__name__} {scrub(repr(value))[:80]}"
    except Exception:
        return type(value).__name__  # its own repr fails
