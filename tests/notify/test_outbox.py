"""The outbox's promises, on the real store under virtual time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from prunella.core.clock import Ids, Rng
from prunella.core.errors import Undelivered
from prunella.core.events import Listeners
from prunella.core.records import Notification, Severity
from prunella.egress import Caller, Egress
from prunella.notify.outbox import Delivery, batches, digest
from prunella.runner.local import LocalRunner
from prunella.store import migrations
from prunella.store.sqlite import SqliteStore
from prunella.testing import LoopClock, run_virtual

_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Chat:
    """A channel that keeps what it gets and fails as it is told."""

    name: str = "ops"
    failures: list[Undelivered] = field(default_factory=list)
    got: list[Notification] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    clock: LoopClock = field(default_factory=LoopClock)
    refuses: Callable[[Notification, float], Exception | None] = lambda _, __: None
    tried: int = 0

    remark: str | None = None

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Take it, or raise what is due."""
        self.tried += 1
        if self.failures:
            raise self.failures.pop(0)
        if (error := self.refuses(notification, self.clock.monotonic())) is not None:
            raise error
        self.got.append(notification)
        self.at_s.append(self.clock.monotonic())
        return self.remark


@dataclass
class Post:
    """An outbox with its runner."""

    store: SqliteStore
    runner: LocalRunner
    chat: Chat
    ids: Ids

    async def put(self, count: int, *, after_s: float = 0.0, severity: Severity = Severity.MEDIUM) -> list[str]:
        """Queue messages, and return their ids."""
        now = self.store.clock.now()
        rows = [
            Notification(
                id=self.ids.new(),
                key=self.ids.new(),
                channel="ops",
                kind="detected",
                severity=severity,
                title="Integration Failure Detected",
                facts=(("Service", "crm"),),
                incident_id=None,
                link=None,
                next_at=now + timedelta(seconds=after_s),
                created_at=now,
            )
            for _ in range(count)
        ]
        async with self.store.transaction() as tx:
            await tx.outbox.add(rows)
            await self.runner.submit("deliver", "ops", at=rows[0].next_at, tx=tx)
        return [row.id for row in rows]

    async def rows(self, channel: str = "ops") -> list[Notification]:
        """Return the rows of a channel, oldest first."""
        async with self.store.transaction() as tx:
            return (await tx.outbox.list(most=1000, channel=channel))[::-1]

    async def health(self) -> dict[str, dict[str, Any]]:
        """Return how channels do."""
        async with self.store.transaction() as tx:
            return await tx.channels.all()

    async def states(self) -> dict[str, int]:
        """Count messages by state."""
        async with self.store.transaction() as tx:
            rows = await tx.outbox.list(most=1000)
        return {state: sum(row.state == state for row in rows) for state in {row.state for row in rows}}


def play(
    tmp_path: Path,
    story: Callable[[Post], Awaitable[None]],
    *failures: Undelivered,
    other: Chat | None = None,
    after: Callable[[Severity, datetime], datetime] = lambda _, moment: moment,
    refuses: Callable[[Notification, float], Exception | None] = lambda _, __: None,
) -> Chat:
    """Run a story over a fresh outbox; return what the chat got.

    Args:
        other: another channel, `mail`, that stands in for the first, and the first for it.
        refuses: says by message and time what is not taken.
    """
    path = tmp_path / "p.db"
    migrations.upgrade(f"sqlite:///{path}")
    database = sqlite3.connect(path, isolation_level=None)

    async def run() -> Chat:
        clock = LoopClock()
        chat = Chat(failures=list(failures), clock=clock, refuses=refuses)
        store, listeners = SqliteStore(database, clock), Listeners()
        runner = LocalRunner(clock, listeners)

        async def channel(name: str) -> Chat:
            return other if other is not None and name == "mail" else chat

        def fallback(name: str, severity: Severity) -> str | None:
            return {"ops": "mail", "mail": "ops"}[name] if other is not None else None

        if other is not None:
            other.clock = clock
        delivery = Delivery(store, runner, Egress(), channel, listeners, Ids(clock, Rng(2)), fallback, after)
        runner.handle("deliver", delivery.deliver)
        post = Post(store, runner, chat, Ids(clock, Rng(1)))
        work = asyncio.create_task(runner.run())
        await story(post)
        await runner.stop()
        await work
        return chat

    try:
        return run_virtual(run())
    finally:
        database.close()


async def _later(post: Post, seconds: float) -> None:
    await post.store.clock.sleep(seconds)


def test_few_messages_go_out_singly_and_in_order(tmp_path: Path) -> None:
    """Given three messages, three arrive, oldest first."""

    async def story(post: Post) -> None:
        await post.put(3)
        await _later(post, 1)
        assert await post.states() == {"sent": 3}

    chat = play(tmp_path, story)
    assert [one.id for one in chat.got] == sorted(one.id for one in chat.got)


def test_pile_goes_out_as_first_and_digest(tmp_path: Path) -> None:
    """Given 300 messages at once: the first as it is, one digest that counts the rest."""

    async def story(post: Post) -> None:
        await post.put(300)
        await _later(post, 1)

    chat = play(tmp_path, story)
    assert [one.kind for one in chat.got] == ["detected", "digest"]
    assert dict(chat.got[1].facts) == {"Integration Failure Detected (crm)": "299"}


def test_flood_over_time_ends_in_a_digest(tmp_path: Path) -> None:
    """Given one message a second for 50 s: twenty go out singly, the rest as digests, at most one per window."""

    async def story(post: Post) -> None:
        for _ in range(50):
            await post.put(1)
            await _later(post, 1)
        await _later(post, 120)
        assert await post.states() == {"sent": 50}

    chat = play(tmp_path, story)
    assert len(chat.got) <= 23
    assert [one.kind for one in chat.got[:20]] == ["detected"] * 20


def test_retry_after_silences_the_whole_channel(tmp_path: Path) -> None:
    """Given a receiver that asks for 30 s of silence, nothing is sent before, and everything afterwards, once."""

    async def story(post: Post) -> None:
        await post.put(2)
        await _later(post, 5)
        await post.put(1)
        await _later(post, 60)
        assert await post.states() == {"sent": 3}

    chat = play(tmp_path, story, Undelivered("429", retry_after_s=30.0))
    assert min(chat.at_s) >= 30.0
    assert len({one.id for one in chat.got}) == len(chat.got)


def test_dead_address_takes_no_further_tries(tmp_path: Path) -> None:
    """Given a receiver that is gone, the message is kept as dead with its reason; the next one is still tried."""

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 1)
        assert await post.states() == {"dead": 1}
        await post.put(1)
        await _later(post, 1)
        assert await post.states() == {"dead": 1, "sent": 1}

    assert len(play(tmp_path, story, Undelivered("404", permanent=True)).got) == 1


def test_unreachable_receiver_is_tried_again_with_growing_waits(tmp_path: Path) -> None:
    """Given four failures, the fifth try delivers; none is lost."""

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 3600)
        assert await post.states() == {"sent": 1}

    chat = play(tmp_path, story, *[Undelivered("down") for _ in range(4)])
    assert 1 + 5 + 30 + 120 <= chat.at_s[0] <= 1 + 5 + 30 + 120 + 5


def test_every_try_is_kept_with_what_came_of_it(tmp_path: Path) -> None:
    """Two failures and a success: when each was, what was said, how long the wait is; a remark stays with it."""

    async def story(post: Post) -> None:
        post.chat.remark = "1 of 2 recipients"
        await post.put(1)
        await _later(post, 60)
        (row,) = await post.rows()
        assert [(one["outcome"], one.get("reason"), one.get("wait_s")) for one in row.tries] == [
            ("failed", "down", 1.0),
            ("failed", "busy", 20.0),
            ("sent", None, None),
        ]
        moments = [datetime.fromisoformat(one["at"]) for one in row.tries]
        assert [round((after - before).total_seconds()) for before, after in pairwise(moments)] == [1, 20]
        assert (row.state, row.last_error, row.tries[-1]["remark"]) == (
            "sent",
            "1 of 2 recipients",
            "1 of 2 recipients",
        )

    play(tmp_path, story, Undelivered("down"), Undelivered("busy", retry_after_s=20.0))


def test_health_of_a_channel_is_known(tmp_path: Path) -> None:
    """Failing since the first of the failures in a row, and no longer once something arrives."""

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 4)
        ill = (await post.health())["ops"]
        assert (ill["failures"], ill["last_error"], ill["succeeded_at"]) == (2, "still down", None)
        assert ill["failing_since"] < ill["failed_at"]
        await _later(post, 60)
        well = (await post.health())["ops"]
        assert (well["failures"], well["failing_since"], well["last_error"]) == (0, None, "still down")
        assert well["succeeded_at"] > ill["failed_at"]

    play(tmp_path, story, Undelivered("down"), Undelivered("still down"))


def test_other_channel_stands_in_and_says_so(tmp_path: Path) -> None:
    """Three tries in vain: the message goes through the other channel, once, and the first one is asked no more."""
    mail = Chat("mail")

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 3600)
        (row,) = await post.rows()
        assert (row.state, row.last_error) == ("dead", "down; mail stands in")
        assert len(row.tries) == 3

    chat = play(tmp_path, story, *[Undelivered("down") for _ in range(9)], other=mail)
    (got,) = mail.got
    assert got.facts[-1] == ("Sent Through", "mail, because ops does not work (down)")
    assert 6 <= mail.at_s[0] <= 8
    assert chat.got == []


def test_other_channel_stands_in_at_once_where_hope_is_gone(tmp_path: Path) -> None:
    """A dead address waits for no second try, and what comes while a channel is known to fail for no third."""
    mail = Chat("mail")

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 1)
        assert len(mail.got) == 1
        await _later(post, 60)
        await post.put(1)
        await _later(post, 1)
        assert len(mail.got) == 2
        assert await post.states() == {"dead": 2, "sent": 2}

    play(tmp_path, story, Undelivered("gone", permanent=True), Undelivered("down"), other=mail)


def test_two_channels_that_stand_in_for_each_other_end(tmp_path: Path) -> None:
    """Both are dead: nothing goes round in circles, both rows say what happened."""
    mail = Chat("mail", [Undelivered("mail is gone", permanent=True)])

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 3600)
        assert await post.states() == {"dead": 2}

    play(tmp_path, story, Undelivered("gone", permanent=True), other=mail)


def test_try_after_a_failure_keeps_quiet_hours(tmp_path: Path) -> None:
    """A failed message is not tried again in the middle of the night."""

    async def story(post: Post) -> None:
        await post.put(1)
        await _later(post, 4000)

    chat = play(tmp_path, story, Undelivered("down"), after=lambda _, moment: moment + timedelta(seconds=600))
    assert 601 <= chat.at_s[0] <= 602


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [1, 1, 1]), (4, [1, 3]), (50, [1, 49])])
def test_batches_keep_every_message(count: int, sizes: list[int]) -> None:
    """Given any number of messages, each is in exactly one batch."""
    one = partial(
        Notification,
        key="k",
        channel="ops",
        kind="detected",
        severity=Severity.LOW,
        title="t",
        facts=(),
        incident_id=None,
        link=None,
        next_at=None,
        created_at=_MOMENT,
    )
    assert [len(batch) for batch in batches([one(id=str(n)) for n in range(count)])] == sizes


def test_digest_carries_the_highest_severity() -> None:
    """Given LOW and CRITICAL in one digest, it is CRITICAL."""
    rows = [
        Notification(
            id=s,
            key=s,
            channel="ops",
            kind="detected",
            severity=Severity(s),
            title="t",
            facts=(),
            incident_id="i",
            link=None,
            next_at=None,
            created_at=_MOMENT,
        )
        for s in ("LOW", "CRITICAL", "HIGH")
    ]
    assert digest(rows).severity is Severity.CRITICAL
