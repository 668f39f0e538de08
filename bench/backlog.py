"""100,000 requests that waited for a service to come back, on PostgreSQL: how fast they are delivered afterwards.

Floor: a consumer of the same table, written by hand: SELECT ... FOR UPDATE SKIP LOCKED LIMIT n, the calls at once with
the same HTTP client, one UPDATE per batch. Both have the same number of calls in flight, and both open the sealed
requests. Ours is a whole worker: incidents, gate, runs, audit, order, and the ramp of its waves.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from bench import places
from bench.harness import Options, Report, Row, Spread, compare
from prunella.app import App, open_app
from prunella.core.records import Category, Failure, Incident, Operation, Request, Severity, Signal
from prunella.core.redact import Secret
from prunella.core.services import Service
from prunella.egress import Egress, EgressPolicy
from prunella.engine import payloads
from prunella.settings import Settings
from prunella.store.secrets import Keys

_WAITING = 100_000
_FOR_S = 10.0
_IN_FLIGHT = 64
_TARGET = 0.5
_GROWTH_MB = 50.0
_EGRESS = EgressPolicy(allow_hosts=frozenset({"127.0.0.0/8"}), allow_http=True)
_REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_TAKE = """
SELECT id, method, payload_sealed, idempotency_key FROM prunella.operations
WHERE incident_id = %(incident)s AND state = 'waiting' AND due_at <= now()
ORDER BY due_at, created_at, id LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""
_DONE = "UPDATE prunella.operations SET state = 'done', attempts = attempts + 1, due_at = NULL WHERE id = ANY(%(ids)s)"
_LEFT = "SELECT count(*) FROM prunella.operations WHERE state = 'waiting'"


def run(options: Options) -> Report:
    """Measure floor and ours in turn, each for some seconds, on one table."""
    waiting, for_s = options.amount(_WAITING), max(_FOR_S * options.scale, 1.0)
    grown: list[float] = []
    with places.places() as place, places.process(["bench.backlog"], place.directory / "world.log") as port:
        url = place.database("postgresql")
        asyncio.run(_fill(url, port, waiting))
        floors, ours, ratios = compare(
            min(options.rounds, 4),
            lambda: {"rate": asyncio.run(_by_hand(url, port, for_s))},
            lambda: {"rate": asyncio.run(_by_prunella(url, port, for_s, grown))},
        )
    rows = [
        Row(
            what=f"{waiting:,} waiting, {_IN_FLIGHT} calls in flight",
            unit="calls/s",
            floor=floors["rate"],
            ours=ours["rate"],
            ratio=ratios["rate"],
            target=f"ratio >= {_TARGET}",
            met=ratios["rate"].median >= _TARGET,
        ),
        Row(
            what="memory that the worker grew by",
            unit="MB",
            ours=Spread.of(grown),
            target=f"at most {_GROWTH_MB:.0f}",
            met=max(grown) <= _GROWTH_MB,
        ),
    ]
    return Report("backlog: requests delivered after an outage, per second", rows, [f"{for_s:.0f} s per measurement"])


def _settings(url: str, port: int) -> Settings:
    service = Service(
        name="crm",
        base_url=f"http://127.0.0.1:{port}",
        hosts=frozenset({f"127.0.0.1:{port}"}),
        calls_max=_IN_FLIGHT,
        honours_idempotency_key=True,
    )
    return Settings(database_url=url, secret_key=Secret(places.KEY), egress=_EGRESS, services={"crm": service})


async def _fill(url: str, port: int, waiting: int) -> None:
    """Make the tables, one incident and all that waits for it."""
    async with open_app(_settings(url, port)) as app:
        now = app.parts.clock.now()
        async with app.store.transaction() as tx:
            await tx.signals.add([(_signal(now), None, None)])
            await tx.incidents.open_or_join(_incident(now))
        for start in range(0, waiting, 5_000):
            async with app.store.transaction() as tx:
                await tx.operations.add([_operation(app, now, number) for number in range(start, start + 5_000)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE prunella.operations")
        connection.execute("CHECKPOINT")


def _signal(now: datetime) -> Signal:
    failure = Failure(service="crm", status=503, message="Service Unavailable")
    return Signal(
        id="signal", source="bench", event_id="1", service="crm", occurred_at=now, received_at=now, failure=failure
    )


def _incident(now: datetime) -> Incident:
    return Incident(
        id="incident",
        service="crm",
        account="",
        fingerprint="print",
        signal_id="signal",
        title="crm: network.server (HTTP 503)",
        category=Category.NETWORK,
        kind="network.server",
        confidence=0.95,
        because="status 503",
        advice="wait",
        severity=Severity.MEDIUM,
        first_seen=now,
        last_seen=now,
    )


def _operation(app: App, now: datetime, number: int) -> Operation:
    operation_id = f"operation-{number:07}"
    payload = {"order": number, "lines": ["a line of an order", "another one"], "amount": 12.5}
    request = Request(method="POST", endpoint="/orders", payload=payload)
    return Operation(
        id=operation_id,
        incident_id="incident",
        signal_id="signal",
        service="crm",
        account="",
        method="POST",
        endpoint="/orders",
        payload_sealed=payloads.seal_request(app.parts, operation_id, request),
        idempotency_key=f"key-{number}",
        due_at=now,
        created_at=now + timedelta(microseconds=number),
    )


async def _by_hand(url: str, port: int, for_s: float) -> float:
    keys, caller, done = Keys.parse(places.KEY), Egress(_EGRESS), 0

    async def call(row: Any) -> None:
        operation_id, method, sealed, key = row
        request = json.loads(keys.open(sealed, f"operations:{operation_id}"))
        address = f"http://127.0.0.1:{port}{request['endpoint']}"
        reply = await caller.request(method, address, headers={"idempotency-key": key}, json=request["payload"])
        assert reply.status == 200

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        begin = time.perf_counter()
        while time.perf_counter() - begin < for_s:
            async with connection.transaction():
                values = {"incident": "incident", "most": _IN_FLIGHT}
                rows = await (await connection.execute(_TAKE, values, prepare=True)).fetchall()
                assert rows, "too little waits for so long a measurement"
                await asyncio.gather(*map(call, rows))
                await connection.execute(_DONE, {"ids": [row[0] for row in rows]}, prepare=True)
            done += len(rows)
        took_s = time.perf_counter() - begin
    await caller.close()
    return done / took_s


async def _by_prunella(url: str, port: int, for_s: float, grown: list[float]) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE prunella.incidents SET wave = 1, next_at = now()")
    async with open_app(_settings(url, port)) as app:
        before, memory = await _left(app), _memory_mb()
        begin = time.perf_counter()
        async with app.running():
            await asyncio.sleep(for_s)
        took_s = time.perf_counter() - begin
        left = await _left(app)
        grown.append(_memory_mb() - memory)
    assert left, "too little waits for so long a measurement"
    return (before - left) / took_s


async def _left(app: App) -> int:
    with psycopg.connect(app.settings.database_url) as connection:
        row = connection.execute(_LEFT).fetchone()
    assert row is not None
    return int(row[0])


def _memory_mb() -> float:
    """Return what this process holds now: its peak was reached when the table was filled."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class _World(asyncio.Protocol):
    """Answer every request with 200 and `{}`, at the least cost there is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._seen = transport, b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while True:
            head, found, rest = self._seen.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            self._seen = rest[length:]
            self._transport.write(_REPLY)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_World, "127.0.0.1", 0)
    print(f"listens on http://127.0.0.1:{server.sockets[0].getsockname()[1]} now", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
