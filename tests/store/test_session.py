"""Rows go in and come out as records, in parts that both databases take."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from prunella.core.clock import ManualClock
from prunella.core.errors import Conflict
from prunella.core.records import AuditEntry, Gate
from prunella.store.session import _ROWS_PER_INSERT, Session, must_change, record, records, row_of
from prunella.store.sql import Sql, param, prepare
from prunella.store.sqlite import SqliteStore
from prunella.store.tables import audit, metadata, switches
from store.making import credential, entry, incident, notification, operation, run

pytestmark = pytest.mark.anyio

COUNT = Sql(select(func.count().label("count")).select_from(audit))
RENAME = Sql(
    update(switches).where(switches.c.by == param("was")).values(by=param("becomes")).returning(switches.c.name)
)


@pytest.fixture
def session(sqlite_path: Path) -> Iterator[Session]:
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as database:
        yield Session(SqliteStore(database, ManualClock()))


@pytest.mark.parametrize("count", [0, 1, _ROWS_PER_INSERT - 1, _ROWS_PER_INSERT, _ROWS_PER_INSERT + 1, 1001])
async def test_insert_writes_every_row_once(session: Session, count: int) -> None:
    """Whatever the number of rows, each is written once and each hands back what RETURNING names."""
    back = await session.insert(audit, [row_of(entry(number)) for number in range(count)], returning="id")
    assert sorted(back) == sorted(f"entry-{number}" for number in range(count))
    assert await session.one(COUNT) == {"count": count}


def test_insert_stays_below_the_limits_of_parameters() -> None:
    """The widest table times the rows of one statement fits SQLite (32,766) and PostgreSQL (65,535)."""
    assert max(len(table.columns) for table in metadata.tables.values()) * _ROWS_PER_INSERT <= 32_766


async def test_change_tells_how_many_rows_it_touched(session: Session) -> None:
    """None, some, all; with RETURNING the rows themselves."""
    await session.insert(
        switches, [{"name": str(n), "by": "prunella", "reason": "", "since": entry().at} for n in range(3)]
    )
    plain = Sql(update(switches).where(switches.c.by == param("was")).values(by=param("becomes")))
    assert await session.change(plain, was="nobody", becomes="ada") == 0
    assert await session.change(plain, was="prunella", becomes="ada") == 3
    assert len(await session.fetch(RENAME, was="ada", becomes="ben")) == 3


async def test_one_returns_the_first_row_or_none(session: Session) -> None:
    """No row is None, never an error; a statement may be prepared on the spot."""
    query = prepare(select(audit).order_by(audit.c.id), session.dialect)
    assert await session.one(query) is None
    await session.insert(audit, [row_of(entry(2)), row_of(entry(1))])
    assert record(AuditEntry, await session.one(query)) == entry(1)
    assert records(AuditEntry, await session.fetch(query)) == [entry(1), entry(2)]
    assert record(AuditEntry, None) is None


@pytest.mark.parametrize(
    ("one", "table"),
    [
        (incident(), "incidents"),
        (operation(), "operations"),
        (run(), "runs"),
        (credential(), "credentials"),
        (notification(), "notifications"),
        (entry(), "audit"),
        (Gate(service="hubspot", since=entry().at, counting_from=entry().at), "gates"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_records_fields_are_the_tables_columns(one: object, table: str) -> None:
    """A record and its table name the same facts, so that a row is a record."""
    assert set(row_of(one)) == set(metadata.tables[table].columns.keys())


def test_compare_and_set_that_touched_nothing_is_a_conflict() -> None:
    """Exactly one row must have changed; the message names it."""
    must_change(1, "gate hubspot")
    for touched in (0, 2):
        with pytest.raises(Conflict, match="gate hubspot changed since it was read"):
            must_change(touched, "gate hubspot")
