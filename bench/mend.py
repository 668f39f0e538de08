"""Set-based healing of 100,000 rows on PostgreSQL: hide what is out of stock, archive and delete orphans.

Floor: what somebody would write by hand who also archives, an INSERT ... SELECT of the rows as jsonb and the change, in
one transaction, once for all rows and once in the batches that document A asks for.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from bench import places
from bench.harness import Options, Report, Row, compare
from prunella.core.findings import Finding
from prunella.core.procedures import DatabaseSource
from prunella.core.redact import Secret
from prunella.databases.handle import Database
from prunella.remedies.contract import Assignment
from prunella.remedies.rows import ArchiveAndDelete, SetRows

_ROWS = 100_000
_TARGET = 0.5
_TABLES = """
DROP TABLE IF EXISTS products, archive_by_hand, conversations, messages;
DROP SCHEMA IF EXISTS prunella CASCADE;
CREATE TABLE products (id bigint PRIMARY KEY, sku text, name text, stock_level integer, is_visible boolean,
    price numeric(12, 2), updated_at timestamptz);
CREATE TABLE conversations (id bigint PRIMARY KEY);
CREATE TABLE messages (id bigint PRIMARY KEY, conversation_id bigint, author text, body text, created_at timestamptz);
CREATE TABLE archive_by_hand (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id text, table_name text,
    key text, before jsonb, archived_at timestamptz DEFAULT now());
CREATE INDEX ON archive_by_hand (run_id);
"""
_FILLED = """
INSERT INTO products SELECT n, 'sku-' || n, 'a product with a name of number ' || n, 0, true, n / 7.0,
    now() - interval '1 day' FROM generate_series(1, %(rows)s) AS n;
INSERT INTO messages SELECT n, -n, 'author ' || n %% 97, 'a message of some length, number ' || n,
    now() - interval '1 day' FROM generate_series(1, %(rows)s) AS n;
"""
_ORPHANED = "NOT EXISTS (SELECT FROM conversations AS c WHERE c.id = p.conversation_id) {batch}"
_EMPTY = "stock_level = 0 AND is_visible {batch}"
_BY_HAND = {
    "hide": (
        f"SELECT id, to_jsonb(p) AS row FROM products AS p WHERE {_EMPTY} FOR UPDATE",
        f"UPDATE products AS p SET is_visible = false, updated_at = now() WHERE {_EMPTY}",
    ),
    "orphans": (
        f"SELECT id, to_jsonb(p) AS row FROM messages AS p WHERE {_ORPHANED} FOR UPDATE",
        f"DELETE FROM messages AS p WHERE {_ORPHANED}",
    ),
}
_BATCHES = {"hide": (100, 5_000), "orphans": (1_000, 5_000)}


def run(options: Options) -> Report:
    """Measure both procedures, in the batches they come with and in larger ones."""
    rows = options.amount(_ROWS)
    with places.places() as place, warnings.catch_warnings():
        url = place.database("postgresql")
        report = [
            row
            for what, batches in _BATCHES.items()
            for batch in batches
            for row in _rows(url, what, batch, rows, options)
        ]
    notes = [f"{rows:,} rows; ours: keys are given, the condition is checked again, undo needs nothing else"]
    return Report("mend: rows that are archived and changed, per second", report, notes)


def _rows(url: str, what: str, batch: int, rows: int, options: Options) -> Iterator[Row]:
    for floor, words in ((rows, "in one go"), (batch, "in the same batches")):
        floors, ours, ratios = compare(
            options.rounds,
            lambda floor=floor: {"rate": rows / _measured(url, rows, lambda: _by_hand(url, what, floor, rows))},  # type: ignore[misc]
            lambda: {"rate": rows / _measured(url, rows, lambda: _by_prunella(url, what, batch, rows))},
        )
        yield Row(
            what=f"{what} in batches of {batch:,}, by hand {words}",
            unit="rows/s",
            floor=floors["rate"],
            ours=ours["rate"],
            ratio=ratios["rate"],
            target=f"ratio >= {_TARGET}",
            met=ratios["rate"].median >= _TARGET,
        )


def _measured(url: str, rows: int, work: Callable[[], float]) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLES)
        for one in filter(str.strip, _FILLED.split(";")):
            connection.execute(one.encode(), {"rows": rows})
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    return work()


def _by_hand(url: str, what: str, batch: int, rows: int) -> float:
    found, change = _BY_HAND[what]
    table = "products" if what == "hide" else "messages"
    with psycopg.connect(url) as connection:
        begin = time.perf_counter()
        for start in range(1, rows + 1, batch):
            some = "" if batch == rows else f"AND p.id BETWEEN {start} AND {start + batch - 1}"
            change_some = change.replace("UPDATE products SET", "UPDATE products AS p SET").format(batch=some)
            into = "INSERT INTO archive_by_hand (run_id, table_name, key, before)"
            connection.execute(
                f"{into} SELECT 'run', '{table}', id::text, row FROM ({found.format(batch=some)}) AS s".encode()
            )
            connection.execute(change_some.encode())
            connection.commit()
        return time.perf_counter() - begin


def _by_prunella(url: str, what: str, batch: int, rows: int) -> float:
    return asyncio.run(_healed(url, what, batch, rows))


async def _healed(url: str, what: str, batch: int, rows: int) -> float:
    database = Database(DatabaseSource(name="shop", url=Secret(url)))
    remedy: Any
    if what == "hide":
        values = {"is_visible": False, "updated_at": "now"}
        remedy = SetRows(database, "products", values, batch=batch, still=_out_of_stock)
    else:
        remedy = ArchiveAndDelete(database, "messages", batch=batch, still=_orphaned(database))
    finding = Finding(key="rows", issue="ROWS_MATCH", message="…", keys=tuple(range(1, rows + 1)), count=rows)
    given = Assignment(run_id="run", incident_id="i", attempt=1, idempotency_key="k", finding=finding)
    begin = time.perf_counter()
    (outcome,) = await remedy.apply([given])
    seconds = time.perf_counter() - begin
    assert outcome.touched == rows, outcome.detail
    await database.close()
    return seconds


def _out_of_stock(_: Any, table: Any) -> Any:
    return (table.c.stock_level == 0) & table.c.is_visible


def _orphaned(database: Database) -> Any:
    def still(connection: Any, table: Any) -> Any:
        parents = database.table(connection, "conversations")
        return ~parents.select().where(parents.c.id == table.c.conversation_id).exists()

    return still
