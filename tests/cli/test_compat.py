"""`prunella db upgrade --compat`: one command, every PostgreSQL database of the user, twice without harm."""

from __future__ import annotations

from pathlib import Path

import psycopg

from cli.conftest import Command

ENTITY = """
entities:
  order:
    database: shop
    table: orders
    key: id
    status: status
    since: updated_at
    transitions: {PENDING: [CONFIRMED]}
    stuck: {PENDING: {after: 30m, remedy: retry_workflow}}
    every: 5m
"""


def test_functions_are_installed_where_they_can_be(command: Command, folder: Path, fresh_postgres_url: str) -> None:
    """PostgreSQL gets them, other databases are named; the second time everything stands as it should."""
    (folder / "prunella.yaml").write_text(
        f"service: {{database_url: 'sqlite:///{folder}/prunella.db'}}\n"
        f"databases: {{shop: {{url: '{fresh_postgres_url}'}}, files: {{url: 'sqlite:///{folder}/files.db'}}}}\n{ENTITY}"
    )
    with psycopg.connect(fresh_postgres_url, autocommit=True) as shop:
        shop.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at timestamptz)")
        shop.execute("INSERT INTO orders VALUES (7, 'PENDING', now() - interval '1 h')")
        first = command("db", "upgrade", "--compat")
        assert first.status == 0, first.err
        assert 'database shop: created "public"."detect_stuck_orders"' in first.out.splitlines()
        assert "database files: sqlite has no SQL functions; nothing to install" in first.out.splitlines()
        assert "database shop: everything stands as it should" in command("db", "upgrade", "--compat").out.splitlines()
        rows = shop.execute("SELECT order_id, issue_type, recommended_action FROM detect_stuck_orders()").fetchall()
        assert rows == [(7, "STUCK_PENDING", "RETRY_WORKFLOW")]


def test_what_can_not_be_installed_is_one_line(command: Command, folder: Path, fresh_postgres_url: str) -> None:
    """A table that is missing ends the command with status 1 and says what to look at."""
    (folder / "prunella.yaml").write_text(
        f"service: {{database_url: 'sqlite:///{folder}/prunella.db'}}\n"
        f"databases: {{shop: {{url: '{fresh_postgres_url}'}}}}\n{ENTITY}"
    )
    said = command("db", "upgrade", "--compat")
    assert said.status == 1
    assert said.err.startswith("prunella: entities.order: table orders has no column 'id'; it has none")


def test_without_databases_nothing_is_installed(command: Command, configured: Path) -> None:
    """A configuration that names no database says so."""
    said = command("db", "upgrade", "--compat")
    assert (said.status, said.out.count("nothing to install")) == (0, 1)
