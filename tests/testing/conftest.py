"""A running server and a client for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from prunella.testing import FaultyServer


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


@pytest.fixture
def client(server: FaultyServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=5, trust_env=False) as opened:
        yield opened
