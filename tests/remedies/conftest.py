"""A real store, a real vault and a way out to loopback: what remedies work with."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from prunella.core.clock import ManualClock
from prunella.egress import Egress, EgressPolicy
from prunella.store.secrets import Keys, Vault
from prunella.store.sqlite import SqliteStore
from prunella.testing import FaultyServer


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """Serve on loopback."""
    with FaultyServer() as started:
        yield started


@pytest.fixture
async def store(anyio_backend: str, sqlite_path: Path) -> AsyncIterator[SqliteStore]:
    """Open a migrated store on a clock that moves by hand."""
    opened = SqliteStore.open_file(sqlite_path, ManualClock())
    yield opened
    await opened.close()


@pytest.fixture
def vault(store: SqliteStore) -> Vault:
    """Return a vault on that store."""
    return Vault(store, Keys([b"k" * 32]))


@pytest.fixture
async def caller(anyio_backend: str) -> AsyncIterator[Egress]:
    """Call out for real, loopback allowed; without certificates, whose loading takes longer than a test."""
    policy = EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}), allow_http=True)
    egress = Egress(policy, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    yield egress
    await egress.close()
