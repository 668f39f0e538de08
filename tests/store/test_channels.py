"""How channels do stays with them; an answer from a chat is heard once."""

from __future__ import annotations

import pytest

from prunella.store.contract import Store
from store.making import NOW, at, notification

pytestmark = pytest.mark.anyio


async def test_channel_fails_since_the_first_of_its_failures(store: Store) -> None:
    """Failures in a row are counted from the first; a success ends them and keeps the last error to read."""
    async with store.transaction() as tx:
        assert await tx.channels.failed("ops", NOW, "down") == NOW
        assert await tx.channels.failed("ops", at(5), "still down") == NOW
        assert (await tx.channels.all())["ops"] == {
            "name": "ops",
            "succeeded_at": None,
            "failed_at": at(5),
            "failing_since": NOW,
            "failures": 2,
            "last_error": "still down",
            "silent_until": None,
        }
        await tx.channels.succeeded("ops", at(9))
        row = (await tx.channels.all())["ops"]
        assert (row["succeeded_at"], row["failing_since"], row["failures"]) == (at(9), None, 0)
        assert (row["failed_at"], row["last_error"]) == (at(5), "still down")
        assert await tx.channels.failed("ops", at(20), "again") == at(20)
        await tx.channels.succeeded("chat", NOW)
        assert set(await tx.channels.all()) == {"chat", "ops"}


async def test_answer_is_heard_once(store: Store) -> None:
    """The same one is not heard again until it is forgotten."""
    async with store.transaction() as tx:
        assert await tx.channels.hear("d", NOW, at(-900))
        assert not await tx.channels.hear("d", at(1), at(-900))
        assert await tx.channels.hear("e", at(1), at(-900))
        assert await tx.channels.hear("d", at(2000), at(1000))


async def test_tries_are_kept_in_their_order(store: Store) -> None:
    """Each settling adds one, whatever text it holds."""
    async with store.transaction() as tx:
        await tx.outbox.add([notification()])
        ids = [one.id for one in await tx.outbox.list(most=5)]
        for number, words in enumerate(('it\'s "down"', "€ 'x' $[0]")):
            tried = {"outcome": "failed", "reason": words, "wait_s": 1.5 * number}
            await tx.outbox.settle(ids, "waiting", next_at=NOW, error=words, sent_at=None, tried=tried)
        (row,) = await tx.outbox.list(most=5)
    assert [dict(one) for one in row.tries] == [
        {"outcome": "failed", "reason": 'it\'s "down"', "wait_s": 0.0},
        {"outcome": "failed", "reason": "€ 'x' $[0]", "wait_s": 1.5},
    ]


async def test_tier_is_climbed_once_and_never_after_an_answer(store: Store) -> None:
    """A compare-and-set on the tier; what was acknowledged, or stays, waits for nobody."""
    async with store.transaction() as tx:
        await tx.outbox.add([notification(escalates_at=at(60))])
        (row,) = await tx.outbox.list(most=5)
        assert [one["escalates_at"] for one in await tx.outbox.to_climb()] == [at(60)]
        assert await tx.outbox.climb(row.id, 0, at(90))
        assert not await tx.outbox.climb(row.id, 0, at(90))
        assert await tx.outbox.acknowledge(row.id, "ada", NOW)
        assert not await tx.outbox.climb(row.id, 1, None)
        assert await tx.outbox.to_climb() == []
        await tx.outbox.stay(row.id)
        found = await tx.outbox.get(row.id)
        assert found is not None
        assert (found.tier, found.escalates_at) == (1, None)


async def test_only_what_is_over_is_sent_once_more(store: Store) -> None:
    """Sent and dead rows go back in line with fresh tries; one that waits is left alone."""
    async with store.transaction() as tx:
        await tx.outbox.add([notification(id="a", key="a"), notification(id="b", key="b")])
        await tx.outbox.settle(["a"], "sent", next_at=None, error=None, sent_at=NOW)
        assert await tx.outbox.again(["a", "b"], at(5)) == ["a"]
        found = await tx.outbox.get("a")
        assert found is not None
        assert (found.state, found.attempts, found.next_at, found.sent_at) == ("waiting", 0, at(5), None)
