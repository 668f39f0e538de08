"""One running prunella per database and test process; each test takes a service of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from flows.running import Up, configuration, running
from flows.shops import Store, store
from prunella.testing import FaultyServer


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A real `prunella up` on each database."""
    folder: Path = tmp_path_factory.mktemp(f"up-{request.param}")
    url = f"sqlite:///{folder / 'prunella.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("session_postgres_url")
    with FaultyServer() as shop, running(folder, shop, url, configuration(shop)) as started:
        yield started


@pytest.fixture
def service(up: Up) -> str:
    """A configured service that no other test uses."""
    return up.place()


@contextmanager
def shop_on(kind: str, folder: Path, new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Store]:
    """Open a shop with a real `prunella up` beside it; on PostgreSQL both share one database."""
    is_file = kind == "sqlite"
    with nullcontext(f"sqlite:///{folder / 'shop.db'}") if is_file else new_database() as url:
        own = f"sqlite:///{folder / 'prunella.db'}" if is_file else url
        with store(folder, url, own) as started:
            yield started


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def healed_shop(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[Store]:
    """A shop on each database that many tests use, whatever happened to it before."""
    with shop_on(request.param, tmp_path_factory.mktemp(f"shop-{request.param}"), new_database) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def quiet_shop(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> Iterator[Store]:
    """A shop on each database to which nothing has happened: for what depends on shares, rates and storms."""
    with shop_on(request.param, tmp_path, new_database) as started:
        yield started
