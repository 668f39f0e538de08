"""What PostgreSQL says is told in our words: what happened, what to do, and neither an address nor a password."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy import make_url

from prunella.core.errors import SchemaBehind, StoreRefused, StoreUnavailable
from prunella.store.postgres import PostgresStore
from prunella.store.troubles import state_of, translated
from store.making import entry

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2hunter2"


@pytest.fixture
def database_url(migrated_postgres_url: str) -> str:
    """Run every fixture of this file on PostgreSQL alone."""
    return migrated_postgres_url


@pytest.fixture
def role(postgres_url: str, migrated_postgres_url: str) -> Iterator[str]:
    """Return the address for a role that may have two connections and use the tables."""
    with psycopg.connect(migrated_postgres_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE prunella_two LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 3")
        server.execute("GRANT USAGE ON SCHEMA prunella TO prunella_two")
        server.execute("GRANT ALL ON ALL TABLES IN SCHEMA prunella TO prunella_two")
        try:
            url = make_url(migrated_postgres_url).set(username="prunella_two", password=PASSWORD)
            yield url.render_as_string(hide_password=False)
        finally:
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'prunella_two'")
            server.execute("DROP OWNED BY prunella_two")
            server.execute("DROP ROLE prunella_two")


async def write(store: PostgresStore, number: object = 1) -> None:
    async with store.transaction() as tx:
        await tx.audit.add([entry(number)])


async def test_server_without_a_connection_left_is_told(role: str) -> None:
    """Where other processes hold every connection, opening says so; once one is free it works."""
    held = [psycopg.connect(role) for _ in range(3)]
    with pytest.raises(StoreUnavailable, match="no connection left; raise its max_connections"):
        await PostgresStore.open(role, wait_s=0.3)
    for one in held:
        one.close()
    store = await PostgresStore.open(role)
    await write(store)
    await store.close()


async def test_own_pool_without_a_connection_left_is_told(store: PostgresStore, database_url: str) -> None:
    """Where requests of this process hold every connection, the next one hears so in time, and later ones work."""
    small = await PostgresStore.open(database_url, connections_max=1)
    small._pool.timeout = 0.2
    async with small.transaction():
        with pytest.raises(StoreUnavailable, match="all are in use; nothing of this request was recorded"):
            await write(small)
    await write(small)
    await small.close()


async def test_standby_is_told(store: PostgresStore, database_url: str) -> None:
    """A database that takes no writes answers reads, refuses writes with a reason, and works when that is over."""
    name = make_url(database_url).database
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        try:
            away = await PostgresStore.open(database_url)
            with pytest.raises(StoreUnavailable, match=r"takes no writes .* name the primary; nothing of this"):
                await write(away)
            async with away.transaction() as tx:
                assert await tx.audit.list(most=9) == []
        finally:
            server.execute("SET default_transaction_read_only = off")
            server.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [name],
            )
    with pytest.raises(StoreUnavailable):  # its connection was ended
        await write(away)
    await write(away)
    await away.close()


async def test_role_that_lost_its_rights_is_told(role: str, database_url: str) -> None:
    """What has to be granted is said; a right given back is enough."""
    store = await PostgresStore.open(role)
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute("REVOKE INSERT ON prunella.audit FROM prunella_two")
        with pytest.raises(StoreUnavailable, match="may not use prunella's tables; GRANT it"):
            await write(store)
        server.execute("GRANT INSERT ON prunella.audit TO prunella_two")
    await write(store)
    await store.close()


async def test_tables_that_vanished_are_told(fresh_postgres_url: str) -> None:
    """A database that was restored without prunella's tables is no fault of prunella's, and is named."""
    store = await PostgresStore.open(fresh_postgres_url)
    assert await store.revision() is None
    with pytest.raises(SchemaBehind, match="run: prunella db upgrade"):
        await write(store)
    await store.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (pg.DiskFull("could not extend file"), "its disk is full; make room"),
        (pg.AdminShutdown("terminating connection"), "it is being shut down or restarted"),
        (pg.CrashShutdown("x"), "it crashed"),
        (pg.CannotConnectNow("x"), "it is starting or stopping"),
        (pg.IdleInTransactionSessionTimeout("x"), "this process stood still in mid-transaction"),
        (pg.TransactionTimeout("x"), "does not answer"),
        (psycopg.OperationalError(f'FATAL:  password authentication failed for user "{PASSWORD}"'), "the password"),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), "no connection left"),
        (psycopg.OperationalError('FATAL:  database "x" does not exist'), "there is no such database"),
        (psycopg.OperationalError(f"connection to host={PASSWORD} failed"), r"does not answer \(OperationalError\)"),
        (psycopg.OperationalError(f"FATAL:  Passwort-Authentifizierung für {PASSWORD}"), "does not answer"),
    ],
)
def test_words_are_ours(error: psycopg.Error, words: str) -> None:
    """Each says what is wrong, that nothing was recorded, and nothing that the driver said."""
    meant = translated(error)
    assert isinstance(meant, StoreUnavailable)
    with pytest.raises(StoreUnavailable, match=words):
        raise meant
    assert "nothing of this request was recorded" in str(meant)
    assert PASSWORD not in str(meant)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (pg.InvalidPassword("x"), True),
        (psycopg.OperationalError('FATAL:  database "x" does not exist'), True),
        (pg.InsufficientPrivilege("x"), True),
        (pg.CannotConnectNow("x"), False),
        (pg.TooManyConnections("x"), False),
        (pg.ReadOnlySqlTransaction("x"), False),
    ],
)
def test_what_only_a_person_can_change_is_told_apart(error: psycopg.Error, refused: bool) -> None:
    """A start waits for the end of an outage or a failover, and not for a password."""
    assert isinstance(translated(error), StoreRefused) is refused


@pytest.mark.parametrize("error", [pg.UniqueViolation("x"), pg.SyntaxError("x"), pg.DivisionByZero("x")])
def test_mistakes_of_ours_stay_mistakes(error: psycopg.Error) -> None:
    """What a statement of ours did wrong is not put on the database."""
    assert translated(error) is None
    assert state_of(error) == error.sqlstate
