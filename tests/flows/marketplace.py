"""A marketplace beside a running `prunella up`: stuck orders with the user's own steps, products out of stock."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from databases.shop import Shop, opened
from flows.running import Up, configuration, running
from prunella.testing import FaultyServer

STEPS = """
from prunella.plugin import Outcome, remedy

@remedy("reassign_vendor", per="row")
def reassign_vendor(ctx, row):
    if row["vendor_id"] == 13:
        return Outcome.failed("no vendor left")
    return Outcome.changed(status="CONFIRMED", vendor_id=7, note="vendor 7")
"""


def orders(address: str) -> str:
    """Return the configuration; procedures run when they are told to, and by their schedule hardly ever."""
    return textwrap.dedent(
        f"""\
        databases:
          shop: {{url: "{address}"}}
        entities:
          order:
            database: shop
            table: orders
            key: id
            status: status
            since: updated_at
            every: 1h
            first_run: wait
            transitions:
              PENDING: [CONFIRMED, CANCELLED]
              CONFIRMED: [ACCEPTED, CANCELLED]
              ACCEPTED: [CANCELLED]
            stuck:
              PENDING: {{after: 30m, remedy: reassign_vendor}}
              CONFIRMED: {{after: 60m, remedy: retry_workflow}}
        procedures:
          hide-zero-stock:
            id: HEAL_DATA_002
            database: shop
            check: {{rows: {{table: products, where: {{stock: 0, visible: 1}}}}}}
            remedy: {{set: {{visible: 0}}}}
            level: L2
            every: 1h
            first_run: wait
        """
    )


@contextmanager
def marketplace(folder: Path, store_url: str, shop_url: str) -> Iterator[tuple[Up, Shop]]:
    """Start `prunella up` over a shop with twenty products."""
    (folder / "steps.py").write_text(STEPS)
    with opened(shop_url) as shop, FaultyServer() as world:
        shop.run(
            "CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL, vendor_id integer, "
            "updated_at MOMENT NOT NULL)",
            "CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible integer)",
            "INSERT INTO products VALUES " + ", ".join(f"({n}, {0 if n < 3 else 9}, 1)" for n in range(1, 21)),
        )
        config = configuration(world, orders(shop_url)).replace(
            "environment: development", "environment: development, plugins: [steps]"
        )
        with running(folder, world, store_url, config) as up:
            yield up, shop
