"""The examples that ship can be copied and run as their READMEs say."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from databases.shop import opened
from flows.running import start
from prunella.testing import FaultyServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def made(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """Make the example's shop as its README says, and return its address."""
    schema = (folder / f"schema.{kind}.sql").read_text()
    if kind == "sqlite":
        with sqlite3.connect(folder / "shop.db") as database:
            database.executescript(schema)
        database.close()
        return f"sqlite:///{folder / 'shop.db'}"
    url = str(request.getfixturevalue("fresh_postgres_url"))
    with psycopg.connect(url) as connection:
        connection.execute(schema.encode())
    return url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_example_of_orders_heals_and_undoes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Order 123 is stuck: a dry run shows it, a run gives it to Bea, undo gives it back; order 124 is left alone."""
    folder = tmp_path / "orders"
    shutil.copytree(EXAMPLES / "orders", folder)
    url, config = made(kind, folder, request), (folder / "prunella.yaml").read_text()
    found = "SELECT id, status, vendor_id FROM orders ORDER BY id"
    with FaultyServer() as nobody, opened(url) as shop:
        own = {"PRUNELLA_LISTEN": "127.0.0.1:0", "SHOP_DATABASE_URL": url}
        up = start(folder, nobody, f"sqlite:///{folder / 'prunella.db'}", config, **own)
        try:
            up.environ["PRUNELLA_LISTEN"] = urlsplit(up.url).netloc
            assert "reassign_vendor" in up.cli("run", "stuck-order", "--dry-run")
            assert [tuple(row) for row in shop.rows(found)] == [(123, "PENDING", 1), (124, "PENDING", 1)]
            told = up.cli("run", "stuck-order")
            assert "Bea takes it over" in told
            assert [tuple(row) for row in shop.rows(found)] == [(123, "PENDING", 2), (124, "PENDING", 1)]
            (run,) = up.get("/api/v1/runs", role="OPERATIONS")["items"]
            assert "1 rows put back" in up.cli("undo", run["id"])
            assert [tuple(row) for row in shop.rows(found)] == [(123, "PENDING", 1), (124, "PENDING", 1)]
        finally:
            up.end()
