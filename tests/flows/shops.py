"""A user's shop on a real database, healed by a real `prunella up`: tables, a configuration over them, plug-ins.

Each test has tables of its own, or empties those that it shares, so that no test sees what another one left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from databases.shop import Shop, opened
from flows.running import Up, eventually, running
from prunella.testing import FaultyServer

TABLES = (
    "CREATE TABLE supplier_products (id integer PRIMARY KEY, name text, last_synced_at MOMENT)",
    "CREATE TABLE tlx_distributors (id integer PRIMARY KEY, last_synced_at MOMENT)",
    "CREATE TABLE future_feed (id integer PRIMARY KEY, last_synced_at MOMENT)",
    (
        "CREATE TABLE integration_logs "
        "(id integer PRIMARY KEY, source text, status text, error_message text, created_at MOMENT)"
    ),
    "CREATE TABLE import_logs (id integer PRIMARY KEY, source text, status text, error_message text, created_at MOMENT)",
    (
        "CREATE TABLE bc_products "
        "(id integer PRIMARY KEY, name text, stock_level integer, is_visible boolean, updated_at MOMENT)"
    ),
    "CREATE TABLE livechat_conversations (id integer PRIMARY KEY)",
    (
        "CREATE TABLE livechat_messages (id integer PRIMARY KEY, conversation_id integer, body text, score double precision,"
        " attachment BLOB, created_at MOMENT)"
    ),
    "CREATE TABLE flags (id integer PRIMARY KEY, state text NOT NULL, note text)",
    "CREATE TABLE drafts (id integer PRIMARY KEY, state text NOT NULL, created_at MOMENT)",
    "CREATE TABLE shelves (id integer PRIMARY KEY, stock integer, shown boolean)",
    "CREATE TABLE vendors (id integer PRIMARY KEY, name text NOT NULL, open boolean NOT NULL)",
    "CREATE TABLE refunds (order_id integer PRIMARY KEY, amount numeric(10, 2) NOT NULL)",
    (
        "CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL, vendor_id integer, payment_method text,"
        " amount numeric(10, 2), updated_at MOMENT NOT NULL)"
    ),
    (
        "CREATE TABLE rush_orders (id integer PRIMARY KEY, status text NOT NULL, vendor_id integer, payment_method text,"
        " amount numeric(10, 2), updated_at MOMENT NOT NULL)"
    ),
    "CREATE TABLE odd_orders (id integer PRIMARY KEY, status text NOT NULL, updated_at MOMENT NOT NULL)",
    """CREATE TABLE "select; DROP" ("Id" integer PRIMARY KEY, "Group By" integer, "moved at" MOMENT)""",
    "INSERT INTO vendors VALUES (1, 'Ada', true), (2, 'Bea', true), (3, 'Cem', false)",
    "INSERT INTO tlx_distributors VALUES (1, AGO(100000))",
)

HEALING = '''
"""The shop's business steps."""

import time

from prunella.plugin import Finding, Outcome, check, remedy


@remedy("reassign_vendor", idempotent=True, reversible=True)
async def reassign_vendor(ctx, order):
    others = await ctx.database.fetch_all(
        "SELECT id FROM vendors WHERE open AND id <> :vendor ORDER BY id", vendor=order["vendor_id"]
    )
    if order["vendor_id"] == 9 or not others:
        return Outcome.failed("no other vendor is open")
    return Outcome.changed(status="PENDING", vendor_id=others[0]["id"], note=f"vendor {others[0]['id']} takes it")


@remedy("retry_workflow", idempotent=True, reversible=True)
def retry_workflow(ctx, order):
    return Outcome.changed(updated_at="now", note="the workflow starts anew")


@remedy("cancel_order", idempotent=True)
async def cancel_order(ctx, order):
    if order["payment_method"] == "CREDIT":
        await ctx.database.execute(
            "INSERT INTO refunds (order_id, amount) VALUES (:id, :amount)", id=order["id"], amount=order["amount"]
        )
    return Outcome.changed(status="CANCELLED", note="cancelled, because nothing else helped")


@remedy("push_visibility", idempotent=True, per="batch")
async def push_visibility(ctx, rows):
    ids = [row["id"] for row in rows]
    reply = await ctx.egress.request("platform", "POST", "/visibility", json={"ids": ids})
    return Outcome.done() if reply.status == 200 else Outcome.failed(f"the shop answered {reply.status}")


@remedy("does_not_help", idempotent=True)
def does_not_help(ctx, order):
    return Outcome.failed("no vendor left")


@remedy("explodes")
def explodes(ctx, order):
    raise RuntimeError("boom with token=sk_live_1234567890abcdef")


@remedy("hangs", timeout_s=0.3)
def hangs(ctx, order):
    time.sleep(3)


@remedy("talks_nonsense")
def talks_nonsense(ctx, order):
    return 42


@check("hidden_check", every="1h", level="L1", remedy="manual_intervention", first_run="wait")
async def hidden_check(ctx):
    return [Finding(key="somewhere", issue="ODD", message="it is odd")]


@check("bad_check")
async def bad_check(ctx):
    raise LookupError("the check does not know what to do")
'''

ORDER = """
    key: id
    status: status
    since: updated_at
    transitions:
      PENDING: [CONFIRMED, CANCELLED]
      CONFIRMED: [ACCEPTED, CANCELLED]
      ACCEPTED: [PROCESSING, PENDING, CANCELLED]
      PROCESSING: [SHIPPED, CANCELLED]
"""

CONFIGURATION = """\
service: {{listen: "${{LISTEN}}", environment: development, plugins: [shop_healing]}}
egress: {{allow_http: true, allow_hosts: ["{host}"]}}
services:
  platform: {{base_url: "{n8n}/platform", timeout: 2s}}
  crm:
    base_url: {n8n}/crm
    timeout: 2s
    health: {{path: /health, every: 1s, timeout: 1s, status_page: "https://status.crm.example"}}
    gate: {{failures: 2, successes: 1, open: 1s}}
databases:
  shop: {{url: "${{SHOP_DATABASE_URL}}"}}
procedures:
  stale-supplier-stock:
    id: HEAL_SYNC_001
    database: shop
    check: {{freshness: {{table: supplier_products, column: last_synced_at, older_than: 4h}}}}
    remedy: {{webhook: {{url: "{n8n}/webhook/sync-supplier-stock", bearer: "${{APP_SECRET}}"}}}}
    every: 6h
    first_run: wait
    verify: {{within: 30m}}
  stale-distributors:
    id: HEAL_SYNC_001
    database: shop
    check: {{freshness: {{table: tlx_distributors, column: last_synced_at, older_than: 24h}}}}
    remedy: {{webhook: {{url: "{n8n}/webhook/sync-unleashed-distributors", bearer: "${{APP_SECRET}}"}}}}
    every: 15m
  future-feed:
    id: HEAL_SYNC_001
    database: shop
    check: {{freshness: {{table: future_feed, column: last_synced_at, older_than: 24h}}}}
    remedy: {{webhook: {{url: "{n8n}/webhook/future"}}}}
    every: 6h
    first_run: wait
  failed-syncs:
    id: HEAL_SYNC_002
    database: shop
    check: {{errors: {{table: integration_logs, status: error, by: source, message: error_message, at: created_at,
                      within: 30m, good: {{status: success}}}}}}
    remedy: {{retry_later: {{delays: [1m, 2m, 4m], webhook: {{url: "{n8n}/webhook/{{source}}", bearer: "${{APP_SECRET}}"}}}}}}
    every: 6h
    first_run: wait
  failed-imports:
    id: HEAL_SYNC_002
    database: shop
    check: {{errors: {{table: import_logs, status: error, by: source, message: error_message, at: created_at,
                      within: 30m, good: {{status: success}}}}}}
    remedy: {{retry_later: {{delays: [1s, 1s, 1s], webhook: {{url: "{n8n}/failing/{{source}}"}}}}}}
    every: 6h
    first_run: wait
  hide-zero-stock:
    id: HEAL_DATA_002
    database: shop
    check: {{rows: {{table: bc_products, where: {{stock_level: 0, is_visible: true}}, older_than: {{updated_at: 1m}}}}}}
    remedy: {{set: {{is_visible: false, updated_at: now, batch: 100}}, then: push_visibility}}
    every: 6h
    first_run: wait
  orphan-messages:
    id: HEAL_DATA_003
    database: shop
    check: {{orphans: {{child: livechat_messages, column: conversation_id, parent: livechat_conversations,
                       older_than: {{created_at: 10m}}}}}}
    remedy: {{archive_and_delete: {{}}}}
    sightings: {{count: 2, apart: 0s}}
    every: 6h
    first_run: wait
    level: L1
  clear-flags:
    database: shop
    check: {{rows: {{table: flags, where: {{state: stale}}}}}}
    remedy: {{set: {{state: clear}}}}
    every: 1h
    first_run: wait
    level: L2
    limits: {{share_max: 1.0}}
  flags-by-hand:
    database: shop
    check: {{rows: {{table: flags, where: {{state: broken}}}}}}
    remedy: {{set: {{state: clear}}}}
    every: 1h
    first_run: wait
    level: L3
    limits: {{share_max: 1.0}}
  hide-shelves:
    database: shop
    check: {{rows: {{table: shelves, where: {{stock: 0, shown: true}}}}}}
    remedy: {{set: {{shown: false}}}}
    every: 1h
    first_run: wait
    limits: {{targets_max: 30}}
  drop-drafts:
    database: shop
    check: {{rows: {{table: drafts, where: {{state: empty}}, older_than: {{created_at: 1m}}}}}}
    remedy: archive_and_delete
    every: 1h
    first_run: wait
    level: L1
  odd-names:
    database: shop
    check: {{rows: {{table: "select; DROP", where: {{"Group By": 1}}}}}}
    remedy: {{set: {{"Group By": 2, "moved at": now}}}}
    every: 1h
    first_run: wait
    limits: {{share_max: 1.0}}
  broken-check:
    check: bad_check
    remedy: manual_intervention
    every: 1h
    first_run: wait
{pool}
entities:
  order:
    database: shop
    table: orders
{order}
    stuck:
      PENDING: {{after: 30m, remedy: reassign_vendor}}
      CONFIRMED: {{after: 60m, remedy: retry_workflow}}
      ACCEPTED: {{after: 120m, remedy: reassign_vendor}}
      PROCESSING: {{after: 180m, remedy: retry_workflow}}
    give_up: {{after_attempts: 3, remedy: manual_intervention}}
    every: 6h
    first_run: wait
  rush-order:
    database: shop
    table: rush_orders
{order}
    stuck:
      PENDING: {{after: 30m, remedy: does_not_help}}
    give_up: {{after_attempts: 3, remedy: cancel_order}}
    every: 6h
    first_run: wait
  odd-order:
    database: shop
    table: odd_orders
{order}
    stuck:
      PENDING: {{after: 30m, remedy: explodes}}
      CONFIRMED: {{after: 30m, remedy: hangs}}
      ACCEPTED: {{after: 30m, remedy: talks_nonsense}}
      PROCESSING: {{after: 30m, remedy: retry_workflow}}
    every: 6h
    first_run: wait
"""

POOL = """\
  shop-pool:
    id: HEAL_CONN_002
    database: shop
    check: {pool: {above: 0.001}}
    remedy: {end_idle_connections: {idle_for: 1s}}
    notify_above: 0.001
    every: 6h
    first_run: wait
    level: L1
"""


@dataclass
class Store:
    """A running prunella with the shop that it looks after."""

    up: Up
    shop: Shop

    @property
    def n8n(self) -> FaultyServer:
        """Return the server that plays n8n and the shop's platform."""
        return self.up.shop

    def fill(self, *statements: str) -> None:
        """Run statements on the shop; {seconds ago} is written as AGO(seconds)."""
        self.shop.run(*(spelled(self.shop, statement) for statement in statements))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the shop."""
        return [tuple(row) for row in self.shop.rows(spelled(self.shop, query))]

    def order(
        self, number: int, status: str, minutes: float, *, vendor: int = 1, pay: str = "CARD", table: str = "orders"
    ) -> None:
        """Put in an order that has been in its status for so long."""
        self.fill(f"INSERT INTO {table} VALUES ({number}, '{status}', {vendor}, '{pay}', 19.90, AGO({minutes * 60}))")

    def run(self, procedure: str, *, dry: bool = False) -> dict[str, Any]:
        """Run a procedure now; a look within a second of an ending says nothing, so look again."""
        swept: dict[str, Any] = {}

        def looked() -> bool:
            swept.update(self.did(f"/api/v1/procedures/{procedure}/run", {"dry_run": dry}))
            return not any("proven well after this look" in why for why in swept["waiting"].values())

        eventually(looked)
        return swept

    def cycle(self, entity: str = "order") -> dict[str, Any]:
        """Run a healing cycle and return what it came to."""
        result: dict[str, Any] = self.did(f"/api/v1/self-healing/run-cycle?entity={entity}")["result"]
        return result

    def did(self, path: str, body: object = None, status: int = 200) -> dict[str, Any]:
        """Post something and return the answer."""
        reply = self.ask("POST", path, body)
        assert reply.status_code == status, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def ask(self, method: str, path: str, body: object = None, role: str = "OPERATIONS") -> httpx2.Response:
        """Send a request as somebody with a role."""
        return self.up.act(method, path, body, role)

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return the items of a list."""
        found: list[dict[str, Any]] = self.up.get(f"/api/v1/{path}", role="OPERATIONS", **query)["items"]
        return found

    def incidents(self, procedure: str, **query: Any) -> list[dict[str, Any]]:
        """Return the incidents of a procedure, the newest first."""
        found = self.items("incidents", limit=200, **query)
        return [one for one in found if one["procedure"] == procedure]

    def calls(self, path: str) -> list[Any]:
        """Return the bodies of what was posted to a path."""
        return [json.loads(one.body) for one in self.requests(path)]

    def requests(self, path: str) -> Sequence[Any]:
        """Return what was posted to a path."""
        return [one for one in self.n8n.ledger.requests if one.path == path and one.method == "POST"]


def config(n8n: FaultyServer, kind: str, text: str = CONFIGURATION) -> str:
    """Return the configuration for a kind of database."""
    host = urlsplit(n8n.url).netloc
    return text.format(host=host, n8n=n8n.url, order=ORDER, pool=POOL if kind == "postgresql" else "")


def prepare(shop: Shop) -> None:
    """Make the tables."""
    blob = "bytea" if shop.kind == "postgresql" else "BLOB"
    shop.run(*(spelled(shop, one.replace("BLOB", blob)) for one in TABLES))


def spelled(shop: Shop, statement: str) -> str:
    """Write each AGO(seconds) as the database's own expression for that moment."""
    return re.sub(r"AGO\(([^()]+)\)", lambda found: shop.past(float(found[1])), statement)


@contextmanager
def store(folder: Path, shop_url: str, store_url: str) -> Iterator[Store]:
    """Make a shop, and start a prunella that looks after it."""
    with opened(shop_url) as shop, FaultyServer() as n8n:
        prepare(shop)
        (folder / "shop_healing.py").write_text(HEALING)
        with running(folder, n8n, store_url, config(n8n, shop.kind), SHOP_DATABASE_URL=shop_url) as up:
            yield Store(up, shop)
