"""A sign of life to a watcher outside: it comes while work is carried out, and stays away when it is not.

A runner calls it, as it calls all work; what is overdue keeps it back. It says nothing but that it was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from prunella.core.errors import SecretError, Undelivered
from prunella.core.events import Listeners
from prunella.core.redact import Secret
from prunella.egress import Caller
from prunella.notify import contract
from prunella.runner.contract import Runner
from prunella.store.contract import Store

HEARTBEAT = "heartbeat"
"""The handler's name, and under which its health is kept."""
_OVERDUE = timedelta(minutes=2)
_ASK_OTHERS_AFTER = timedelta(seconds=30)
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Call the watcher, every so often, once over all workers.

    Args:
        url: opens the watcher's address, which is a secret; None: nobody watches.
    """

    store: Store
    runner: Runner
    caller: Caller
    url: Callable[[], Awaitable[Secret]] | None
    every_s: float
    listeners: Listeners

    async def beat(self) -> None:
        """Call the watcher unless work is overdue, and submit the next call."""
        now = self.store.clock.now()
        if self.url is None:
            await self._leave_to_others(now)
            return
        await self.runner.submit(HEARTBEAT, at=now + timedelta(seconds=self.every_s))
        async with self.store.transaction() as tx:
            late = await tx.incidents.overdue(now - _OVERDUE)
        error = f"kept back: {late} incidents are overdue by more than two minutes" if late else await self._call()
        now = self.store.clock.now()
        async with self.store.transaction() as tx:
            if error is None:
                await tx.channels.succeeded(HEARTBEAT, now)
            else:
                await tx.channels.failed(HEARTBEAT, now, error)
        if error is not None:
            self.listeners.emit("notification.failed", channel=HEARTBEAT, reason=error, dead=False)

    async def _leave_to_others(self, now: datetime) -> None:
        """Let a worker beat that knows a watcher: its configuration may be newer than this one."""
        async with self.store.transaction() as tx:
            workers = await tx.workers.all()
        if len(workers) > 1:
            await self.runner.submit(HEARTBEAT, at=now + _ASK_OTHERS_AFTER)

    async def _call(self) -> str | None:
        assert self.url is not None  # beat() looked
        try:
            url = await self.url()
            reply = await contract.post(self.caller, url, channel=HEARTBEAT, content=b"", deadline_s=_TIMEOUT_S)
        except SecretError as error:
            return str(error)
        except Undelivered as error:
            return error.reason
        return None if 200 <= reply.status < 300 else f"{HEARTBEAT}: the watcher answered {reply.status}"
