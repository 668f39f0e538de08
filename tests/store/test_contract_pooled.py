"""The promises of a transaction and of the nouns that processes compete for, behind a transaction pooler."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import psycopg
import pytest

from pooler import pooling
from store.making import Outside

pytestmark = pytest.mark.anyio
for name in ("contract", "credentials", "gates", "incidents_together", "operations", "outbox"):
    promises = vars(import_module(f"store.test_{name}"))
    globals().update({f"{held}_{name}": test for held, test in promises.items() if held.startswith("test_")})


@pytest.fixture
def database_url(migrated_postgres_url: str) -> Iterator[str]:
    """Let every store of this file reach PostgreSQL through the pooler."""
    with pooling(migrated_postgres_url) as url:
        yield url


@pytest.fixture
def outside(migrated_postgres_url: str) -> Outside:
    """Look at the database past the pooler."""

    def run(text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(migrated_postgres_url, autocommit=True, options="-csearch_path=prunella") as connection:
            return connection.execute(text.encode()).fetchall()

    return run
