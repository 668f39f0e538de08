"""Deliver what the outbox holds, channel by channel, in order; a restart goes on where it stood.

A receiver's Retry-After silences the whole channel; one message that it will not take holds up no other. What has piled
up goes out as one digest: nobody reads a flood.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from prunella.core.clock import Ids
from prunella.core.errors import StoreError, Undelivered
from prunella.core.events import Listeners
from prunella.core.records import Notification, Severity
from prunella.egress import Caller
from prunella.notify.contract import Channel
from prunella.runner.contract import Runner
from prunella.store.contract import Store, Transaction

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
_REST_MAX_S = 30.0  # what is new is not held back for longer by what failed before it
_MISSES_MAX = 2  # one failure may be the message's own, two in a row are the channel's
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
            until = await _rests_until(tx, name, now)
            if until is not None:
                await tx.outbox.postpone(name, until)
            due = await tx.outbox.claim(name, now, now + _CLAIM, _CLAIM_MAX)
        misses = 0
        for batch in batches(due):
            misses = 0 if await self._send(name, batch) else misses + 1
            if misses and await self._takes_no_more(name, misses):
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
        """Try one message (or one digest), and write what came of it."""
        try:
            channel = await self.channel(name)
            remark = await channel.send(batch[0] if len(batch) == 1 else digest(batch), caller=self.caller)
        except Undelivered as error:
            if not error.left or batch[0].attempts < _TRIES_MAX:
                await self._failed(name, batch, error)
                return bool(error.left)
            remark = error.reason  # the others have it
        except StoreError:
            raise
        except Exception as error:  # a message that can't even be written must not come back for ever
            self.listeners.emit("engine.failed", handler="deliver", error=type(error).__name__)
            fault = Undelivered(f"{name}: a fault of prunella's own ({type(error).__name__})")
            await self._failed(name, batch, fault)
            return False
        now = self.store.clock.now()
        tried = {"at": now.isoformat(), "outcome": "sent", **({"remark": remark} if remark else {})}
        async with self.store.transaction() as tx:
            ids = [one.id for one in batch]
            await tx.outbox.settle(ids, "sent", next_at=None, error=remark, sent_at=now, tried=tried)
            await tx.channels.succeeded(name, now)
            await self.runner.gets_on("deliver", name, tx=tx)
        self.listeners.emit("notification.sent", channel=name, kind=batch[0].kind, count=len(batch))
        return True

    async def _takes_no_more(self, name: str, misses: int) -> bool:
        """Put what was taken back in line where the receiver wants silence, or nothing arrives."""
        now = self.store.clock.now()
        async with self.store.transaction() as tx:
            row = await tx.channels.of(name)
            asked = row is not None and row["silent_until"] is not None and row["silent_until"] > now
            if not asked and misses < _MISSES_MAX:
                return False
            await tx.outbox.postpone(name, await _rests_until(tx, name, now) or now)
        return True

    async def _failed(self, name: str, batch: Sequence[Notification], error: Undelivered) -> None:
        """Write what went wrong, and try again later, or have another channel stand in."""
        tries = max(one.attempts for one in batch)
        gravest = max((one.severity for one in batch), key=_RANK.index)
        wait_s = max(_WAITS_S[min(tries, len(_WAITS_S)) - 1], error.retry_after_s or 0.0)
        now = self.store.clock.now()
        later = self.after(gravest, now + timedelta(seconds=wait_s))
        silent_until = None if error.retry_after_s is None else now + timedelta(seconds=error.retry_after_s)
        stand_in = self.fallback(name, gravest)
        gives_up = error.permanent or tries >= _TRIES_MAX
        async with self.store.transaction() as tx:
            if error.left:
                await tx.channels.succeeded(name, since := now)
            else:
                since = await tx.channels.failed(name, now, error.reason, silent_until)
            enough = gives_up or tries >= _STAND_IN_TRIES or now - since >= _STAND_IN_AFTER
            moved = await self._move(tx, batch, stand_in, error, now) if stand_in is not None and enough else []
            stays = [one for one in batch if one not in moved]
            await _settle(tx, moved, f"{error.reason}; {stand_in} stands in", error, now, None)
            await _settle(tx, stays, error.reason, error, now, None if gives_up else later)
        dead = gives_up or not stays
        self.listeners.emit("notification.failed", channel=name, reason=error.reason, dead=dead)

    async def _move(
        self, tx: Transaction, batch: Sequence[Notification], stand_in: str, error: Undelivered, now: datetime
    ) -> list[Notification]:
        """Send what failed through another channel; return what it had not been told yet, and hears now."""
        rows = {one.id: self._moved(one, stand_in, error, now) for one in batch}
        fresh = set(await tx.outbox.add(list(rows.values())))
        if fresh:
            await self.runner.submit("deliver", stand_in, tx=tx)
        return [one for one in batch if rows[one.id].id in fresh]

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


async def _rests_until(tx: Transaction, name: str, now: datetime) -> datetime | None:
    """Return until when nothing is sent: silence was asked for, nothing arrived lately, or there was a flood."""
    row = await tx.channels.of(name)
    if row is not None:
        retry = await tx.outbox.next_retry(name, now) if row["failing_since"] is not None else None
        rested = None if retry is None else min(retry, row["failed_at"] + timedelta(seconds=_REST_MAX_S))
        until = max((one for one in (row["silent_until"], rested) if one is not None), default=now)
        if until > now:
            return until
    count, first = await tx.outbox.sent_since(name, now - _FLOOD_WINDOW)
    return first + _FLOOD_WINDOW if count >= _FLOOD_MESSAGES and first is not None else None


async def _settle(
    tx: Transaction,
    rows: Sequence[Notification],
    reason: str,
    error: Undelivered,
    now: datetime,
    later: datetime | None,
) -> None:
    """Write a try in vain; without a time for the next one it was the last."""
    tried = {
        "at": now.isoformat(),
        "outcome": "dead" if later is None else "failed",
        "reason": reason,
        "wait_s": None if later is None else round((later - now).total_seconds(), 3),
        **({"left": list(error.left)} if error.left else {}),
    }
    ids, state = [one.id for one in rows], "dead" if later is None else "waiting"
    await tx.outbox.settle(ids, state, next_at=later, error=reason, sent_at=None, tried=tried)


def batches(due: Sequence[Notification]) -> list[list[Notification]]:
    """Send a few messages singly; more than that: the first of the gravest as it is, the rest as one digest."""
    if len(due) <= _SINGLY_MAX:
        return [[one] for one in due]
    shown = max(due, key=lambda one: _RANK.index(one.severity))
    return [[shown], [one for one in due if one is not shown]]


def digest(batch: Sequence[Notification]) -> Notification:
    """Fold several messages into one that counts them by title and service; the same ones make the same id."""
    counts = Counter((one.title, dict(one.facts).get("Service", "")) for one in batch)
    facts = tuple(
        (f"{title} ({service})" if service else title, str(count)) for (title, service), count in counts.items()
    )
    left = {tuple(one.tries[-1].get("left", ())) if one.tries else () for one in batch}
    return replace(
        batch[0],
        id=f"digest-{hashlib.sha256(' '.join(one.id for one in batch).encode()).hexdigest()[:32]}",
        kind="digest",
        title=f"{len(batch)} messages",
        severity=max((one.severity for one in batch), key=_RANK.index),
        facts=facts,
        tries=batch[0].tries if len(left) == 1 else (),  # of several that others have heard, all hear the digest
        incident_id=None,
        link=None,
    )
