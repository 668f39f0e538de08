"""The promises of a transaction, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from prunella.core.clock import ManualClock
from prunella.core.errors import Conflict, StoreUnavailable
from prunella.store.contract import Store, Transaction, again_on_conflict, insist
from store.making import NOW, Outside, at_once, credential, entry, incident, notification, operation, signal

pytestmark = pytest.mark.anyio


async def write_everything(tx: Transaction) -> None:
    await tx.signals.add([(signal(), None, None)])
    await tx.incidents.open_or_join(incident())
    await tx.operations.add([operation()])
    await tx.gates.take("hubspot", NOW)
    await tx.credentials.put(credential())
    await tx.outbox.add([notification()])
    await tx.procedures.register("patrol")
    await tx.audit.add([entry()])


TABLES = ("signals", "incidents", "operations", "gates", "credentials", "notifications", "procedures", "audit")


def rows(outside: Outside) -> dict[str, int]:
    return {table: outside(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


# Commit and rollback


async def test_transaction_is_durable_when_its_block_ended(store: Store, outside: Outside) -> None:
    """What was written is there for everybody as soon as the block has ended, and not before."""
    async with store.transaction() as tx:
        await write_everything(tx)
        assert rows(outside) == dict.fromkeys(TABLES, 0)
    assert rows(outside) == dict.fromkeys(TABLES, 1)


async def test_transaction_that_raises_leaves_nothing(store: Store, outside: Outside) -> None:
    """When the block raises, its error comes through and no table holds a row of it."""
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as tx:
            await write_everything(tx)
            raise ZeroDivisionError
    assert rows(outside) == dict.fromkeys(TABLES, 0)


async def test_transaction_that_is_cancelled_leaves_nothing(store: Store, outside: Outside) -> None:
    """When the task is cancelled in mid-block, nothing stays, and the next transaction works."""
    written = asyncio.Event()

    async def write_and_wait() -> None:
        async with store.transaction() as tx:
            await write_everything(tx)
            written.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(write_and_wait())
    await written.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert rows(outside) == dict.fromkeys(TABLES, 0)
    async with store.transaction() as tx:
        await write_everything(tx)
    assert rows(outside) == dict.fromkeys(TABLES, 1)


async def test_transaction_leaves_nothing_after_a_failed_statement(store: Store, outside: Outside) -> None:
    """When the database refuses a statement, what the block wrote before it is gone as well."""
    with pytest.raises(Exception, match=r"(?i)unique"):
        async with store.transaction() as tx:
            await write_everything(tx)
            await tx.audit.add([entry()])
    assert rows(outside) == dict.fromkeys(TABLES, 0)


# Actions after the commit


async def test_on_commit_runs_after_the_commit_in_order(store: Store, outside: Outside) -> None:
    """Actions run once each, in their order, when others can already see what was written."""
    seen: list[tuple[str, int]] = []
    async with store.transaction() as tx:
        await tx.audit.add([entry()])
        tx.on_commit(lambda: seen.append(("first", rows(outside)["audit"])))
        tx.on_commit(lambda: seen.append(("second", rows(outside)["audit"])))
        assert seen == []
    assert seen == [("first", 1), ("second", 1)]


async def test_on_commit_does_not_run_without_the_commit(store: Store) -> None:
    """Actions of a transaction that raised, or whose statement was refused, never run."""
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as tx:
            tx.on_commit(lambda: seen.append("raised"))
            raise ZeroDivisionError
    with pytest.raises(Exception, match=r"(?i)unique"):
        async with store.transaction() as tx:
            tx.on_commit(lambda: seen.append("refused"))
            await tx.audit.add([entry(), entry()])
    async with store.transaction() as tx:
        await tx.audit.add([entry()])
    assert seen == []


async def test_revision_is_told_while_the_database_answers(store: Store) -> None:
    """A store that works says so, also while a transaction is open."""
    await store.revision()
    async with store.transaction():
        await store.revision()


async def test_transactions_at_once_all_get_their_turn(store: Store, outside: Outside) -> None:
    """A hundred transactions at the same time all commit."""

    async def write(number: int) -> None:
        async with store.transaction() as tx:
            await tx.audit.add([entry(number)])

    await at_once(write(number) for number in range(100))
    assert rows(outside)["audit"] == 100


# Trying again


async def test_change_is_carried_out_again_five_times_at_most() -> None:
    """A conflict that never ends is told; one that ends is not; other errors come through at once."""
    tried: list[str] = []

    @again_on_conflict
    async def change(what: str, ends_after: int, error: type[Exception] = Conflict) -> str:
        tried.append(what)
        if tried.count(what) <= ends_after:
            raise error(what)
        return what

    assert await change("short", 4) == "short"
    with pytest.raises(Conflict, match="long"):
        await change("long", 5)
    with pytest.raises(StoreUnavailable):
        await change("other", 1, StoreUnavailable)
    assert Counter(tried) == {"short": 5, "long": 5, "other": 1}


async def test_insisting_ends_after_eight_seconds() -> None:
    """What is known nowhere else is tried five times within 7.5 s, then its error is told."""
    clock, tried = ManualClock(NOW), []

    async def write() -> None:
        tried.append(clock.monotonic())
        raise StoreUnavailable("away")

    writing = asyncio.create_task(insist(clock, write))
    with pytest.raises(StoreUnavailable):
        await writing
    assert [moment - tried[0] for moment in tried] == [0.0, 0.5, 1.5, 3.5, 7.5]
