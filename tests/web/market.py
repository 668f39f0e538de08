"""A marketplace with stuck orders and products out of stock, looked after by a wired prunella on real databases."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from sqlalchemy import select, update

from databases.shop import Shop, opened
from prunella.app import App, wire
from prunella.app.procedures import Care
from prunella.checks.rows import Rows
from prunella.checks.stuck import Stuck
from prunella.core.clock import SystemClock
from prunella.core.outcomes import Outcome
from prunella.core.procedures import (
    Entity,
    Limits,
    Procedure,
    RowsCheck,
    SetRemedy,
    StuckCheck,
    StuckRule,
)
from prunella.core.records import Level
from prunella.core.states import StateMachine
from prunella.databases.handle import Database
from prunella.egress import Egress
from prunella.engine.ready import Ready
from prunella.guard.place import DatabasePlace
from prunella.remedies.contract import Assignment, Preview, Undone
from prunella.remedies.rows import SetRows
from prunella.settings import Settings
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore
from prunella.web.auth import Gatehouse, Role
from prunella.web.server import create

KEYS = Keys([b"m" * 32])
ORDERS, HIDE = "stuck-order", "hide-zero-stock"
_STATES = {
    "PENDING": ("CONFIRMED", "CANCELLED", "PENDING"),
    "CONFIRMED": ("ACCEPTED", "PENDING", "CANCELLED", "CONFIRMED"),
    "ACCEPTED": ("CANCELLED", "PENDING"),
    "CANCELLED": (),
}
ORDER = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine(_STATES, name="order"),
    stuck={
        "PENDING": StuckRule(after_s=1800, remedy="reassign_vendor"),
        "CONFIRMED": StuckRule(after_s=3600, remedy="retry_workflow"),
    },
    give_up="cancel_order",
)


class Move:
    """Move an order on, as a business step of the user would; told to fail, it changes nothing."""

    outside = False
    idempotent = True
    reversible = False

    def __init__(self, database: Database, name: str, status: str) -> None:
        self.name = name
        self._database = database
        self._status = status
        self.fails = False
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def preview(self, finding: Any) -> Preview:
        return Preview(words=f"{self.name}: {self._status}")

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        self.reached.set()
        await self.go_on.wait()
        if self.fails:
            return [Outcome.failed("no vendor left")] * len(assignments)
        for one in assignments:
            await self._database.writing(partial(self._move, key=one.finding.key))
        return [Outcome.done(f"now {self._status}")] * len(assignments)

    async def undo(self, run_id: str) -> Undone:
        return Undone()

    def _move(self, connection: Any, *, key: str) -> None:
        table = self._database.table(connection, "orders")
        (ident,) = [one for one in connection.execute(select(table.c.id)).scalars() if str(one) == key]
        now = self._database.now(connection).isoformat()
        moment = now if self._database.kind == "sqlite" else self._database.now(connection)
        connection.execute(update(table).where(table.c.id == ident).values(status=self._status, updated_at=moment))


@dataclass
class Market:
    """One wired prunella, its shop, and a client that asks it."""

    app: App
    shop: Shop
    client: httpx2.AsyncClient
    gatehouse: Gatehouse
    remedies: dict[str, Move]
    api: FastAPI
    tokens: dict[Role, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, role: Role = Role.OPERATIONS, **how: Any) -> httpx2.Response:
        """Send one request as somebody with a role."""
        token = self.tokens.setdefault(role, self.gatehouse.mint(role, timedelta(hours=1)))
        return await self.client.request(method, path, headers={"authorization": f"Bearer {token}"}, **how)

    async def get(self, path: str, **how: Any) -> Any:
        """Read something that has to be there."""
        reply = await self.ask("GET", path, **how)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def post(self, path: str, body: object = None, status: int = 200) -> Any:
        """Do something and return the answer, whose status is as expected."""
        reply = await self.ask("POST", path, json=body)
        assert reply.status_code == status, reply.text
        if status >= 400:
            assert reply.headers["content-type"] == "application/problem+json"
        return reply.json()

    def order(self, number: int, status: str = "PENDING", minutes: float = 45.5) -> None:
        """Put an order into the shop that entered its status so many minutes ago."""
        self.shop.run(f"INSERT INTO orders VALUES ({number}, '{status}', {self.shop.past(minutes * 60)})")

    def status(self, number: int) -> str:
        """Return the status of an order."""
        ((status,),) = self.shop.rows(f"SELECT status FROM orders WHERE id = {number}")
        return str(status)


@contextmanager
def filled(url: str) -> Iterator[Shop]:
    """Open a shop with empty orders and twenty products, two of them out of stock and visible."""
    with opened(url) as shop:
        shop.run(
            "CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL, updated_at MOMENT NOT NULL)",
            "CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible integer)",
            "INSERT INTO products VALUES " + ", ".join(f"({n}, {0 if n < 3 else 9}, 1)" for n in range(1, 21)),
        )
        yield shop


@asynccontextmanager
async def market(
    shop: Shop, store_path: Path, settings: Settings | None = None, place: DatabasePlace | None = None
) -> AsyncIterator[Market]:
    """Wire a prunella that looks after the shop; nothing runs by itself."""
    settings = settings or Settings()
    store = SqliteStore.open_file(store_path, SystemClock())
    egress = Egress(settings.egress, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    database = shop.handle()
    steps = (("reassign_vendor", "CONFIRMED"), ("retry_workflow", "ACCEPTED"), ("cancel_order", "CANCELLED"))
    remedies = {name: Move(database, name, status) for name, status in steps}
    procedures = {ORDERS: _orders(database, remedies), HIDE: _hide(database)}
    app = wire(settings, store, egress, KEYS, care=Care(procedures=procedures), place=place)
    api = create(app)
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://prunella") as client:
        yield Market(app, shop, client, Gatehouse(KEYS, (), store.clock.now), remedies, api)
    await egress.close()
    await store.close()


def _orders(database: Database, remedies: dict[str, Move]) -> Ready:
    policy = Procedure(name=ORDERS, id="HEAL_ORDER", check=StuckCheck(entity="order"), database="shop", every_s=300.0)
    policy = replace(policy, limits=Limits(cool_down_s=0.0))
    check = Stuck(database, ORDER)
    return Ready(policy=policy, check=check, remedies=remedies, proof="the order moved on", scope="shop", entity=ORDER)


def _hide(database: Database) -> Ready:
    spec = RowsCheck(table="products", where={"stock": 0, "visible": 1})
    policy = Procedure(
        name=HIDE,
        id="HEAL_DATA_002",
        check=spec,
        remedy=SetRemedy(values={"visible": 0}),
        database="shop",
        cron="0 * * * *",
        level=Level.L2,
    )
    remedy = SetRows(database, "products", {"visible": 0})
    return Ready(policy=policy, check=Rows(database, spec), remedies={"set": remedy}, proof="no such row", scope="shop")
