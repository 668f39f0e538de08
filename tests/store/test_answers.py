"""A key has one owner at a time, on both databases; what it answered is kept until its day is over."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from prunella.store.contract import Store
from store.making import at

pytestmark = pytest.mark.anyio

_STRAY, _DAY = timedelta(minutes=1), timedelta(days=1)


async def begin(store: Store, now: datetime, key: str = "one", caller: str = "ADMIN ada", request: str = "a") -> bool:
    async with store.transaction() as tx:
        return await tx.answers.begin(caller, key, request, now, stray=now - _STRAY, over=now - _DAY)


async def test_key_has_one_owner(store: Store) -> None:
    """Whoever else takes it at the same moment does not get it; another caller, and another key, are free."""
    taken = await asyncio.gather(*(begin(store, at(0)) for _ in range(8)))
    assert sorted(taken) == [False] * 7 + [True]
    assert await begin(store, at(0), caller="ADMIN bob")
    assert await begin(store, at(0), key="two")


async def test_answer_is_kept_and_read(store: Store) -> None:
    """What was answered stands with the request that it answered, byte by byte."""
    await begin(store, at(0))
    async with store.transaction() as tx:
        await tx.answers.end("ADMIN ada", "one", at(0), 201, b"\x00\xff{}", at(1))
    async with store.transaction() as tx:
        row = await tx.answers.get("ADMIN ada", "one")
        assert await tx.answers.get("ADMIN ada", "two") is None
    assert row is not None
    assert (row["request"], row["status"], row["body"], row["begun_at"]) == ("a", 201, b"\x00\xff{}", at(0))
    assert not await begin(store, at(0) + timedelta(hours=23))
    assert await begin(store, at(0) + timedelta(hours=25), request="b")


async def test_key_of_the_dead_is_taken_over(store: Store) -> None:
    """A request without an answer holds its key for a minute; one that was dropped holds nothing."""
    await begin(store, at(0))
    assert not await begin(store, at(0) + timedelta(seconds=59))
    assert await begin(store, at(0) + timedelta(seconds=61), request="b")
    async with store.transaction() as tx:
        await tx.answers.drop("ADMIN ada", "one", at(0) + timedelta(seconds=61))
    assert await begin(store, at(0) + timedelta(seconds=62))


async def test_who_was_taken_for_dead_answers_nothing_any_more(store: Store) -> None:
    """Its answer would stand under the request of whoever has the key by now."""
    await begin(store, at(0))
    taken_over = at(0) + timedelta(seconds=61)
    assert await begin(store, taken_over, request="b")
    async with store.transaction() as tx:
        await tx.answers.end("ADMIN ada", "one", at(0), 200, b"of a", taken_over)
        await tx.answers.drop("ADMIN ada", "one", at(0))
        row = await tx.answers.get("ADMIN ada", "one")
    assert row is not None
    assert (row["request"], row["status"], row["body"]) == ("b", None, None)


async def test_old_answers_are_forgotten(store: Store) -> None:
    """Those that began before are deleted, whether they were answered or not; the rest stays."""
    await begin(store, at(0))
    await begin(store, at(0) + timedelta(hours=2), key="two")
    async with store.transaction() as tx:
        assert await tx.answers.forget(at(0) + timedelta(hours=1)) == 1
        assert await tx.answers.get("ADMIN ada", "two") is not None
