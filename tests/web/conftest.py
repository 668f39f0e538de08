"""The HTTP side in this process: a wired prunella on a real store, asked through ASGI."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from databases.shop import Shop
from prunella.app import App, wire
from prunella.core.clock import ManualClock
from prunella.core.redact import Secret
from prunella.core.services import Health, Service
from prunella.egress import Egress
from prunella.guard.place import DatabasePlace
from prunella.runner.local import LocalRunner
from prunella.settings import Settings
from prunella.store.postgres import PostgresStore
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore
from prunella.web.auth import Gatehouse, Role
from prunella.web.server import create
from web.market import Market, filled, market

KEYS = Keys([b"k" * 32])
INGEST = "ingest-token-0123456789"
CRM = Service(name="crm", base_url="https://crm.invalid", health=Health(path="/health"))


@dataclass
class Web:
    """One wired prunella and a client that asks it."""

    app: App
    api: FastAPI
    clock: ManualClock
    gatehouse: Gatehouse
    client: httpx2.AsyncClient

    def token(self, role: Role, ttl_s: float = 3600) -> str:
        """Return a good token of a role."""
        return INGEST if role is Role.INGEST else self.gatehouse.mint(role, timedelta(seconds=ttl_s))

    async def ask(self, method: str, path: str, token: str | None = None, **how: Any) -> httpx2.Response:
        """Send one request, with a bearer token where one is given."""
        headers = {**how.pop("headers", {}), **({"authorization": f"Bearer {token}"} if token is not None else {})}
        return await self.client.request(method, path, headers=headers, **how)


@pytest.fixture
async def web(anyio_backend: str, sqlite_path: Path) -> AsyncIterator[Web]:
    """Wire a prunella on a fresh store; nothing heals, requests are answered."""
    async with wired(sqlite_path) as one:
        yield one


@asynccontextmanager
async def wired(sqlite_path: Path) -> AsyncIterator[Web]:
    """Wire a prunella on a migrated store; building all its routes is what takes the time."""
    clock = ManualClock()
    store = SqliteStore.open_file(sqlite_path, clock)
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    settings = Settings(services={"crm": CRM}, ingest_tokens=(Secret(INGEST),))
    place = DatabasePlace(f"sqlite:///{sqlite_path}")
    app = wire(settings, store, egress, KEYS, place=place)
    api = create(app)
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://prunella") as client:
        yield Web(app, api, clock, Gatehouse(KEYS, (), clock.now), client)
    place.close()
    await egress.close()
    await store.close()


@pytest.fixture
async def large(anyio_backend: str, migrated_postgres_url: str) -> AsyncIterator[Web]:
    """A wired prunella on PostgreSQL, which holds no null character."""
    store = await PostgresStore.open(migrated_postgres_url)
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    settings = Settings(services={"crm": CRM}, ingest_tokens=(Secret(INGEST),))
    app = wire(settings, store, egress, KEYS, runs=LocalRunner)
    api = create(app)
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://prunella") as client:
        yield Web(app, api, ManualClock(), Gatehouse(KEYS, (), store.clock.now), client)
    await egress.close()
    await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def stocked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """A shop's database, once of each kind."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'shop.db'}" if sqlite else str(request.getfixturevalue("fresh_postgres_url"))
    with filled(url) as shop:
        yield shop


@pytest.fixture
async def mart(anyio_backend: str, stocked: Shop, sqlite_path: Path) -> AsyncIterator[Market]:
    """Wire a prunella that looks after the shop; requests are answered, nothing runs by itself."""
    async with market(stocked, sqlite_path) as wired:
        yield wired
