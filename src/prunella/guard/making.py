"""Make one attempt at a durable call, keep its lease meanwhile, and write how it ended.

The lease is kept by a thread of its own, however long the call takes. What is not written is made a second time, so an
ending is written again as long as the lease lasts.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from prunella.core.clock import HOST
from prunella.core.errors import StoreUnavailable
from prunella.guard import backoff
from prunella.guard.call import Call
from prunella.guard.core import Core
from prunella.guard.drive import adrive, drive
from prunella.guard.durable import DurableCall, Ending
from prunella.guard.flow import attempt
from prunella.guard.ledger import Ledger
from prunella.guard.verdicts import asked_wait_s, is_refusal

if TYPE_CHECKING:
    from prunella.guard.handover import DurableFunction

FIRST_WAIT_S = 30.0
LEASE_S = 60.0
_WAIT_MAX_S = 900.0
_GIVE_UP_AFTER_S = 24 * 3600.0
_RENEW_EVERY_S, _AGAIN_S = 10.0, 1.0
_END_TRIES = 45
"""How often, once a second, an ending is written again while nobody answers: then the lease is nearly over."""


class Making:
    """One attempt at a durable call.

    Args:
        loop: where asynchronous functions run; None for a loop of their own.
        stopping: set when nobody waits any more for a ledger that is away.
    """

    def __init__(
        self,
        ledger: Ledger,
        function: DurableFunction,
        loop: asyncio.AbstractEventLoop | None,
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._function = function
        self._loop = loop
        self._stopping = stopping

    def make(self, call: DurableCall) -> None:
        """Make one attempt and write how it ended."""
        function = self._function
        tell, wants = function.policy.tell, _whatever
        try:
            with self._lease_kept(call):
                kwargs = call.kwargs | {name: bring() for name, bring in function.secrets.items()}
                core = function.policy.core(tuple(call.args), kwargs)
                tell, wants = core.tell, core.wants
                self._attempt(core, call, kwargs)
        except Exception as error:
            self._failed(tell, wants, call, error)
        else:
            self._end(call, Ending(state="done"))
            tell("operation.done", operation_id=call.id, attempts=call.attempts)

    @contextmanager
    def _lease_kept(self, call: DurableCall) -> Iterator[None]:
        over = threading.Event()

        def keep() -> None:
            while not over.wait(_RENEW_EVERY_S):
                with suppress(StoreUnavailable):
                    self._ledger.renew(call.id, call.worker, LEASE_S)

        keeper = threading.Thread(target=keep, name="prunella-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def _attempt(self, core: Core, call: DurableCall, kwargs: dict[str, Any]) -> None:
        target = self._function.target
        story = Call(target, tuple(call.args), kwargs, idempotency_key=call.idempotency_key)
        story.attempt = call.attempts
        story.deadline_at = story.begun_at + core.deadline_s
        if not inspect.iscoroutinefunction(target):
            drive(attempt(core, story), story)
        elif self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(adrive(attempt(core, story), story), self._loop).result()
        else:
            asyncio.run(adrive(attempt(core, story), story))

    def _end(self, call: DurableCall, ending: Ending) -> None:
        """Write how an attempt ended, while the lease lasts: what is not written is made a second time."""
        for _ in range(_END_TRIES):
            with suppress(StoreUnavailable):
                return self._ledger.end(call.id, call.worker, ending)
            if self._stopping.wait(_AGAIN_S):
                break
        return self._ledger.end(call.id, call.worker, ending)

    def _failed(
        self, tell: Callable[..., None], wants: Callable[[Exception], bool], call: DurableCall, error: Exception
    ) -> None:
        told = f"{type(error).__name__}: {error}"
        refused = is_refusal(error) or isinstance(error, CancelledError)  # its event loop ended: nobody said no
        too_old = HOST.now().timestamp() - call.created_at > _GIVE_UP_AFTER_S
        if too_old or not (refused or wants(error)):
            self._end(call, Ending(state="dead", error=told))
            tell("operation.dead", operation_id=call.id, attempts=call.attempts, error=error)
            return
        step_s = backoff.exponential_s(FIRST_WAIT_S, 2.0, min(call.attempts, 10), _WAIT_MAX_S)
        wait_s = max(asked_wait_s(error) or 0.0, backoff.spread_s(step_s, 0.5, HOST))
        if refused:
            wait_s = getattr(error, "retry_after_s", None) or _AGAIN_S
        again = Ending(state="waiting", wait_s=wait_s, error=told, counted=not refused)
        self._end(call, again)
        tell("operation.waits", operation_id=call.id, attempts=call.attempts, wait_s=wait_s, error=error)


def _whatever(error: Exception) -> bool:
    """Try again after any error: one from before the attempt says nothing about the call."""
    return True
