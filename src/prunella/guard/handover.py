"""What can't be done now is written down and done later, as the same logical call: same arguments, same key.

`connect` names the database or the engine; `policy.durable` says which functions may be handed over. The row is
committed before the caller sees `HandedOver`, so it survives whatever happens to the process afterwards. A process that
is connected makes due calls of the functions it knows; a claim with a lease keeps two from making one.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prunella.core.clock import HOST
from prunella.core.errors import HandedOver, InvalidInput, StoreUnavailable
from prunella.guard import backoff
from prunella.guard.call import Call
from prunella.guard.drive import adrive, drive
from prunella.guard.flow import attempt
from prunella.guard.ledger import DurableCall, Ending, NewCall
from prunella.guard.link import LINK
from prunella.guard.place import Place, open_place
from prunella.guard.shared import SharedState
from prunella.guard.verdicts import asked_wait_s, is_refusal

if TYPE_CHECKING:
    from prunella.guard.policy import Policy

Function = Callable[..., Any]
_log = logging.getLogger(__name__)
_FIRST_WAIT_S, _WAIT_MAX_S = 30.0, 900.0
_GIVE_UP_AFTER_S = 24 * 3600.0
_LEASE_S, _LOOK_EVERY_S, _AT_ONCE = 60.0, 1.0, 4


class DurableFunction:
    """A function whose calls may be handed over, known by a name that other processes know too."""

    def __init__(
        self, policy: Policy, target: Function, name: str | None, key: str | Function, secrets: Mapping[str, Function]
    ) -> None:
        self.policy = policy
        self.target = target
        self.name = name or f"{_module_of(target)}:{target.__qualname__}"
        self.key = key
        self.secrets = secrets
        self.signature = inspect.signature(target)
        self._refuse_misuse(named=name is not None)

    def hand_over(self, call: Call, error: Exception, wait_s: float) -> HandedOver:
        """Write a call down; what is raised here means that nothing was written."""
        assert _connection is not None  # `policy` hands over only while connected
        if not call.idempotency_key:
            raise InvalidInput(f"durable {self.name}: the call has no idempotency key ({self.key} is empty)")
        operation_id, due_at = _connection.place.ledger.write(
            NewCall(
                function=self.name,
                policy=self.policy.name,
                key=call.idempotency_key,
                arguments=self._kept(call),
                attempts=call.attempt,
                wait_s=wait_s or _FIRST_WAIT_S,
                error=f"{type(error).__name__}: {error}",
            )
        )
        due = datetime.fromtimestamp(due_at, UTC)
        told = f"{self.policy.name}: the call of {self.name} was written down as {operation_id}, due {due:%H:%M:%S} UTC"
        return HandedOver(told, operation_id=operation_id, due_at=due)

    def _kept(self, call: Call) -> dict[str, Any]:
        bound = self.signature.bind(*call.args, **call.kwargs)
        if not self.secrets:
            return {"args": list(bound.args), "kwargs": bound.kwargs}
        return {
            "args": [],
            "kwargs": {name: value for name, value in bound.arguments.items() if name not in self.secrets},
        }

    def _refuse_misuse(self, *, named: bool) -> None:
        parameters = self.signature.parameters
        if not named and "<" in self.name:
            raise TypeError(f"durable: {self.name} has no name that another process could know; give name=…")
        wanted = [*self.secrets, *([self.key] if isinstance(self.key, str) else [])]
        for one in wanted:
            if one not in parameters:
                raise TypeError(
                    f"durable: {self.name} has no argument {one!r}; it has {', '.join(parameters) or 'none'}"
                )
        kinds = {parameter.kind for parameter in parameters.values()}
        if self.secrets and kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
            raise TypeError(
                f"durable: {self.name} takes arguments without names, so a secret among them can't be left out"
            )


def _module_of(target: Function) -> str:
    """Return the name under which other processes import what is `__main__` here."""
    if target.__module__ != "__main__":
        return target.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return str(spec.name) if spec is not None else Path(getattr(main, "__file__", "__main__")).stem


_functions: dict[str, DurableFunction] = {}
_connection: Connection | None = None


def register(function: DurableFunction) -> None:
    """Let this process make calls of `function` that were handed over; a later one of the same name takes its place."""
    _functions[function.name] = function


def known() -> list[str]:
    """Return the names of the functions whose calls this process can make."""
    return list(_functions)


def connected() -> bool:
    """Tell whether there is a database to hand over to."""
    return _connection is not None


def connect(url: str, token: str | None = None, *, resume: bool = True, spool: str | None = None) -> Connection:
    """Attach what durable calls are written to, and make those that are due; ends an earlier connection.

    Learned rates of limiters outlive the process there, breakers with `shared=True` stand together, and an engine
    hears of breakers that open.

    Args:
        url: `sqlite:///path` (three slashes: relative, four: absolute), `postgresql://…`, or the `https://…` of an
            engine. One database may serve applications and an engine at once.
        token: for an engine: a token of the role APPLICATION.
        resume: once a second make due calls of this process's durable functions, and exchange what is shared.
            Asynchronous calls run on the event loop that is running now, or on one of their own.
        spool: for an engine: the SQLite file that keeps what the engine can't take while it does not answer; None
            takes `prunella-spool.db` in the working folder.

    Raises:
        InvalidInput: the address is of no known kind, or an engine refuses the token.
        StoreUnavailable: the database does not answer. An engine need not answer yet.
    """
    global _connection
    fresh = Connection(open_place(url, token, spool))
    if _connection is not None:
        _connection.close()
    _connection, LINK.state = fresh, fresh.shared
    fresh.begin()
    if resume:
        fresh.start()
    return fresh


class Connection:
    """A place for durable calls and shared state, and whoever makes the calls that are due."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.shared = SharedState(place.board)
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self._stopping = threading.Event()
        self._why_away = ""
        self._thread: threading.Thread | None = None
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prunella-durable")
        self._under_way: dict[str, Future[None]] = {}
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def begin(self) -> None:
        """Take up what an earlier process left: learned rates, and what is still spooled."""
        try:
            self.place.deliver()
            self.shared.adopt_rates()
        except StoreUnavailable as error:
            self._away(f"{error}; what is handed over waits on this side")

    def start(self) -> None:
        """Look every second for calls that are due, and for what other processes' breakers did."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="prunella-durable", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Finish what is under way and stop."""
        global _connection  # noqa: PLW0603
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._threads.shutdown()
        with suppress(StoreUnavailable):
            self._exchange()
            self.shared.keep_rates()
        self.place.close()
        if _connection is self:
            _connection = LINK.state = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume_due(self) -> int:
        """Make every call that is due, here and now; return how many were tried."""
        tried = 0
        while calls := self.place.ledger.claim(list(_functions), self._worker, _LEASE_S, 1):
            self._make(calls[0])
            tried += 1
        return tried

    def _look(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            self._look_once()

    def _look_once(self) -> None:
        try:
            self._exchange()
            self._dispatch()
        except StoreUnavailable as error:
            self._away(str(error))
        except Exception:
            _log.exception("connect: a look at what is due failed; the next is in a second")
        else:
            self._away("")

    def _exchange(self) -> None:
        self.place.deliver()
        self.shared.exchange()

    def _away(self, why: str) -> None:
        """Say once that nobody answers, and once that it is over."""
        if bool(why) != bool(self._why_away):
            _log.warning("connect: %s", why or "there is an answer again")
        self._why_away = why

    def _dispatch(self) -> None:
        self._under_way = {call_id: work for call_id, work in self._under_way.items() if not work.done()}
        for call_id in self._under_way:
            self.place.ledger.renew(call_id, self._worker, _LEASE_S)
        free = _AT_ONCE - len(self._under_way)
        for call in self.place.ledger.claim(list(_functions), self._worker, _LEASE_S, free) if free else ():
            self._under_way[call.id] = self._threads.submit(self._make, call)

    def _make(self, call: DurableCall) -> None:
        """Make one attempt and write how it ended."""
        function = _functions[call.function]
        core = (
            function.policy.core((), {})
            if function.policy.key is None
            else function.policy.core(tuple(call.args), call.kwargs)
        )
        try:
            self._attempt(function, core, call)
        except Exception as error:
            self._failed(core, call, error)
        else:
            self.place.ledger.end(call.id, self._worker, Ending(state="done"))
            core.tell("operation.done", operation_id=call.id, attempts=call.attempts)

    def _attempt(self, function: DurableFunction, core: Any, call: DurableCall) -> None:
        kwargs = call.kwargs | {name: bring() for name, bring in function.secrets.items()}
        story = Call(function.target, tuple(call.args), kwargs, idempotency_key=call.idempotency_key)
        story.attempt = call.attempts
        story.deadline_at = story.begun_at + core.deadline_s
        if not inspect.iscoroutinefunction(function.target):
            drive(attempt(core, story), story)
        elif self._loop is not None and self._loop.is_running():
            if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - the public one raises where none runs
                raise RuntimeError("resume_due: it waits for this event loop; call it with asyncio.to_thread")
            asyncio.run_coroutine_threadsafe(adrive(attempt(core, story), story), self._loop).result()
        else:
            asyncio.run(adrive(attempt(core, story), story))

    def _failed(self, core: Any, call: DurableCall, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        refused = is_refusal(error)
        too_old = HOST.now().timestamp() - call.created_at > _GIVE_UP_AFTER_S
        if too_old or not (refused or core.wants(error)):
            self.place.ledger.end(call.id, self._worker, Ending(state="dead", error=told))
            core.tell("operation.dead", operation_id=call.id, attempts=call.attempts, error=error)
            return
        step_s = backoff.exponential_s(_FIRST_WAIT_S, 2.0, min(call.attempts, 10), _WAIT_MAX_S)
        wait_s = max(asked_wait_s(error) or 0.0, backoff.spread_s(step_s, 0.5, HOST))
        if refused:
            wait_s = getattr(error, "retry_after_s", None) or _LOOK_EVERY_S
        again = Ending(state="waiting", wait_s=wait_s, error=told, counted=not refused)
        self.place.ledger.end(call.id, self._worker, again)
        core.tell("operation.waits", operation_id=call.id, attempts=call.attempts, wait_s=wait_s, error=error)
