"""A shop's database, once of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases.shop import Shop, opened


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return an empty database."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'shop.db'}" if sqlite else str(request.getfixturevalue("fresh_postgres_url"))
    with opened(url) as shop:
        yield shop


@pytest.fixture
def pg_shop(fresh_postgres_url: str) -> Iterator[Shop]:
    """Return an empty PostgreSQL database."""
    with opened(fresh_postgres_url) as shop:
        yield shop
