"""Retention over 200,000 rows that are over: how fast they go, and how long the longest transaction holds others up.

Floor: one DELETE per table, in one transaction, as somebody would write it by hand.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from bench import places
from bench.harness import Options, Report, Row, compare
from prunella.app import wire
from prunella.core.clock import SystemClock
from prunella.core.retention import Retention
from prunella.egress import Egress
from prunella.engine import retention
from prunella.settings import Settings
from prunella.store import migrations
from prunella.store.contract import Store, Transaction
from prunella.store.postgres import PostgresStore
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore

_ROWS = 200_000
_INCIDENTS = 2_000
_LONGEST_S = 1.0
_NUMBERS = {
    "sqlite": "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {most}) SELECT n FROM c)",
    "postgresql": "(SELECT generate_series(1, {most}) AS n)",
}
_THEN = "'2020-01-01 00:00:00.000000+00:00'"
_FILL = {
    "incidents": (
        (
            "(id, service, account, fingerprint, signal_id, title, category, kind, confidence, because, advice,"
            " severity, level, state, version, count, attempts, wave, first_seen, last_seen, action_taken, regressed,"
            " forced, refresh_failed, resolved_at)"
        ),
        (
            f"'i' || n, 'crm', '', 'f' || n, 's' || n, 't', 'network', 'k', 1.0, 'b', 'a', 'LOW', 'L0', 'resolved', 1,"
            f" 1, 1, 1, {_THEN}, {_THEN}, 'done', {{no}}, {{no}}, {{no}}, {_THEN}"
        ),
    ),
    "signals": (
        "(id, source, event_id, service, account, outcome, incident_id, occurred_at, received_at, forced)",
        f"'s' || n, 'shop', 'e' || n, 'crm', '', 'failure', 'i' || (n % {{incidents}}), {_THEN}, {_THEN}, {{no}}",
    ),
    "operations": (
        (
            "(id, incident_id, signal_id, service, account, method, endpoint, payload_sealed, idempotency_key, state,"
            " attempts, created_at)"
        ),
        "'o' || n, 'i' || (n % {incidents}), 's' || n, 'crm', '', 'POST', '/', {blob}, 'k' || n, 'done', 1, " + _THEN,
    ),
    "runs": (
        (
            "(id, incident_id, operation_id, service, procedure, remedy, state, attempt, idempotency_key, worker,"
            " started_at, detail)"
        ),
        "'r' || n, 'i' || (n % {incidents}), 'o' || n, 'crm', 'p', 'replay', 'verified', 1, 'k' || n, 'w', {then}, ''",
    ),
    "audit": (
        "(id, at, actor, action, target, incident_id, reason, details)",
        f"'a' || n, {_THEN}, 'prunella', 'incident.opened', 'crm', 'i' || (n % {{incidents}}), '', '{{{{}}}}'",
    ),
}
"""Columns and values of a row numbered n; every kind but the incidents fills a quarter of the rows."""


def run(options: Options) -> Report:
    """Measure both databases."""
    rows = options.amount(_ROWS)
    with places.places() as place:
        report = [row for kind in _NUMBERS for row in _rows(place, kind, rows, options)]
    return Report(f"forget: {rows:,} rows that are over", report)


def _rows(place: places.Places, kind: str, rows: int, options: Options) -> Iterator[Row]:
    floors, ours, ratios = compare(
        options.rounds,
        lambda: _by_hand(_filled(place, kind, rows), rows),
        lambda: asyncio.run(_by_prunella(_filled(place, kind, rows), rows)),
    )
    yield Row(what=f"{kind}: rows forgotten", unit="1/s", ours=ours["rate"], floor=floors["rate"], ratio=ratios["rate"])
    longest = ours["longest_ms"]
    yield Row(
        what=f"{kind}: longest transaction",
        unit="ms",
        ours=longest,
        floor=floors["longest_ms"],
        ratio=ratios["longest_ms"],
        target=f"<= {_LONGEST_S * 1000:.0f} ms",
        met=longest.most <= _LONGEST_S * 1000,
    )


def _filled(place: places.Places, kind: str, rows: int) -> str:
    """Make a database full of what is over."""
    url = place.database(kind)
    migrations.upgrade(url)
    sqlite, prefix = kind == "sqlite", "" if kind == "sqlite" else "prunella."
    incidents = max(min(_INCIDENTS, rows // 20), 1)
    words = {
        "no": "0" if sqlite else "false",
        "blob": "x'00'" if sqlite else "'\\x00'::bytea",
        "incidents": incidents,
        "then": _THEN,
    }
    with create_engine(migrations.sync_url(url)).begin() as connection:
        for table, (columns, values) in _FILL.items():
            most = incidents if table == "incidents" else rows // 4
            numbers = _NUMBERS[kind].format(most=most)
            statement = (
                f"INSERT INTO {prefix}{table} {columns} SELECT {values.format(**words)} FROM {numbers} AS numbers"
            )
            connection.execute(text(statement if sqlite else statement.replace(_THEN, f"{_THEN}::timestamptz")))
    if not sqlite:
        with create_engine(migrations.sync_url(url)).begin() as connection:
            connection.execute(text("ANALYZE"))
    return url


def _by_hand(url: str, rows: int) -> dict[str, float]:
    """Delete everything at once."""
    prefix = "" if make_url(url).get_backend_name() == "sqlite" else "prunella."
    began = time.perf_counter()
    with create_engine(migrations.sync_url(url)).begin() as connection:
        for table, moment in (
            ("operations", "created_at"), ("signals", "received_at"), ("runs", "started_at"), ("audit", "at"),
            ("incidents", "resolved_at"),
        ):  # fmt: skip
            connection.execute(text(f"DELETE FROM {prefix}{table} WHERE {moment} < '2021-01-01 00:00:00.000000+00:00'"))
    took_s = time.perf_counter() - began
    return {"rate": rows / took_s, "longest_ms": took_s * 1000}


async def _by_prunella(url: str, rows: int) -> dict[str, float]:
    """Let the round forget it, and time each of its transactions."""
    sqlite = make_url(url).get_backend_name() == "sqlite"
    store: Store = (
        SqliteStore.open_file(Path(make_url(url).database or ""), SystemClock())
        if sqlite
        else await PostgresStore.open(url)
    )
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    parts = wire(Settings(), store, egress, Keys([b"k" * 32])).parts
    watched = _Watched(store)
    began = time.perf_counter()
    gone = await retention.forget(replace(parts, store=watched), Retention(), within_s=3600)
    took_s = time.perf_counter() - began
    await egress.close()
    await store.close()
    if gone["deleted"] < rows:
        raise RuntimeError(f"forget: {rows} rows were over, and {gone} went")
    return {"rate": rows / took_s, "longest_ms": max(watched.took_s) * 1000}


class _Watched:
    """A store whose transactions are timed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clock, self.revision, self.close = store.clock, store.revision, store.close
        self.took_s: list[float] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction, and note how long it lasted."""
        began = time.perf_counter()
        async with self._store.transaction() as tx:
            yield tx
        self.took_s.append(time.perf_counter() - began)
