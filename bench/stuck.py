"""Stuck orders: from the function's answer to the row that is changed and the image that is kept.

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
from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.core.procedures import DatabaseSource, Entity
from prunella.core.redact import Secret
from prunella.core.states import StateMachine
from prunella.databases.handle import Database
from prunella.plugin import RemedyFunction
from prunella.remedies.contract import Assignment
from prunella.remedies.entities import EntityRemedy

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
    stuck={},
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
        rows = [row for kind in ("sqlite", "postgresql") for row in _rows(place.database(kind), kind, orders, options)]
    return Report("stuck: orders recovered per second, without what the function itself does", rows)


def _rows(url: str, kind: str, orders: int, options: Options) -> Iterator[Row]:
    floor = _by_hand_sqlite if kind == "sqlite" else _by_hand_postgres
    for words, each in (("a transaction each", True), ("one transaction", False)):
        floors, ours, ratios = compare(
            options.rounds,
            lambda each=each: {"rate": orders / floor(url, orders, each=each)},  # type: ignore[misc]
            lambda: {"rate": orders / asyncio.run(_healed(url, kind, orders))},
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


async def _healed(url: str, kind: str, orders: int) -> float:
    database = Database(DatabaseSource(name="shop", url=Secret(url)))
    since: Any = _SINCE_TEXT if kind == "sqlite" else _SINCE
    moment = "text" if kind == "sqlite" else "timestamptz"

    def prepared(connection: Any) -> None:
        for one in _TABLES:
            connection.exec_driver_sql(one.format(moment=moment))
        table = database.table(connection, "orders")
        some = [
            {"id": n, "status": "ACCEPTED", "vendor": 1, "note": "a note", "updated_at": since} for n in range(orders)
        ]
        connection.execute(table.insert(), some)

    async def reassign(ctx: Any, row: Any) -> Outcome:
        return Outcome.changed(status="PENDING", vendor=row["id"])

    await database.writing(prepared)
    function = RemedyFunction(
        name="reassign", function=reassign, idempotent=True, reversible=True, per="row", timeout_s=30.0
    )
    wave = [_assignment(n, since) for n in range(orders)]
    remedy = EntityRemedy(database, _ORDER, function)
    begin = time.perf_counter()
    outcomes = await remedy.apply(wave)
    seconds = time.perf_counter() - begin
    assert sum(one.touched for one in outcomes) == orders, outcomes[0]
    await database.close()
    return seconds


def _assignment(n: int, since: Any) -> Assignment:
    row = {"id": n, "status": "ACCEPTED", "vendor": 1, "note": "a note", "updated_at": since}
    finding = Finding(key=str(n), issue="STUCK_ACCEPTED", message="…", row=row)
    return Assignment(run_id=f"run-{n}", incident_id=f"i-{n}", attempt=1, idempotency_key=f"k-{n}", finding=finding)
