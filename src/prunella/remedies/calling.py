"""Call a function of the user: with what it may use, within its time, and with an outcome whatever it does.

A function that raises, hangs or returns nonsense fails with its reason; nothing of it reaches the worker. A thread
that hangs can't be ended: it is left behind, and what it asks for from then on is refused.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from prunella.core.clock import Clock
from prunella.core.errors import EgressFailed, PrunellaError
from prunella.core.outcomes import Outcome
from prunella.core.records import Failure
from prunella.core.redact import scrub
from prunella.databases.held import HeldTransaction
from prunella.egress import UNSET, Reply

_CHARS_MAX = 500
_LINES_MAX = 20
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Services(Protocol):
    """The configured services; no other address can be reached through it."""

    async def request(
        self, service: str, method: str, path: str, *, json: Any, headers: Mapping[str, str], deadline_s: float
    ) -> Reply:
        """Make one call.

        Raises:
            InvalidInput: the service is not configured, or the path leaves it.
            EgressError: no reply.
        """
        ...


class Run:
    """What a function is given (`prunella.plugin.Context`), for one call of it.

    Args:
        held: the transaction of the run; None where the procedure has no database.
        services: where it may call; None: nowhere.
        timeout_s: how long the function may take.

    Attributes:
        unanswered: how many calls were sent that may have had their effect, and brought no reply.
    """

    def __init__(
        self,
        *,
        idempotency_key: str,
        attempt: int,
        incident_id: str,
        held: HeldTransaction | None,
        services: Services | None,
        timeout_s: float,
        clock: Clock,
    ) -> None:
        self.idempotency_key = idempotency_key
        self.attempt = attempt
        self.incident_id = incident_id
        self.held = held
        self.timeout_s = timeout_s
        self.database = _Statements(self)
        self.egress = _Calls(self, services)
        self.lines: list[str] = []
        self.unanswered = 0
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._clock = clock
        self._until = clock.monotonic() + timeout_s

    @property
    def deadline(self) -> float:
        """Return the seconds that are left."""
        return max(self._until - self._clock.monotonic(), 0.0)

    def log(self, line: str) -> None:
        """Add a line to the run's record."""
        if len(self.lines) < _LINES_MAX:
            self.lines.append(scrub(str(line))[:_CHARS_MAX])

    def answer(self, future: Future[Any]) -> Any:
        """Return what the function gets for work elsewhere: something to await, or in a thread the result itself."""
        return asyncio.wrap_future(future) if threading.get_ident() == self._thread else future.result()

    def answer_of(self, call: Awaitable[Any]) -> Any:
        """Return the same for work of the event loop."""
        return call if threading.get_ident() == self._thread else _in_loop(call, self.loop).result()


class _Statements:
    """`ctx.database`: plain SQL with values as :name, in the transaction of the run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def fetch_all(self, sql: str, **values: Any) -> Any:
        """Return the rows of a query as mappings."""
        return self._do(lambda connection: [dict(row) for row in connection.execute(text(sql), values).mappings()])

    def execute(self, sql: str, **values: Any) -> Any:
        """Run a statement and return how many rows it met."""
        return self._do(lambda connection: connection.execute(text(sql), values).rowcount)

    def _do(self, work: Callable[[Connection], Any]) -> Any:
        if self._run.held is None:
            raise LookupError("this procedure names no database; set `database:` on it to use ctx.database")
        return self._run.answer(self._run.held.submit(work))


class _Calls:
    """`ctx.egress`: requests to configured services, under the run's idempotency key."""

    def __init__(self, run: Run, services: Services | None) -> None:
        self._run = run
        self._services = services

    def request(
        self, service: str, method: str, path: str, *, json: Any = UNSET, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Make one call and return its reply, whatever its status."""
        if self._services is None:
            raise LookupError("no services are configured; add one under services: to use ctx.egress")
        ours = {"idempotency-key": self._run.idempotency_key, "x-prunella-recovery": self._run.incident_id}
        given = {name.lower(): value for name, value in (headers or {}).items()}
        deadline_s = max(self._run.deadline, 0.001)
        call = self._services.request(service, method, path, json=json, headers=ours | given, deadline_s=deadline_s)
        return self._run.answer_of(call if method.upper() in _SAFE else self._counted(call))

    async def _counted(self, call: Awaitable[Reply]) -> Reply:
        """Count what was sent and not answered: it may have had its effect."""
        self._run.unanswered += 1
        try:
            reply = await call
        except PrunellaError as error:
            if not isinstance(error, EgressFailed) or not error.sent:
                self._run.unanswered -= 1
            raise
        self._run.unanswered -= 1
        return reply


async def called(name: str, function: Callable[..., Any], run: Run, subject: Any, **params: Any) -> Outcome:
    """Call `function(run, subject)` and return what came of it; raises only what cancels the caller."""
    task = asyncio.ensure_future(_judged(name, lambda: function(run, subject, **params), function))
    try:
        done, _ = await asyncio.wait({task}, timeout=run.timeout_s)
    except BaseException:
        task.cancel()
        raise
    if not done:
        task.cancel()  # and not waited for: it may not listen
        task.add_done_callback(_forgotten)
        late = f"{name} did not end within {run.timeout_s:g} s"
        return replace(Outcome.failed(late), timed_out=True, unanswered=run.unanswered > 0)
    outcome = Outcome.failed(f"{name} cancelled itself") if task.cancelled() else task.result()
    if not outcome.ok:
        outcome = replace(outcome, unanswered=run.unanswered > 0)
    return _with_lines(outcome, run)


async def _judged(name: str, call: Callable[[], Any], function: Callable[..., Any]) -> Outcome:
    try:
        if inspect.iscoroutinefunction(function):
            result = await call()
        else:
            result = await _in_thread(name, call)
            if inspect.isawaitable(result):
                result = await result
    except (Exception, SystemExit) as error:
        said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error  # without its SQL
        words = scrub(f"{type(said).__name__}: {said}".splitlines()[0])[:_CHARS_MAX]
        failure = Failure.from_exception(error, service=name)
        return replace(Outcome.failed(f"{name} raised {words}"), failure=failure)
    if result is None:
        return Outcome.done()
    if isinstance(result, Outcome):
        return replace(result, detail=scrub(str(result.detail))[:_CHARS_MAX])
    return Outcome.failed(
        f"{name} returned {type(result).__name__}; a remedy returns Outcome.changed(...), .done(...), .skip(...), "
        ".failed(...) or None"
    )


def _in_thread(name: str, call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run `call` in a thread of its own: one that hangs takes no place from others, nor holds up the end."""
    done: Future[Any] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:
            failed = error
            _settle(done, lambda: done.set_exception(failed))
        else:
            _settle(done, lambda: done.set_result(result))

    done.set_running_or_notify_cancel()
    threading.Thread(target=work, name=f"remedy-{name}", daemon=True).start()
    return asyncio.wrap_future(done)


def _settle(done: Future[Any], settle: Callable[[], None]) -> None:
    """Tell a future that nobody may be waiting for any more."""
    try:
        settle()
    except RuntimeError:  # the loop is closed: the process ends
        return


def _in_loop(call: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> Future[Any]:
    async def made() -> Any:
        return await call

    return asyncio.run_coroutine_threadsafe(made(), loop)


def _forgotten(task: asyncio.Future[Any]) -> None:
    """Take note of what a function that was given up ended with, so that nothing is printed about it."""
    if not task.cancelled():
        task.exception()


def _with_lines(outcome: Outcome, run: Run) -> Outcome:
    if not run.lines:
        return outcome
    return replace(outcome, detail="; ".join(filter(None, (outcome.detail, *run.lines))))
