"""Deliver what the outbox holds, channel by channel, in order; a restart goes on where it stood.

A receiver's Retry-After silences the whole channel. What has piled up goes out as one digest: nobody reads a flood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from prunella.core.errors import Undelivered
from prunella.core.events import Listeners
from prunella.core.records import Notification, Severity
from prunella.egress import Caller
from prunella.notify.contract import Channel
from prunella.runner.contract import Runner
from prunella.store.contract import Store

_CLAIM = timedelta(seconds=30)
_CLAIM_MAX = 500
_SINGLY_MAX = 3
_FLOOD_MESSAGES = 20  # more than this within the window is a flood: the rest waits for one digest
_FLOOD_WINDOW = timedelta(seconds=60)
_TRIES_MAX = 12
_WAITS_S = (1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)  # the tries of one message span some eight hours
_RANK = list(Severity)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Send what is due.

    Args:
        channel: opens a channel by name; raises `Undelivered` when it can't be used.
    """

    store: Store
    runner: Runner
    caller: Caller
    channel: Callable[[str], Awaitable[Channel]]
    listeners: Listeners

    async def deliver(self, name: str) -> None:
        """Send what is due on one channel, then submit the next delivery."""
        now = self.store.clock.now()
        async with self.store.transaction() as tx:
            until = await tx.outbox.silent_until(name, now)
            count, first = await tx.outbox.sent_since(name, now - _FLOOD_WINDOW)
            if until is None and count >= _FLOOD_MESSAGES and first is not None:
                until = first + _FLOOD_WINDOW
            if until is not None:
                await tx.outbox.postpone(name, until)
            due = await tx.outbox.claim(name, now, now + _CLAIM, _CLAIM_MAX)
        for batch in batches(due):
            if not await self._send(name, batch):
                break
        async with self.store.transaction() as tx:
            waiting = {row["channel"]: row["next_at"] for row in await tx.outbox.waiting()}
        if name in waiting:
            await self.runner.submit("deliver", name, at=waiting[name])

    async def _send(self, name: str, batch: Sequence[Notification]) -> bool:
        """Try one message (or one digest); False when the channel does not take more for now."""
        try:
            channel = await self.channel(name)
            await channel.send(batch[0] if len(batch) == 1 else digest(batch), caller=self.caller)
        except Undelivered as error:
            await self._failed(name, batch, error)
            return False
        now = self.store.clock.now()
        async with self.store.transaction() as tx:
            await tx.outbox.settle([one.id for one in batch], "sent", next_at=None, error=None, sent_at=now)
        self.listeners.emit("notification.sent", channel=name, kind=batch[0].kind, count=len(batch))
        return True

    async def _failed(self, name: str, batch: Sequence[Notification], error: Undelivered) -> None:
        tries = max(one.attempts for one in batch)
        dead = error.permanent or tries >= _TRIES_MAX
        wait_s = max(_WAITS_S[min(tries, len(_WAITS_S)) - 1], error.retry_after_s or 0.0)
        next_at = self.store.clock.now() + timedelta(seconds=wait_s)
        async with self.store.transaction() as tx:
            await tx.outbox.settle(
                [one.id for one in batch],
                "dead" if dead else "waiting",
                next_at=None if dead else next_at,
                error=error.reason,
                sent_at=None,
            )
            await tx.outbox.postpone(name, self.store.clock.now() if dead else next_at)
        self.listeners.emit("notification.failed", channel=name, reason=error.reason, dead=dead)


def batches(due: Sequence[Notification]) -> list[list[Notification]]:
    """Send a few messages singly; more than that: the first as it is, the rest as one digest."""
    if len(due) <= _SINGLY_MAX:
        return [[one] for one in due]
    return [[due[0]], list(due[1:])]


def digest(batch: Sequence[Notification]) -> Notification:
    """Fold several messages into one that counts them by title and service."""
    counts = Counter((one.title, dict(one.facts).get("Service", "")) for one in batch)
    facts = tuple(
        (f"{title} ({service})" if service else title, str(count)) for (title, service), count in counts.items()
    )
    return replace(
        batch[0],
        kind="digest",
        title=f"{len(batch)} messages",
        severity=max((one.severity for one in batch), key=_RANK.index),
        facts=facts,
        incident_id=None,
        link=None,
    )
