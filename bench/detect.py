"""What a look at a table of a million rows costs, against the least that somebody would write by hand for it.

Floor: psycopg on an open connection, in a read-only transaction with a statement timeout, the minimal query that
answers the question (for rows and orphans their keys, as document A asks for them). Ours: `check.look()`, with clock,
visibility, counts, keys and share. Both use the indexes that `prunella.databases.indexes` names. Where a query takes
less than a millisecond, the fixed cost of a look decides: a thread, limits, visibility, the share of the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg

from bench import places
from bench.harness import Options, Report, Row, compare
from prunella.checks.failed import Failed
from prunella.checks.freshness import Freshness
from prunella.checks.orphans import Orphans
from prunella.checks.rows import Rows
from prunella.checks.stuck import Stuck
from prunella.core.procedures import (
    DatabaseSource,
    Entity,
    ErrorsCheck,
    FreshnessCheck,
    OrphansCheck,
    RowsCheck,
    StuckRule,
)
from prunella.core.redact import Secret
from prunella.core.states import StateMachine
from prunella.databases.handle import Database

_ROWS, _LOOKS = 1_000_000, 15
_RATIO_MAX = 2.0
_TABLES = """
CREATE TABLE stock (id bigint PRIMARY KEY, last_synced_at timestamptz);
INSERT INTO stock SELECT n, now() - n * interval '1 second' FROM generate_series(1, {rows}) n;
CREATE INDEX ON stock (last_synced_at);
CREATE TABLE products (id bigint PRIMARY KEY, stock_level int, is_visible boolean, updated_at timestamptz, name text);
INSERT INTO products SELECT n, n % 10, n % 3 > 0, now() - n * interval '1 second', repeat('x', 60)
  FROM generate_series(1, {rows}) n;
CREATE INDEX ON products (stock_level, is_visible, updated_at);
CREATE TABLE conversations (id bigint PRIMARY KEY);
INSERT INTO conversations SELECT n FROM generate_series(1, {rows}) n;
CREATE TABLE messages (id bigint PRIMARY KEY, conversation_id bigint, created_at timestamptz);
INSERT INTO messages SELECT n, CASE WHEN n % 1000 = 0 THEN -n ELSE n END, now() - n * interval '1 second'
  FROM generate_series(1, {rows}) n;
CREATE INDEX ON messages (conversation_id);
CREATE TABLE orders (id bigint PRIMARY KEY, status text, updated_at timestamptz, note text);
INSERT INTO orders SELECT n, CASE WHEN n % 100 = 0 THEN (ARRAY['PENDING', 'CONFIRMED', 'ACCEPTED'])[1 + n / 100 % 3]
  ELSE 'DONE' END, now() - (n % 7200) * interval '1 second', repeat('x', 60) FROM generate_series(1, {rows}) n;
CREATE INDEX ON orders (status, updated_at);
CREATE TABLE logs (id bigint PRIMARY KEY, source text, status text, error_message text, created_at timestamptz);
INSERT INTO logs SELECT n, 's' || n % 20, CASE WHEN n % 4 = 0 THEN 'error' ELSE 'ok' END, repeat('x', 60),
  now() - n * interval '1 second' FROM generate_series(1, {rows}) n;
CREATE INDEX ON logs (created_at);
"""
_ENTITY = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine({}),
    stuck={
        "PENDING": StuckRule(after_s=1800, remedy="retry_workflow"),
        "CONFIRMED": StuckRule(after_s=3600, remedy="retry_workflow"),
        "ACCEPTED": StuckRule(after_s=7100, remedy="retry_workflow"),
    },
)
_BY_HAND: Mapping[str, str] = {
    "freshness": "SELECT max(last_synced_at) FROM stock",
    "fresh errors of 20 sources": "SELECT DISTINCT ON (source) source, error_message FROM logs WHERE status = 'error' "
    "AND created_at >= now() - interval '30 min' ORDER BY source, created_at DESC",
    "rows, 1 of 15 match": "SELECT id FROM products WHERE stock_level = 0 AND is_visible "
    "AND updated_at < now() - interval '1 min'",
    "rows, 1 of 2,000 matches": "SELECT id FROM products WHERE stock_level = 0 AND is_visible "
    "AND updated_at < now() - interval '11.5 days'",
    "orphans, 1 of 1,000": "SELECT id FROM messages m WHERE conversation_id IS NOT NULL AND created_at < now() - "
    "interval '10 min' AND NOT EXISTS (SELECT FROM conversations c WHERE c.id = m.conversation_id)",
    "stuck, 500 oldest": "SELECT * FROM orders WHERE (status = 'PENDING' AND updated_at < now() - interval '30 min') "
    "OR (status = 'CONFIRMED' AND updated_at < now() - interval '60 min') "
    "OR (status = 'ACCEPTED' AND updated_at < now() - interval '7100 s') ORDER BY updated_at LIMIT 500",
}


def run(options: Options) -> Report:
    """Measure every check on PostgreSQL."""
    rows = options.amount(_ROWS)
    with places.places() as place, asyncio.Runner() as runner:
        url = place.database("postgresql")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_TABLES.format(rows=rows).encode())
            connection.execute("VACUUM ANALYZE")
        database = Database(DatabaseSource(name="shop", url=Secret(url)))
        with psycopg.connect(url) as by_hand:
            measured = [_row(name, check, database, by_hand, runner, options) for name, check in _checks(database)]
        runner.run(database.close())
    notes = [f"{rows:,} rows in each table; median of {_LOOKS} looks per round"]
    return Report("detect: one look of a check, in milliseconds", measured, notes)


def _checks(database: Database) -> Iterator[tuple[str, Any]]:
    where = {"stock_level": 0, "is_visible": True}
    yield "freshness", Freshness(database, FreshnessCheck(table="stock", column="last_synced_at", older_than_s=14400))
    errors = ErrorsCheck(table="logs", where={"status": "error"}, by="source", message="error_message", at="created_at")
    yield "fresh errors of 20 sources", Failed(database, errors)
    for name, age_s in (("rows, 1 of 15 match", 60.0), ("rows, 1 of 2,000 matches", 11.5 * 86400)):
        yield name, Rows(database, RowsCheck(table="products", where=where, older_than={"updated_at": age_s}))
    orphans = OrphansCheck(
        child="messages", column="conversation_id", parent="conversations", older_than={"created_at": 600.0}
    )
    yield "orphans, 1 of 1,000", Orphans(database, orphans)
    yield "stuck, 500 oldest", Stuck(database, _ENTITY)


def _row(
    name: str,
    check: Any,
    database: Database,
    by_hand: psycopg.Connection[Any],
    runner: asyncio.Runner,
    options: Options,
) -> Row:
    async def looks() -> float:
        return _median([await _timed_look(check) for _ in range(_LOOKS)])

    floors, ours, ratios = compare(
        options.rounds,
        lambda: {"ms": _median([_timed(lambda: _asked(by_hand, _BY_HAND[name])) for _ in range(_LOOKS)])},
        lambda: {"ms": runner.run(looks())},
    )
    return Row(
        what=name,
        unit="ms",
        floor=floors["ms"],
        ours=ours["ms"],
        ratio=ratios["ms"],
        target=f"ratio <= {_RATIO_MAX:g}",
        met=ratios["ms"].median <= _RATIO_MAX,
    )


def _asked(connection: psycopg.Connection[Any], query: str) -> None:
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        connection.execute("SET LOCAL statement_timeout = 30000")
        connection.execute(query.encode()).fetchall()


def _timed(work: Callable[[], None]) -> float:
    begun_s = time.perf_counter()
    work()
    return (time.perf_counter() - begun_s) * 1000


async def _timed_look(check: Any) -> float:
    begun_s = time.perf_counter()
    await check.look()
    return (time.perf_counter() - begun_s) * 1000


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
