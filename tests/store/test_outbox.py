"""A notification goes out once per channel, in order, and comes back when its sender died."""

from __future__ import annotations

from datetime import datetime

import pytest

from prunella.core.records import Notification
from prunella.store.contract import Store
from store.making import LEASE, NOW, Outside, at, at_once, notification

pytestmark = pytest.mark.anyio


async def add(store: Store, *notifications: Notification) -> list[str]:
    async with store.transaction() as tx:
        return await tx.outbox.add(notifications)


async def claim(store: Store, now: datetime = NOW, most: int = 10, channel: str = "ops") -> list[str]:
    async with store.transaction() as tx:
        return [one.id for one in await tx.outbox.claim(channel, now, now + LEASE, most)]


async def settle(store: Store, state: str, next_at: datetime | None = None, number: int = 1) -> None:
    async with store.transaction() as tx:
        await tx.outbox.settle(
            [f"notification-{number}"],
            state,
            next_at=next_at,
            error=None if state == "sent" else "HTTP 500",
            sent_at=NOW if state == "sent" else None,
        )


async def get(store: Store) -> Notification:
    async with store.transaction() as tx:
        (found,) = await tx.outbox.list(most=1, id="notification-1")
    return found


async def test_notification_is_queued_once_per_key_and_channel(store: Store, outside: Outside) -> None:
    """The same notice again, at the same moment and in any order, is left out; on another channel it is another."""

    def both(sender: int) -> list[Notification]:
        told = [notification(f"{notice} from {sender}", key=f"incident-1/{notice}") for notice in ("lost", "found")]
        return told if sender % 2 else told[::-1]

    new = await at_once(add(store, *both(sender)) for sender in range(20))
    assert sorted(one.split()[0] for ids in new for one in ids) == ["notification-found", "notification-lost"]
    assert await add(store, notification("1c", key="incident-1/lost", channel="chat")) == ["notification-1c"]
    assert outside("SELECT count(*) FROM notifications") == [(3,)]


async def test_claim_hands_out_each_notification_once(store: Store) -> None:
    """Of twenty senders each gets what no other has, and everything that is due is handed out."""
    await add(store, *(notification(number) for number in range(10)))
    handed = await at_once(claim(store, most=3) for _ in range(20))
    ids = [one for batch in handed for one in batch]
    assert len(ids) == len(set(ids))
    assert sorted([*ids, *await claim(store)]) == [f"notification-{number}" for number in range(10)]
    assert ((await get(store)).state, (await get(store)).attempts) == ("sending", 1)


async def test_claim_keeps_the_order_and_the_limit(store: Store) -> None:
    """The oldest first, at most as many as asked, of that channel, and only what is due."""
    await add(
        store,
        notification(1, created_at=at(2)),
        notification(2, created_at=at(1)),
        notification(3, created_at=at(2)),
        notification(4, created_at=at(0), next_at=at(1)),
        notification(5, channel="chat"),
        notification(6, state="dead"),
    )
    assert await claim(store, most=2) == ["notification-2", "notification-1"]
    assert await claim(store) == ["notification-3"]
    assert await claim(store, channel="nowhere") == []


async def test_claim_of_a_dead_sender_comes_back(store: Store) -> None:
    """What was taken and never settled is handed out again when the lease ends, and counts as another attempt."""
    await add(store, notification())
    assert await claim(store)
    assert await claim(store, at(19)) == []
    assert await claim(store, NOW + LEASE) == ["notification-1"]
    assert (await get(store)).attempts == 2


@pytest.mark.parametrize("state", ["sent", "dead"])
async def test_settled_notification_is_not_handed_out_again(store: Store, state: str) -> None:
    """Sent or given up, it stays so."""
    await add(store, notification())
    await claim(store)
    await settle(store, state)
    assert await claim(store, at(10**6)) == []
    found = await get(store)
    assert (found.state, found.sent_at, found.last_error) == (
        (state, NOW, None) if state == "sent" else (state, None, "HTTP 500")
    )


async def test_settled_for_later_is_due_then(store: Store) -> None:
    """A failed try comes back at its time."""
    await add(store, notification())
    await claim(store)
    await settle(store, "waiting", at(60))
    assert await claim(store, at(59)) == []
    assert await claim(store, at(60)) == ["notification-1"]


async def test_sent_is_final(store: Store) -> None:
    """A sender whose lease had ended, and whose try failed, does not take back what another one sent meanwhile."""
    await add(store, notification())
    await claim(store)
    await claim(store, NOW + LEASE)
    await settle(store, "sent")
    await settle(store, "waiting", at(60))
    assert (await get(store)).state == "sent"
    assert await claim(store, at(10**6)) == []


async def test_postpone_silences_a_channel(store: Store) -> None:
    """Everything of that channel waits, what was taken as well; what is due later keeps its time."""
    await add(
        store,
        notification(1),
        notification(2),
        notification(3, next_at=at(99)),
        notification(4, channel="chat"),
        notification(5, state="sent"),
    )
    await claim(store, most=1)
    async with store.transaction() as tx:
        await tx.outbox.postpone("ops", at(60))
        waiting = {row["channel"]: row["next_at"] for row in await tx.outbox.waiting()}
    assert waiting == {"ops": at(60), "chat": NOW}
    assert await claim(store, at(59)) == []
    assert await claim(store, at(98)) == ["notification-1", "notification-2"]
    assert await claim(store, at(99)) == ["notification-3"]


async def test_list_returns_the_newest_first(store: Store) -> None:
    """At most as many as asked, equal in the given columns."""
    await add(store, notification(1), notification(2, created_at=at(1)), notification(3, channel="chat"))
    async with store.transaction() as tx:
        assert [one.id for one in await tx.outbox.list(most=2)] == ["notification-2", "notification-3"]
        assert [one.id for one in await tx.outbox.list(most=9, channel="ops", state="waiting")] == [
            "notification-2",
            "notification-1",
        ]


async def test_sent_since_counts_messages_not_rows(store: Store) -> None:
    """What went out together, as a digest, counts once; only that channel and that time."""
    await add(store, *(notification(number) for number in range(1, 6)), notification(9, channel="chat"))
    moments = {1: at(-60), 2: at(-9), 3: at(-9), 4: at(-1), 9: at(-1)}
    async with store.transaction() as tx:
        assert await tx.outbox.sent_since("ops", at(-60)) == (0, None)
        for number, moment in moments.items():
            await tx.outbox.settle([f"notification-{number}"], "sent", next_at=None, error=None, sent_at=moment)
        assert await tx.outbox.sent_since("ops", at(-60)) == (2, at(-9))
        assert await tx.outbox.sent_since("chat", at(-60)) == (1, at(-1))


async def test_next_retry_is_that_of_what_failed(store: Store) -> None:
    """When the first message that failed is due again; new messages do not count."""
    await add(store, notification(1), notification(2, next_at=at(5)))
    async with store.transaction() as tx:
        assert await tx.outbox.next_retry("ops", NOW) is None
    await claim(store)
    await settle(store, "waiting", at(60))
    async with store.transaction() as tx:
        assert await tx.outbox.next_retry("ops", NOW) == at(60)
        assert await tx.outbox.next_retry("chat", NOW) is None
        assert await tx.outbox.next_retry("ops", at(60)) is None


async def test_release_all_puts_what_is_being_sent_back_in_line(store: Store) -> None:
    """After the other processes died what they had taken is due now; what was settled stays settled."""
    await add(store, notification(1), notification(2), notification(3, next_at=at(99)))
    await claim(store)
    await settle(store, "sent", number=2)
    async with store.transaction() as tx:
        assert await tx.outbox.release_all(at(1)) == 1
    assert await claim(store, at(1)) == ["notification-1"]
