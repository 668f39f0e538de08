"""Make the calls that are due, and carry what is shared: what `connect` returns.

One thread looks once a second and never makes a call itself. A place that is away is told once in the log, and
everything goes on when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from prunella.core.clock import Ids, Rng, SystemClock
from prunella.core.errors import StoreUnavailable
from prunella.guard.durable import DurableCall
from prunella.guard.forks import renew_after_fork
from prunella.guard.link import ADMISSION
from prunella.guard.making import LEASE_S, Making
from prunella.guard.place import Place
from prunella.guard.shared import SharedState

if TYPE_CHECKING:
    from prunella.guard.handover import DurableFunction

_LOOK_EVERY_S, _AT_ONCE = 1.0, 4
_RATES_S = 0.5
"""How long a program that connects waits for learned rates; later ones are adopted when they come."""
_ids = Ids(SystemClock(), Rng())
_log = logging.getLogger(__name__)


class Connection:
    """A place for durable calls and shared state, and whoever makes the calls that are due.

    Args:
        functions: those whose calls this process can make, by name; it may grow.
        closed: told when the connection has ended.
    """

    def __init__(
        self, place: Place, functions: Mapping[str, DurableFunction], closed: Callable[[Connection], None]
    ) -> None:
        self.place = place
        self._functions = functions
        self._closed = closed
        self.shared = SharedState(place.board)
        self._why_away = ""
        self._looks = False
        self._open()
        renew_after_fork(self)
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def _open(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._rates_asked = threading.Event()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prunella-durable")
        self._under_way: dict[str, Future[None]] = {}

    def renew(self) -> None:
        """Go on in a child process: under a name and with threads of its own, and without the parent's loop."""
        looks = self._looks and not self._stopping.is_set()
        self._open()
        self._loop = None
        if looks:
            self._start(self._look)  # it waits before it looks: other parts are not renewed yet

    def begin(self, *, resume: bool) -> None:
        """Take up what an earlier process left: learned rates, and what is still spooled.

        Where a thread does it, nobody waits for the spool, and for the rates only briefly: they may come later.

        Args:
            resume: look every second for calls that are due, and for what other processes' breakers did.
        """
        self._looks = resume
        if resume or self._loop is not None:
            self._start(self._take_up_and_look)
            self._rates_asked.wait(_RATES_S)
        else:
            self._take_up()

    def _start(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name="prunella-durable", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish what is under way and stop; closed on its event loop, what is under way goes on and ends later."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        here = self._loop is not None and asyncio._get_running_loop() is self._loop  # noqa: SLF001
        self._threads.shutdown(wait=not here)  # what needs this loop could not end while the loop waits for it
        with suppress(StoreUnavailable):
            self._exchange()
            self.shared.keep_rates()
        self.place.close()
        self._closed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume_due(self) -> int:
        """Make every call that is due, here and now; return how many were tried.

        Raises:
            RuntimeError: it was called on an event loop, which would have to wait.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the public one raises where none runs
            raise RuntimeError("resume_due: it would hold up this event loop; write await asyncio.to_thread(…)")
        tried = 0
        while calls := self.place.ledger.claim(list(self._functions), _fresh_worker(), LEASE_S, 1):
            self._make(calls[0])
            tried += 1
        return tried

    def _take_up_and_look(self) -> None:
        self._take_up()
        if self._looks:
            self._look()

    def _look(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            self._look_once()

    def _take_up(self) -> None:
        try:
            try:
                self.shared.adopt_rates()
            finally:
                self._rates_asked.set()
            self.place.deliver()
        except StoreUnavailable as error:
            self._away(f"{error}; what is handed over waits on this side")
        except Exception:
            _log.exception("connect: what an earlier process left could not be taken up")

    def _look_once(self) -> None:
        try:
            self._exchange()
            self._dispatch()
            self.place.tidy()
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
        """Say once that nobody answers, once that it is a person's turn, and once that it is over."""
        if bool(why) != bool(self._why_away) or (ADMISSION in why and ADMISSION not in self._why_away):
            _log.warning("connect: %s", why or "there is an answer again")
        self._why_away = why

    def _dispatch(self) -> None:
        for call_id, work in list(self._under_way.items()):
            if work.done():
                del self._under_way[call_id]
                if (error := work.exception()) is not None:
                    _log.error("connect: the call %s is made again when its lease is over", call_id, exc_info=error)
        free = _AT_ONCE - len(self._under_way)
        for call in self.place.ledger.claim(list(self._functions), _fresh_worker(), LEASE_S, free) if free else ():
            self._under_way[call.id] = self._threads.submit(self._make, call)

    def _make(self, call: DurableCall) -> None:
        Making(self.place.ledger, self._functions[call.function], self._loop, self._stopping).make(call)


def _fresh_worker() -> str:
    """Return a name for one claim: an end that lay in the spool must not end a later attempt of the same process."""
    return f"{socket.gethostname()}:{os.getpid()}:{_ids.new()}"
