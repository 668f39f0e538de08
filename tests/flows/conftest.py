"""One running prunella per database and test process; each test takes a service of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
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


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def healed_shop(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[Store]:
    """A shop on each database with a real `prunella up` beside it; on PostgreSQL both share one database."""
    folder: Path = tmp_path_factory.mktemp(f"shop-{request.param}")
    is_file = request.param == "sqlite"
    with nullcontext(f"sqlite:///{folder / 'shop.db'}") if is_file else new_database() as url:
        own = f"sqlite:///{folder / 'prunella.db'}" if is_file else url
        with store(folder, url, own) as started:
            yield started
