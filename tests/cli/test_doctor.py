"""Doctor finds what is wrong and prints how to put it right; grants are printed and never run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cli.conftest import Command

PROCEDURES = """
databases: {{shop: {{url: "sqlite:///{folder}/shop.db"}}}}
entities:
  order:
    database: shop
    table: orders
    key: id
    status: status
    since: {since}
    every: 5m
    transitions: {{PENDING: [CANCELLED]}}
    stuck: {{PENDING: {{after: 30m, remedy: {remedy}}}}}
procedures:
  hide:
    database: shop
    check: {{rows: {{table: products, where: {{stock: 0}}}}}}
    remedy: {{set: {{visible: 0}}}}
    every: 1h
"""


@pytest.fixture
def shop(configured: Path) -> Path:
    """Make a shop without indexes, and configure it."""
    with sqlite3.connect(configured.parent / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, updated_at TEXT)")
        database.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, stock INTEGER, visible INTEGER)")
    configured.write_text(configured.read_text() + written(configured.parent))
    return configured


def written(folder: Path, since: str = "updated_at", remedy: str = "retry_workflow") -> str:
    """Return the configuration of the shop."""
    return PROCEDURES.format(folder=folder, since=since, remedy=remedy)


def test_missing_indexes_are_printed_and_what_is_printed_helps(command: Command, shop: Path) -> None:
    """Status 1 with each CREATE INDEX; once they were run, all is well with status 0."""
    said = command("doctor")
    statements = [line.strip() for line in said.out.splitlines() if line.strip().startswith("CREATE INDEX")]
    assert (said.status, len(statements)) == (1, 2)
    assert "2 to put right" in said.out
    with sqlite3.connect(shop.parent / "shop.db") as database:
        for statement in statements:
            database.execute(statement)
    well = command("doctor")
    assert (well.status, well.out) == (0, "prunella.yaml: all is well\n")


def test_names_that_are_not_in_the_catalogue_are_told_at_their_place(command: Command, shop: Path) -> None:
    """File, line and column, and what was meant."""
    shop.write_text(shop.read_text().replace("since: updated_at", "since: updated"))
    said = command("doctor")
    assert said.status == 1
    assert "prunella.yaml:" in said.out
    assert "did you mean updated_at?" in said.out


def test_functions_that_nobody_registered_are_told(command: Command, shop: Path) -> None:
    """A remedy that no module brings along."""
    shop.write_text(shop.read_text().replace("remedy: retry_workflow", "remedy: pray"))
    said = command("doctor")
    assert (said.status, "'pray' is no remedy" in said.out) == (1, True)


def test_configuration_that_cannot_be_read_is_told(command: Command, folder: Path) -> None:
    """Its mistakes are the findings, status 1."""
    (folder / "prunella.yaml").write_text("servces: {}\n")
    said = command("doctor")
    assert (said.status, "did you mean services?" in said.out) == (1, True)


def test_database_that_is_away_is_told(command: Command, shop: Path) -> None:
    """It is named; the others are looked at all the same."""
    (shop.parent / "shop.db").unlink()
    (shop.parent / "shop.db").mkdir()
    said = command("doctor")
    assert (said.status, "database shop" in said.out) == (1, True)


def test_grants_are_printed_for_what_is_named(command: Command, shop: Path) -> None:
    """Only with --print, only of databases that there are."""
    assert command("db", "grant").status == 2
    said = command("db", "grant", "--print", "--database", "attic")
    assert (said.status, "known: shop" in said.err) == (2, True)
    assert "SQLite, which knows no roles" in command("db", "grant", "--print").out
