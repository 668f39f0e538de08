"""Doctor finds what is wrong and prints how to put it right; grants are printed and never run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cli.conftest import Command
from pooler import pooling

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


def test_pooler_is_told_and_is_nothing_to_put_right(
    command: Command, configured: Path, migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a transaction pooler prunella says how it works there; a way past it that is none is to be put right."""
    with pooling(migrated_postgres_url) as url:
        monkeypatch.setenv("PRUNELLA_DATABASE_URL", url)
        well = command("doctor")
        assert (well.status, "through a transaction pooler" in well.out) == (0, True)
        assert "asked for every 0.5 s" in well.out
        monkeypatch.setenv("PRUNELLA_DIRECT_URL", migrated_postgres_url)
        assert "by way of service.direct_url" in command("doctor").out
        monkeypatch.setenv("PRUNELLA_DIRECT_URL", url)
        ill = command("doctor")
        assert ill.status == 1
        assert "PRUNELLA_DIRECT_URL service.direct_url: goes through a transaction pooler, too" in ill.out


def test_own_database_that_is_away_is_told(command: Command, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PostgreSQL does not answer, its setting is named; neither the address nor the password is."""
    monkeypatch.setenv("PRUNELLA_DATABASE_URL", "postgresql://me:hunter2hunter2@127.0.0.1:1/none")
    said = command("doctor")
    assert (said.status, "service.database_url: PostgreSQL does not answer" in said.out) == (1, True)
    assert "hunter2" not in said.out + said.err


def test_grants_are_printed_for_what_is_named(command: Command, shop: Path) -> None:
    """Only with --print, only of databases that there are."""
    assert command("db", "grant").status == 2
    said = command("db", "grant", "--print", "--database", "attic")
    assert (said.status, "known: shop" in said.err) == (2, True)
    assert "SQLite, which knows no roles" in command("db", "grant", "--print").out
