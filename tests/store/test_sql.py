"""Statements mean the same in both dialects, find their rows by index, and carry values unharmed."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select

from prunella.store import incidents
from prunella.store.sql import (
    Dialect,
    IdList,
    PostgresDialect,
    Row,
    Sql,
    SqliteDialect,
    bulk_insert,
    member_of,
    prepare,
)
from prunella.store.tables import audit, metadata, signals
from store.making import NOW

SQLITE, POSTGRES = SqliteDialect(), PostgresDialect()
DIALECTS = pytest.mark.parametrize("dialect", [SQLITE, POSTGRES], ids=lambda dialect: dialect.name)
NOUNS = (
    "audit",
    "credentials",
    "gates",
    "incidents",
    "learning",
    "operations",
    "outbox",
    "procedures",
    "runs",
    "signals",
    "workers",
)
SMALL = {
    "gates._ALL",
    "learning._ALL",  # at a start; patterns and issues are 10,000 at most, and a look at all takes milliseconds
    "learning._CANDIDATES",
    "learning._FIRST_BEYOND",
    "learning._MESSAGES",
    "learning._READY",
    "learning._SLEEP",
    "learning._STATE",
    "credentials._SECRET_NAMES",
    "credentials._RELEASE_OF",
    "procedures._ALL",
    "procedures._RELEASE_ALL",
    "procedures._RELEASE_OF",
    "workers._ALL",
    "workers._BURY",
}
AT_THE_START = {"incidents._RELEASE", "credentials._RELEASE_ALL", "outbox._RELEASE_ALL", "outbox._NEXT"}


def statements() -> Iterator[tuple[str, Sql]]:
    for noun in NOUNS:
        module = importlib.import_module(f"prunella.store.{noun}")
        yield from ((f"{noun}.{name}", value) for name, value in vars(module).items() if isinstance(value, Sql))


STATEMENTS = pytest.mark.parametrize("statement", [pytest.param(value, id=name) for name, value in statements()])


@pytest.fixture
def file(sqlite_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as connection:
        yield connection


# Every statement


def test_statements_are_understood_by_sqlite(file: sqlite3.Connection) -> None:
    """SQLite takes every prepared statement of every noun."""
    for name, statement in statements():
        prepared = statement.prepared(SQLITE)
        assert file.execute(f"EXPLAIN {prepared.text}", prepared.bind({})).fetchall(), name


def test_statements_are_understood_by_postgresql(migrated_postgres_url: str) -> None:
    """PostgreSQL takes every prepared statement of every noun, in prunella's own schema."""
    with psycopg.connect(migrated_postgres_url) as connection:
        for name, statement in statements():
            prepared = statement.prepared(POSTGRES)
            assert connection.execute(f"EXPLAIN {prepared.text}".encode(), prepared.bind({})).fetchall(), name
            assert "prunella." in prepared.text, name


def test_statements_find_their_rows_by_index(file: sqlite3.Connection) -> None:
    """No statement reads a whole table on SQLite, where that stops the loop, but those of a start or a small table."""
    scanning = set()
    for name, statement in statements():
        prepared = statement.prepared(SQLITE)
        plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {prepared.text}", prepared.bind({}))]
        if any(step.startswith("SCAN") and "json_each" not in step and " anon_" not in step for step in plan):
            scanning.add(name)
    assert scanning - SMALL == AT_THE_START


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("_TO_LEARN", "incidents_to_learn"),
        ("_WATCHED", "incidents_watched"),
        ("_NEXT_WATCHED", "incidents_watched"),
        ("_OF_ISSUE", "incidents_by_issue"),
    ],
)
def test_looks_for_little_among_all_incidents_read_little(file: sqlite3.Connection, statement: str, index: str) -> None:
    """What is asked every minute or for every pattern walks the index of the few that it is about."""
    prepared = getattr(incidents, statement).prepared(SQLITE)
    plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {prepared.text}", prepared.bind({}))]
    assert f"INDEX {index} " in plan[0]


def test_statements_are_compiled_once_per_dialect() -> None:
    """The second use of a statement compiles nothing, and each dialect has its own text."""
    statement = Sql(select(audit).where(audit.c.id == "x"))
    assert statement.prepared(SQLITE) is statement.prepared(SqliteDialect())
    assert statement.prepared(SQLITE) is not statement.prepared(POSTGRES)
    assert bulk_insert(SQLITE, audit, 3, "") is bulk_insert(SQLITE, audit, 3, "")


@DIALECTS
def test_values_of_a_statement_do_not_leak_into_the_next(dialect: Dialect) -> None:
    """Binding leaves the statement's constants and the caller's values as they were."""
    prepared = prepare(select(audit).where(audit.c.at >= NOW, audit.c.target == "a\0b"), dialect)
    first = prepared.bind({})
    assert prepared.bind({}) == first
    assert "a\ufffdb" in first.values()
    given_values = {"x": 1}
    prepared.bind(given_values)
    assert given_values == {"x": 1}


# Lists of ids


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "b'", 'c"', "d,e", "{f}", "g\\", "größe", "", "NULL"]], ids=len)
def test_lists_of_ids_match_exactly(file: sqlite3.Connection, migrated_postgres_url: str, ids: list[str]) -> None:
    """Membership holds for the very ids that were given, however they are written, on both databases."""
    stored = ["a", "b'", 'c"', "d", "e", "d,e", "f", "{f}", "g\\", "größe", "", "NULL", "x"]
    found = []
    for dialect in (SQLITE, POSTGRES):
        prepared = prepare(select(signals.c.event_id).where(member_of(signals.c.event_id, "ids")), dialect)
        blank: Row = dict.fromkeys((column.name for column in signals.columns), "x")
        blank |= {"occurred_at": NOW, "received_at": NOW, "forced": False, "failure": None, "payload_shape": None}
        rows = [{**blank, "id": str(number), "event_id": event_id} for number, event_id in enumerate(stored)]
        insert = bulk_insert(dialect, signals, len(rows), "")
        if dialect is SQLITE:
            file.execute(insert.text, insert.bind(rows))
            found.append([row[0] for row in file.execute(prepared.text, prepared.bind({"ids": ids}))])
        else:
            with psycopg.connect(migrated_postgres_url) as connection:
                connection.execute(insert.text.encode(), insert.bind(rows))
                found.append(
                    [row[0] for row in connection.execute(prepared.text.encode(), prepared.bind({"ids": ids}))]
                )
    assert [sorted(one) for one in found] == [sorted(ids)] * 2


@DIALECTS
def test_lists_of_ids_are_one_parameter(dialect: Dialect) -> None:
    """However long the list, the statement keeps its text: no limit of parameters, no new plan."""
    prepared = prepare(select(audit.c.id).where(member_of(audit.c.id, "ids")), dialect)
    encode = dialect.encoder(IdList())
    assert encode is not None
    assert list(prepared.bind({"ids": ["x"] * 100_000})) == ["ids"]


# Bulk inserts


@DIALECTS
@pytest.mark.parametrize("name", metadata.tables)
def test_bulk_insert_names_every_column(dialect: Dialect, name: str) -> None:
    """Every column of every row is given: as a parameter of its own, or in the one JSON value that holds all rows."""
    table = metadata.tables[name]
    insert = bulk_insert(dialect, table, 2, "")
    names = [column.name for column in table.columns]
    bound = insert.bind([dict.fromkeys(names)] * 2)
    assert all(f'"{name}"' in insert.text for name in names)
    if dialect is SQLITE:
        assert bound == [None] * 2 * len(names)
        assert insert.text.count("?") == len(bound)
    else:
        assert isinstance(bound, Mapping)
        assert list(bound) == ["rows"] and "%(rows)s" in insert.text
        assert json.loads(bound["rows"]) == [dict.fromkeys(names)] * 2
