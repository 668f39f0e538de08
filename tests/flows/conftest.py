"""One running prunella per database and test process; each test takes a service of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.running import Up, configuration, running
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
