"""Stuck orders: one whole cycle, from the look to the proof, with incident, attempt, audit and image per order.

Floor: a loop that does the same by hand per order, the conditional update and the insert into a log; with a transaction
per order, as loops over orders that call the outside have it, and with a single one around everything.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg

from bench import places
from bench.harness import Options, Report, Row, compare
from bench.places import Places
from prunella.app import open_store, wire
from prunella.app.procedures import Care
from prunella.checks.stuck import Stuck
from prunella.core.outcomes import Outcome
from prunella.core.procedures import DatabaseSource, Entity, Procedure, StuckCheck, StuckRule
from prunella.core.redact import Secret
from prunella.core.states import StateMachine
from prunella.databases.handle import Database
from prunella.egress import Egress
from prunella.engine.ready import Ready
from prunella.engine.sweep import sweep
from prunella.plugin import RemedyFunction
from prunella.remedies.entities import EntityRemedy
from prunella.settings import Settings
from prunella.store.secrets import Keys

_ORDERS = 500
_TARGET = 0.4
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
_SINCE_TEXT = "2026-01-01 00:00:00+00:00"
_ORDER = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine({"ACCEPTED": ["PENDING"]}, name="order"),
    stuck={"ACCEPTED": StuckRule(after_s=7200.0, remedy="reassign")},
)
_TABLES = (
    "DROP TABLE IF EXISTS orders",
    "DROP TABLE IF EXISTS log",
    "CREATE TABLE orders (id bigint PRIMARY KEY, status text, vendor integer, note text, updated_at {moment})",
    "CREATE TABLE log (order_id bigint, action text, old_status text, new_status text, at {moment})",
)
_UPDATE = (
    "UPDATE orders SET status = {0}, vendor = {0}, updated_at = {1} "
    "WHERE id = {0} AND status = {0} AND updated_at = {0}"
)
_LOG = "INSERT INTO log VALUES ({0}, {0}, {0}, {0}, {1})"


def run(options: Options) -> Report:
    """Measure both databases."""
    orders = options.amount(_ORDERS)
    with places.places() as place:
        rows = [row for kind in ("sqlite", "postgresql") for row in _rows(place, kind, orders, options)]
    return Report("stuck: orders recovered per second by a whole cycle", rows)


def _rows(place: Places, kind: str, orders: int, options: Options) -> Iterator[Row]:
    url = place.database(kind)
    floor = _by_hand_sqlite if kind == "sqlite" else _by_hand_postgres
    for words, each in (("a transaction each", True), ("one transaction", False)):
        floors, ours, ratios = compare(
            options.rounds,
            lambda each=each: {"rate": orders / floor(url, orders, each=each)},  # type: ignore[misc]
            lambda: {"rate": orders / asyncio.run(_healed(url, kind, orders, place))},
        )
        yield Row(
            what=f"{kind}, {orders} orders, by hand in {words}",
            unit="orders/s",
            floor=floors["rate"],
            ours=ours["rate"],
            ratio=ratios["rate"],
            target=f"ratio >= {_TARGET}",
            met=ratios["rate"].median >= _TARGET,
        )


def _by_hand_sqlite(url: str, orders: int, *, each: bool) -> float:
    with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as connection:
        for one in _TABLES:
            connection.execute(one.format(moment="text"))
        some = [(n, "ACCEPTED", 1, "a note", _SINCE_TEXT) for n in range(orders)]
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", some)
        connection.execute("COMMIT")
        begin = time.perf_counter()
        for n in range(orders):
            if each or n == 0:
                connection.execute("BEGIN")
            update = _UPDATE.format("?", "datetime('now')")
            done = connection.execute(update, ("PENDING", n, n, "ACCEPTED", _SINCE_TEXT)).rowcount
            if done:
                connection.execute(_LOG.format("?", "datetime('now')"), (n, "reassign", "ACCEPTED", "PENDING"))
            if each or n == orders - 1:
                connection.execute("COMMIT")
        return time.perf_counter() - begin


def _by_hand_postgres(url: str, orders: int, *, each: bool) -> float:
    with psycopg.connect(url) as connection:
        for one in _TABLES:
            connection.execute(one.format(moment="timestamptz").encode())
        some = [(n, "ACCEPTED", 1, "a note", _SINCE) for n in range(orders)]
        connection.cursor().executemany("INSERT INTO orders VALUES (%s, %s, %s, %s, %s)", some)
        connection.commit()
        begin = time.perf_counter()
        for n in range(orders):
            update = _UPDATE.format("%s", "now()").encode()
            done = connection.execute(update, ("PENDING", n, n, "ACCEPTED", _SINCE)).rowcount
            if done:
                connection.execute(_LOG.format("%s", "now()").encode(), (n, "reassign", "ACCEPTED", "PENDING"))
            if each or n == orders - 1:
                connection.commit()
        return time.perf_counter() - begin


async def _healed(url: str, kind: str, orders: int, place: Places) -> float:
    """Measure one whole cycle: look, incidents, plan, waves, proof, records; and how many orders it healed."""
    database = Database(DatabaseSource(name="shop", url=Secret(url), time_zone="UTC"))
    since: Any = _SINCE_TEXT if kind == "sqlite" else _SINCE
    moment = "text" if kind == "sqlite" else "timestamptz"

    def prepared(connection: Any) -> None:
        for one in _TABLES:
            connection.exec_driver_sql(one.format(moment=moment))
        table = database.table(connection, "orders")
        some = [
            {"id": n, "status": "ACCEPTED", "vendor": 1, "note": "a note", "updated_at": since} for n in range(orders)
        ]
        moving = [one | {"id": one["id"] + orders, "status": "SHIPPED"} for one in some]
        connection.execute(table.insert(), some + moving)

    async def reassign(ctx: Any, row: Any) -> Outcome:
        return Outcome.changed(status="PENDING", vendor=row["id"])

    await database.writing(prepared)
    function = RemedyFunction(
        name="reassign", function=reassign, idempotent=True, reversible=True, per="row", timeout_s=30.0
    )
    store_url = place.database(kind)
    settings = Settings(database_url=store_url)
    store = await open_store(settings)
    ready = Ready(
        policy=Procedure(name="stuck-order", id="HEAL_ORDER", check=StuckCheck(entity="order"), every_s=300.0),
        check=Stuck(database, _ORDER),
        remedies={"reassign": EntityRemedy(database, _ORDER, function)},
        proof="it moved on",
        scope="shop",
        entity=_ORDER,
    )
    app = wire(
        settings, store, Egress(settings.egress), Keys([bytes(32)]), care=Care(procedures={"stuck-order": ready})
    )
    begin = time.perf_counter()
    swept = await sweep(app.parts, ready)
    seconds = time.perf_counter() - begin
    assert swept.resolved == orders, swept.as_log()
    await store.close()
    await database.close()
    return seconds
