"""On PostgreSQL a transaction sees the credentials that it named and no others, whatever its statements ask for."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, select, update

from flows.test_outgrowing import fitting_pg_dump
from prunella.store import migrations
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore
from prunella.store.sql import Sql
from prunella.store.tables import credentials, secrets
from store import test_credentials as promises
from store.making import NOW, credential

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
EVERY_ACCOUNT = Sql(select(credentials))
EVERY_SECRET = Sql(select(secrets))
ALL_OVER = Sql(update(credentials).values(needs_person="mine now"))
"""Statements of which somebody forgot the WHERE."""
REQUESTS = 1000


EVERYBODY = "-cprunella.account=all -cprunella.secret=all"


def ask(url: str, *statements: str, names: str = EVERYBODY) -> list[tuple[object, ...]]:
    """Speak SQL as whoever the address names, in a session that names everybody unless something else is said."""
    with psycopg.connect(url, autocommit=True, options=f"-csearch_path=prunella {names}") as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def whole_url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Return a database, as the superuser of its server reaches it."""
    with new_database() as url:
        yield url


@pytest.fixture(scope="module")
def made_url(whole_url: str) -> Iterator[str]:
    """Let the tables belong to a role that row-level security binds, as in production."""
    role = f"app_{make_url(whole_url).database}"
    ask(
        whole_url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'none' NOSUPERUSER NOBYPASSRLS",
        f"GRANT CREATE ON DATABASE {make_url(whole_url).database} TO {role}",
    )
    url = make_url(whole_url).set(username=role, password="none").render_as_string(hide_password=False)
    migrations.upgrade(url)
    yield url
    ask(whole_url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


@pytest.fixture
def owned_url(made_url: str) -> str:
    """Return that role's address; nothing is stored yet."""
    ask(made_url, "DELETE FROM credentials", "DELETE FROM secrets")
    return made_url


@pytest.fixture
async def owned(anyio_backend: str, owned_url: str) -> AsyncIterator[PostgresStore]:
    """Open the store as that role, on fewer connections than there are requests at a time."""
    opened = await PostgresStore.open(owned_url, connections_max=3)
    yield opened
    await opened.close()


def shell(line: str, environ: dict[str, str], folder: Path) -> None:
    """Run a line as a person types it."""
    subprocess.run(["sh", "-c", line], env=environ, cwd=folder, capture_output=True, check=True)


async def filled(store: Store) -> None:
    """Put in two accounts of two services and two secrets."""
    async with store.transaction() as tx:
        for service in ("hubspot", "stripe"):
            for account in ("ada", "ben"):
                await tx.credentials.put(credential(account, service=service))
        for name in ("slack", "teams"):
            await tx.credentials.put_secret(name, b"sealed", NOW)


async def seen(store: Store, service: str, account: str) -> set[tuple[str, str]]:
    """Ask for one account, then for all of them, in one transaction."""
    async with store.transaction() as tx:
        await tx.credentials.read(service, account)
        rows = await tx.credentials._session.fetch(EVERY_ACCOUNT)
    return {(row["service"], row["account"]) for row in rows}


async def test_statement_without_a_condition_sees_its_own_account_only(owned: PostgresStore) -> None:
    """A thousand requests for different accounts over three pooled connections: no foreign row in any."""
    await filled(owned)
    wanted = [(service, account) for service in ("hubspot", "stripe") for account in ("ada", "ben")]
    asked = [wanted[number % 4] for number in range(REQUESTS)]
    lanes = [asked[number::6] for number in range(6)]

    async def lane(requests: list[tuple[str, str]]) -> list[bool]:
        return [await seen(owned, *one) == {one} for one in requests]

    assert [fine for lane_ in await asyncio.gather(*map(lane, lanes)) for fine in lane_] == [True] * REQUESTS


async def test_look_sees_foreign_rows_where_nothing_binds(migrated_postgres_url: str) -> None:
    """A superuser is bound by no policy: the same look finds all four accounts, so it could find them above."""
    store = await PostgresStore.open(migrated_postgres_url)
    await filled(store)
    assert len(await seen(store, "hubspot", "ada")) == 4
    await store.close()


async def test_name_ends_with_its_transaction(owned_url: str) -> None:
    """On the one connection there is, the next transaction sees nothing of what the one before had named."""
    store = await PostgresStore.open(owned_url, connections_max=1)
    await filled(store)
    assert len(await seen(store, "hubspot", "ada")) == 1
    async with store.transaction() as tx:
        assert await tx.credentials._session.fetch(EVERY_ACCOUNT) == []
        assert await tx.credentials._session.fetch(EVERY_SECRET) == []
    await store.close()


async def test_session_that_says_nothing_sees_nothing(owned: PostgresStore, owned_url: str) -> None:
    """The owner's own session, from wherever it came, reads, changes and adds nothing until it says whom it means."""
    await filled(owned)
    for table in ("credentials", "secrets"):
        assert ask(owned_url, f"SELECT * FROM {table}", names="") == []
        assert ask(owned_url, f"DELETE FROM {table} RETURNING 1", names="") == []
        assert len(ask(owned_url, f"SELECT * FROM {table}")) > 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        ask(owned_url, "INSERT INTO secrets VALUES ('eve', 'x', now())", names="")
    assert ask(owned_url, "SELECT name FROM secrets", names="-cprunella.secret='slack'") == [("slack",)]


async def test_policy_of_before_showed_all_of_it(owned: PostgresStore, owned_url: str) -> None:
    """With the condition that revision 0007 had, the same look finds every row: the test above can fail."""
    await filled(owned)
    was = "current_setting('prunella.secret', true) IS NULL"
    with psycopg.connect(owned_url, options="-csearch_path=prunella") as connection:
        connection.execute(f"ALTER POLICY named_only ON secrets USING ({was})".encode())
        assert connection.execute("SELECT count(*) FROM secrets").fetchone() == (2,)
        connection.rollback()


async def test_back_up_of_the_owner_is_whole(owned: PostgresStore, owned_url: str, tmp_path: Path) -> None:
    """As the documents say: who asks for every row by name gets it; who does not is refused, and gets no half of it."""
    await filled(owned)
    (line,) = re.findall(r"^\$ (PGOPTIONS=.*)", (ROOT / "docs" / "outgrowing-one-machine.md").read_text(), re.MULTILINE)
    (path,) = fitting_pg_dump()
    environ = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "PRUNELLA_DATABASE_URL": owned_url}
    await asyncio.to_thread(shell, line.replace("custom", "plain"), environ, tmp_path)
    dump = (tmp_path / "prunella.dump").read_text()
    assert all(f"{one}\t" in dump for one in ("slack", "teams", "hubspot\tada", "stripe\tben"))
    half = line.partition(" pg_dump ")[2].replace("--enable-row-security", "")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        await asyncio.to_thread(shell, f"pg_dump {half}", environ, tmp_path)
    assert b"row-level security" in refused.value.stderr


async def test_change_reaches_the_named_account_only(owned: PostgresStore) -> None:
    """A change that forgot its condition touches one row; a row under another name is refused."""
    await filled(owned)
    async with owned.transaction() as tx:
        await tx.credentials.read("hubspot", "ada")
        assert await tx.credentials._session.change(ALL_OVER) == 1
    with pytest.raises(Exception, match=r"may not use prunella's tables|row-level security"):
        async with owned.transaction() as tx:
            await tx.credentials.read("hubspot", "ada")
            await tx.credentials._session.change(Sql(update(credentials).values(account="eve")))


async def test_names_are_quoted(owned: PostgresStore) -> None:
    """No name of a service, an account or a secret is taken for another, or for all of them."""
    await filled(owned)
    for service, account in (
        ("all", ""),
        ("hubspot' 'ada", ""),
        ("hubspot''ada", ""),
        ("", "all"),
        ("hubspot'", "'ada"),
    ):
        assert await seen(owned, service, account) == set()
    async with owned.transaction() as tx:
        assert await tx.credentials.secret("all") is None
        assert await tx.credentials._session.fetch(EVERY_SECRET) == []
        assert await tx.credentials.secret("slack") == b"sealed"
        assert [row["name"] for row in await tx.credentials._session.fetch(EVERY_SECRET)] == ["slack"]


async def test_other_role_sees_nothing_whatever_it_was_granted(
    owned: PostgresStore, owned_url: str, whole_url: str
) -> None:
    """A role that somebody granted everything in the schema reads and changes no credential and no secret."""
    await filled(owned)
    other = f"other_{make_url(whole_url).database}"
    url = make_url(whole_url).set(username=other, password="none").render_as_string(hide_password=False)
    ask(
        whole_url,
        f"CREATE ROLE {other} LOGIN PASSWORD 'none'",
        f"GRANT USAGE ON SCHEMA prunella TO {other}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA prunella TO {other}",
    )
    try:
        for table in ("credentials", "secrets"):
            assert ask(url, f"SELECT * FROM {table}") == []
            assert ask(url, f"DELETE FROM {table} RETURNING 1") == []
            assert len(ask(owned_url, f"SELECT * FROM {table}")) > 0
    finally:
        ask(whole_url, f"DROP OWNED BY {other} CASCADE", f"DROP ROLE {other}")


async def test_everything_about_credentials_works_as_a_bound_role(owned: PostgresStore, owned_url: str) -> None:
    """The promises of credentials are kept where the policies bind, too."""
    for promise in (
        promises.test_credentials_are_kept_per_account,
        promises.test_refresh_claim_can_be_given_back,
        promises.test_begun_refresh_stays_written_until_its_holder_or_a_new_pair_ends_it,
        promises.test_begun_refresh_is_left_to_a_person_once,
        promises.test_rotating_is_known_of_the_last_refresh_and_outlasts_a_reconnection,
        promises.test_rotation_does_not_overwrite_what_a_person_handed_over,
        promises.test_version_never_falls,
        promises.test_secrets_are_stored_by_name,
    ):
        await promise(owned)
        ask(owned_url, "DELETE FROM credentials; DELETE FROM secrets")
