"""A transaction pooler is recognised by what it does, and prunella works behind it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pooler import PGBOUNCER, bouncing, pooling
from prunella.core.errors import StoreUnavailable
from prunella.guard.database import Database
from prunella.store import migrations, postgres
from prunella.store.pooling import is_pooled
from prunella.store.postgres import PostgresStore
from store.making import at_once, entry

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["ours", "pgbouncer"] if PGBOUNCER else ["ours"])
def pooled_url(request: pytest.FixtureRequest, migrated_postgres_url: str) -> Iterator[str]:
    """Reach a migrated database through a transaction pooler."""
    before = pooling(migrated_postgres_url) if request.param == "ours" else bouncing(migrated_postgres_url)
    with before as url:
        yield url


async def write(store: PostgresStore, number: object) -> None:
    async with store.transaction() as tx:
        await tx.audit.add([entry(number)])


async def test_pooler_is_recognised(pooled_url: str) -> None:
    """However many sessions it has open already, and whoever used them."""
    assert await is_pooled(pooled_url)
    assert list(await at_once(is_pooled(pooled_url) for _ in range(8))) == [True] * 8


@pytest.mark.parametrize("sessions", [2, 3, 7])
async def test_pooler_is_recognised_whatever_its_size(migrated_postgres_url: str, sessions: int) -> None:
    """With few sessions as well as with many."""
    with pooling(migrated_postgres_url, sessions) as url:
        for _ in range(3):
            assert await is_pooled(url)


async def test_server_itself_is_no_pooler(migrated_postgres_url: str) -> None:
    """The same database without a pooler never looks like one."""
    assert await at_once(is_pooled(migrated_postgres_url) for _ in range(5)) == [False] * 5


async def test_store_works_behind_a_pooler(pooled_url: str) -> None:
    """Many transactions at once over few sessions, the same statements again and again: none is in another's way."""
    stores = [await PostgresStore.open(pooled_url) for _ in range(2)]
    assert all(store.pooled for store in stores)
    await at_once(write(store, f"{place}-{number}") for number in range(60) for place, store in enumerate(stores))
    async with stores[0].transaction() as tx:
        assert len(await tx.audit.list(most=200)) == 120
    for store in stores:
        await store.close()


async def test_pooler_that_hid_is_found_out(pooled_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the start saw none, a statement that is in the way ends one request for each connection, and no more."""

    async def unseen(_: str) -> bool:
        return False

    monkeypatch.setattr(postgres, "is_pooled", unseen)
    stores = [await PostgresStore.open(pooled_url) for _ in range(2)]
    failed = 0
    for number in range(40):
        for place, store in enumerate(stores):
            try:
                await write(store, f"{place}-{number}")
            except StoreUnavailable:
                failed += 1
    assert 1 <= failed <= 8, "the planted mistake must show, once per connection at most"
    assert any(store.pooled for store in stores)
    for store in stores:
        await store.close()


async def test_guards_work_behind_a_pooler(pooled_url: str) -> None:
    """Short transactions of several applications, the same statements again and again."""
    places = [Database(pooled_url) for _ in range(2)]
    for _ in range(12):
        for place in places:
            with place.session() as session:
                assert session.run("SELECT CAST(:number AS int) + 1", {"number": 1}) == [(2,)]
    for place in places:
        place.close()


def test_tables_are_made_through_a_pooler(fresh_postgres_url: str) -> None:
    """Where no other way is named the migrations go through the pooler, again and again, and leave nothing behind."""
    with pooling(fresh_postgres_url, 1) as url:
        migrations.upgrade(url)
        for _ in range(3):
            migrations.check(url)
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.execute(locks).fetchone() == (0,)
