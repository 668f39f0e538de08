"""What only PostgreSQL has to promise: outages are told quickly and survived, its clock counts, secrets stay closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from prunella.core.errors import Conflict, StoreUnavailable
from prunella.store import migrations, postgres
from prunella.store.contract import again_on_conflict, insist
from prunella.store.postgres import PostgresStore
from store.making import Outside, at_once, credential, entry, operation

pytestmark = pytest.mark.anyio

Switch = Callable[[bool], None]


@pytest.fixture
def database_url(migrated_postgres_url: str) -> str:
    """Run every fixture of this file on PostgreSQL alone."""
    return migrated_postgres_url


@pytest.fixture
def server(postgres_url: str) -> Iterator[psycopg.Connection]:
    """Lend an administrator's connection, to a database that no test uses."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def power(server: psycopg.Connection, fresh_postgres_url: str) -> Switch:
    """Return a switch for one database: off ends its connections and lets nobody in."""
    name = make_url(fresh_postgres_url).database
    migrations.upgrade(fresh_postgres_url)

    def switch(on: bool) -> None:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {"true" if on else "false"}'.encode())
        if not on:
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    return switch


@pytest.fixture
async def shaky(anyio_backend: str, power: Switch, fresh_postgres_url: str) -> AsyncIterator[PostgresStore]:
    """Open a store on the database that the switch belongs to."""
    opened = await PostgresStore.open(fresh_postgres_url, connections_max=4)
    yield opened
    await opened.close()


def hurried(store: PostgresStore, wait_s: float = 0.5) -> None:
    """Let requests wait less long from now on; a store that is opened so may wait in vain on a slow machine."""
    store._pool.timeout = store._pool.reconnect_timeout = wait_s


async def write(store: PostgresStore, number: object) -> None:
    async with store.transaction() as tx:
        await tx.audit.add([entry(number)])


# Outages


@pytest.mark.slow
async def test_outage_is_told_quickly(shaky: PostgresStore, power: Switch) -> None:
    """When the database goes away, requests fail within their waiting time, and nothing of the DSN is told."""
    await at_once(write(shaky, number) for number in range(4))
    hurried(shaky)
    power(False)
    began = time.monotonic()
    for number in range(3):
        with pytest.raises(StoreUnavailable, match="nothing of this request was recorded") as told:
            await write(shaky, f"lost-{number}")
        assert "host=" not in str(told.value)
    with pytest.raises(StoreUnavailable):
        await shaky.revision()
    assert time.monotonic() - began < 4


async def test_restart_costs_at_most_what_was_under_way(shaky: PostgresStore, power: Switch) -> None:
    """After a restart one request may fail on its dead connection; the others in the pool are not tried in turn."""
    await at_once(write(shaky, number) for number in range(8))
    power(False)
    power(True)
    failed = 0
    for number in range(8):
        try:
            await write(shaky, f"after-{number}")
        except StoreUnavailable:
            failed += 1
    assert failed <= 1


@pytest.mark.slow
async def test_outage_is_over_when_the_database_is_back(shaky: PostgresStore, power: Switch) -> None:
    """Also after an outage that lasted, the first requests that come when the database is back succeed."""
    hurried(shaky)
    power(False)
    began = time.monotonic()
    while time.monotonic() - began < 3.6:
        with pytest.raises(StoreUnavailable):
            await write(shaky, "lost")
    power(True)
    back = time.monotonic()
    while True:
        try:
            await write(shaky, "kept")
            break
        except StoreUnavailable:
            assert time.monotonic() - back < 1.5
    async with shaky.transaction() as tx:
        assert [one.id for one in await tx.audit.list(most=9)] == ["entry-kept"]


async def test_connection_lost_in_mid_transaction_leaves_nothing(
    shaky: PostgresStore, power: Switch, fresh_postgres_url: str
) -> None:
    """When the connection breaks between two statements, the block ends in StoreUnavailable and nothing stays."""
    ran: list[str] = []
    with pytest.raises(StoreUnavailable):
        async with shaky.transaction() as tx:
            tx.on_commit(lambda: ran.append("action"))
            await tx.audit.add([entry(1)])
            power(False)
            await tx.audit.add([entry(2)])
    power(True)
    with closing(psycopg.connect(fresh_postgres_url)) as connection:
        assert connection.execute("SELECT count(*) FROM prunella.audit").fetchone() == (0,)
    assert ran == []


async def test_connection_lost_before_the_commit_leaves_nothing(shaky: PostgresStore, power: Switch) -> None:
    """When the connection breaks right before the commit, the block says so, and no action runs."""
    ran: list[str] = []
    with pytest.raises(StoreUnavailable):
        async with shaky.transaction() as tx:
            tx.on_commit(lambda: ran.append("action"))
            await tx.audit.add([entry()])
            power(False)
    assert ran == []


async def test_frozen_process_holds_nobody_up(migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stands still in mid-transaction, as on a host without power, loses it and its locks; the others go on."""
    monkeypatch.setattr(postgres, "_FROZEN_S", 0.3)
    frozen, other = [await PostgresStore.open(migrated_postgres_url) for _ in range(2)]
    now = other.clock.now()
    with pytest.raises(StoreUnavailable, match=r"stood still|does not answer"):
        async with frozen.transaction() as tx:
            await tx.gates.take("crm", now)
            async with asyncio.timeout(5), other.transaction() as others:
                await others.gates.take("crm", now)
            await tx.gates.take("crm", now)
    for store in (frozen, other):
        async with store.transaction() as tx:  # both work on
            await tx.gates.take("crm", now)
        await store.close()


async def test_database_that_is_not_there_is_told(postgres_url: str) -> None:
    """Opening fails within the waiting time, and the password is not in the message."""
    url = make_url(postgres_url).set(database="nobody", password="hunter2hunter2").render_as_string(hide_password=False)
    with pytest.raises(StoreUnavailable) as told:
        await PostgresStore.open(url, wait_s=0.3)
    assert "hunter2" not in str(told.value)


@pytest.mark.slow
async def test_transactions_that_block_each_other_end_in_conflict(store: PostgresStore) -> None:
    """Of two transactions that wait for each other one is ended and told to try again; the other commits."""
    async with store.transaction() as tx:
        await tx.operations.add([operation(1), operation(2)])
        await tx.gates.take("a", entry().at)
        await tx.gates.take("b", entry().at)
    met = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> bool:
        try:
            async with store.transaction() as tx:
                await tx.gates.take(first, entry().at)
                await met.wait()
                await tx.gates.take(second, entry().at)
        except Conflict:
            return False
        return True

    assert sorted(await at_once([lock("a", "b"), lock("b", "a")])) == [False, True]


@pytest.mark.slow
async def test_transactions_that_block_each_other_both_commit_when_carried_out_again(store: PostgresStore) -> None:
    """The one that was ended is carried out again as a whole, and neither caller hears of it."""
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    @again_on_conflict
    async def lock(first: str, second: str) -> None:
        async with store.transaction() as tx:
            await tx.gates.take(first, entry().at)
            gates[first].set()
            await gates[second].wait()
            await tx.gates.take(second, entry().at)
            await tx.audit.add([entry(first)])

    async with store.transaction() as tx:
        await tx.gates.take("a", entry().at)
        await tx.gates.take("b", entry().at)
    await at_once([lock("a", "b"), lock("b", "a")])
    async with store.transaction() as tx:
        assert {one.id for one in await tx.audit.list(most=9)} == {"entry-a", "entry-b"}


async def test_what_is_known_nowhere_else_is_written_through_an_outage(shaky: PostgresStore, power: Switch) -> None:
    """While the database is away it is tried again, and it stands once when the database is back."""
    hurried(shaky)
    power(False)
    writing = asyncio.create_task(insist(shaky.clock, lambda: write(shaky, "kept")))
    await asyncio.sleep(0.1)
    power(True)
    await writing
    async with shaky.transaction() as tx:
        assert [one.id for one in await tx.audit.list(most=9)] == ["entry-kept"]


# The database's clock


async def test_clock_is_the_databases(migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose wall clock is a day ahead judges due times as the database does."""
    real = time.time
    with monkeypatch.context() as host:
        host.setattr(time, "time", lambda: real() + 86_400)
        store = await PostgresStore.open(migrated_postgres_url)
    assert abs(store.clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
    await store.close()


async def test_clock_is_anchored_anew_when_it_drifted(store: PostgresStore) -> None:
    """After half a minute the next transaction puts the clock right again; before that it costs no question."""
    wrong = datetime.now(UTC) + timedelta(days=1)
    store.clock.anchor(wrong)
    async with store.transaction():
        assert abs(store.clock.now() - wrong) < timedelta(seconds=5)
    store._anchored_at -= 31
    async with store.transaction():
        assert abs(store.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


async def test_clock_is_anchored_anew_when_the_host_slept(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that slept counted no second of it: the first transaction afterwards knows what time it is."""
    store.clock.anchor(datetime.now(UTC) - timedelta(seconds=60))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    for _ in range(2):
        async with store.transaction():
            assert abs(store.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    anchored_at = store._anchored_at
    async with store.transaction():
        assert store._anchored_at == anchored_at  # asked once


# Row-level security


async def test_other_roles_see_no_secrets(store: PostgresStore, outside: Outside, server: psycopg.Connection) -> None:
    """A role that was granted every table reads and writes no row of credentials and secrets; the rest it reads."""
    async with store.transaction() as tx:
        await tx.credentials.put(credential())
        await tx.credentials.put_secret("slack", b"sealed", entry().at)
        await tx.operations.add([operation()])
    server.execute("DROP ROLE IF EXISTS prunella_curious")
    server.execute("CREATE ROLE prunella_curious")
    url = str(store._pool.conninfo)
    with closing(psycopg.connect(url, autocommit=True, options="-csearch_path=prunella")) as connection:
        try:
            connection.execute("GRANT USAGE ON SCHEMA prunella TO prunella_curious")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA prunella TO prunella_curious")
            connection.execute("SET ROLE prunella_curious")
            assert connection.execute("SELECT count(*) FROM operations").fetchone() == (1,)
            for table in ("credentials", "secrets"):
                assert connection.execute(f"SELECT * FROM {table}".encode()).fetchall() == []
                assert connection.execute(f"DELETE FROM {table}".encode()).rowcount == 0
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("INSERT INTO secrets VALUES ('mine', 'x', now())")
        finally:
            connection.execute("RESET ROLE")
            connection.execute("DROP OWNED BY prunella_curious")
            connection.execute("DROP ROLE prunella_curious")
    async with store.transaction() as tx:
        assert await tx.credentials.read("hubspot", "") == credential()
        assert await tx.credentials.secret("slack") == b"sealed"


async def test_role_that_owns_the_tables_works_with_secrets(
    fresh_postgres_url: str, server: psycopg.Connection
) -> None:
    """prunella need be no superuser and need not create schemas: the role that migrated works with its own secrets."""
    server.execute("DROP ROLE IF EXISTS prunella_owner")
    server.execute("CREATE ROLE prunella_owner LOGIN PASSWORD 'owner-of-tables'")
    with closing(psycopg.connect(fresh_postgres_url, autocommit=True)) as connection:
        connection.execute("CREATE SCHEMA prunella AUTHORIZATION prunella_owner")
    try:
        url = make_url(fresh_postgres_url).set(username="prunella_owner", password="owner-of-tables")
        migrations.upgrade(url.render_as_string(hide_password=False))
        store = await PostgresStore.open(url.render_as_string(hide_password=False))
        async with store.transaction() as tx:
            await tx.credentials.put(credential())
            await tx.credentials.put(credential())
            assert await tx.credentials.claim_refresh(credential(version=2), "worker", entry().at, entry().at)
            assert len(await tx.credentials.of_service("hubspot")) == 1
        await store.close()
    finally:
        with closing(psycopg.connect(fresh_postgres_url, autocommit=True)) as connection:
            connection.execute("DROP OWNED BY prunella_owner")
        server.execute("DROP ROLE prunella_owner")
