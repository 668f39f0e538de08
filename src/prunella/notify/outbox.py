"""Deliver what the outbox holds, channel by channel, in order; a restart goes on where it stood.

A receiver's Retry-After silences the whole channel. What has piled up goes out as one digest: nobody reads a flood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from prunella.core.clock import Ids
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
_STAND_IN_TRIES = 3
_STAND_IN_AFTER = timedelta(seconds=30)
"""After so many tries of one message, or so long without a success, another channel stands in."""
_WAITS_S = (1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)  # the tries of one message span some eight hours
_RANK = list(Severity)


def _nobody(channel: str, severity: Severity) -> str | None:
    return None


def _at_once(severity: Severity, moment: datetime) -> datetime:
    return moment


@dataclass(frozen=True, slots=True)
class Delivery:
    """Send what is due.

    Args:
        channel: opens a channel by name; raises `Undelivered` when it can't be used.
        ids: makes ids for rows on a channel that stands in.
        fallback: names the channel that stands in for one that fails.
        after: says when something that is due at a moment may be sent: people sleep.
    """

    store: Store
    runner: Runner
    caller: Caller
    channel: Callable[[str], Awaitable[Channel]]
    listeners: Listeners
    ids: Ids
    fallback: Callable[[str, Severity], str | None] = _nobody
    after: Callable[[Severity, datetime], datetime] = _at_once

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

    async def test(self, name: str, link: str | None) -> str | None:
        """Send a test message at once, past the outbox; return what its receiver remarked.

        Raises:
            Undelivered: it did not arrive.
        """
        now = self.store.clock.now()
        told = Notification(
            id=self.ids.new(),
            key=f"test:{self.ids.new()}",
            channel=name,
            kind="test",
            severity=Severity.LOW,
            title="Test message",
            facts=(("Channel", name), ("Meaning", "prunella can reach you here; nothing is wrong")),
            incident_id=None,
            link=link,
            next_at=None,
            created_at=now,
        )
        try:
            remark = await (await self.channel(name)).send(told, caller=self.caller)
        except Undelivered as error:
            async with self.store.transaction() as tx:
                await tx.channels.failed(name, now, error.reason)
            raise
        async with self.store.transaction() as tx:
            await tx.channels.succeeded(name, now)
        return remark

    async def _send(self, name: str, batch: Sequence[Notification]) -> bool:
        """Try one message (or one digest); False when the channel does not take more for now."""
        try:
            channel = await self.channel(name)
            remark = await channel.send(batch[0] if len(batch) == 1 else digest(batch), caller=self.caller)
        except Undelivered as error:
            await self._failed(name, batch, error)
            return False
        now = self.store.clock.now()
        tried = {"at": now.isoformat(), "outcome": "sent", **({"remark": remark} if remark else {})}
        async with self.store.transaction() as tx:
            ids = [one.id for one in batch]
            await tx.outbox.settle(ids, "sent", next_at=None, error=remark, sent_at=now, tried=tried)
            await tx.channels.succeeded(name, now)
        self.listeners.emit("notification.sent", channel=name, kind=batch[0].kind, count=len(batch))
        return True

    async def _failed(self, name: str, batch: Sequence[Notification], error: Undelivered) -> None:
        """Write what went wrong, and try again later, or have another channel stand in."""
        tries = max(one.attempts for one in batch)
        gravest = max((one.severity for one in batch), key=_RANK.index)
        wait_s = max(_WAITS_S[min(tries, len(_WAITS_S)) - 1], error.retry_after_s or 0.0)
        now = self.store.clock.now()
        later = self.after(gravest, now + timedelta(seconds=wait_s))
        stand_in = self.fallback(name, gravest)
        async with self.store.transaction() as tx:
            since = await tx.channels.failed(name, now, error.reason)
            enough = error.permanent or tries >= _STAND_IN_TRIES or now - since >= _STAND_IN_AFTER
            moves = stand_in is not None and enough
            dead = error.permanent or tries >= _TRIES_MAX or moves
            reason = f"{error.reason}; {stand_in} stands in" if moves else error.reason
            tried = {
                "at": now.isoformat(),
                "outcome": "dead" if dead else "failed",
                "reason": reason,
                "wait_s": None if dead else round((later - now).total_seconds(), 3),
            }
            next_at = None if dead else later
            ids = [one.id for one in batch]
            state = "dead" if dead else "waiting"
            await tx.outbox.settle(ids, state, next_at=next_at, error=reason, sent_at=None, tried=tried)
            await tx.outbox.postpone(name, now if dead else later)
            if moves and stand_in is not None:
                await tx.outbox.add([self._moved(one, stand_in, error, now) for one in batch])
                await self.runner.submit("deliver", stand_in, tx=tx)
        self.listeners.emit("notification.failed", channel=name, reason=reason, dead=dead)

    def _moved(self, one: Notification, stand_in: str, error: Undelivered, now: datetime) -> Notification:
        """Return a message as it goes through the channel that stands in; it says so itself."""
        why = f"{stand_in}, because {one.channel} does not work ({error.reason})"
        return replace(
            one,
            id=self.ids.new(),
            channel=stand_in,
            facts=(*one.facts, ("Sent Through", why)),
            state="waiting",
            attempts=0,
            next_at=now,
            last_error=None,
            tries=(),
            escalates_at=None,
        )


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
