"""A status changes once, where it may, and only from what was expected: on real sqlite3, psycopg and SQLAlchemy."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from prunella.core.errors import IllegalTransition
from prunella.core.states import StateMachine
from prunella.guard.transitions import transition

pytestmark = pytest.mark.slow  # real databases

MESSAGES = StateMachine(
    {"READY": ["SPAM_REVIEW", "PROMOTED"], "SPAM_REVIEW": ["READY", "SPAM_ARCHIVED"]}, name="message"
)
"""Document E's own table: PROMOTED and SPAM_ARCHIVED are terminal."""
TABLE = 'CREATE TABLE "Messages" (id INTEGER PRIMARY KEY, brand TEXT, "order" TEXT NOT NULL)'
ROWS = "INSERT INTO \"Messages\" VALUES (1, 'a', 'READY'), (2, 'a', 'SPAM_REVIEW'), (3, 'a', 'PROMOTED')"


class Traced(sqlite3.Connection):
    """A connection class of the user's own."""


class Place:
    """One way to reach the three rows: a connection as users have it, and a look from outside."""

    def __init__(self, connection: Any, commit: Callable[[], object], look: Callable[[], list[Any]]) -> None:
        self.connection = connection
        self.commit = commit
        self.look = look

    def move(self, expected: str, to: str, key: dict[str, Any] | None = None) -> bool:
        """Move row 1, or the one that is named; the column's name is a word of SQL."""
        where = {"id": 1} if key is None else key
        return transition(
            self.connection, MESSAGES, table="Messages", key=where, column="order", expected=expected, to=to
        )

    @property
    def states(self) -> list[str]:
        """Return the three states as others see them."""
        self.commit()
        return [str(row[0]) for row in self.look()]


def _look(address: str) -> list[Any]:
    query = 'SELECT "order" FROM "Messages" ORDER BY id'
    if address.startswith("postgresql"):
        with psycopg.connect(address) as connection:
            return connection.execute(query).fetchall()
    with closing(sqlite3.connect(address)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def sqlite_file(tmp_path: Path) -> str:
    """A SQLite file with the rows."""
    path = str(tmp_path / "shop.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(TABLE)
        connection.execute(ROWS)
        connection.commit()
    return path


@pytest.fixture
def postgres(fresh_postgres_url: str) -> str:
    """A PostgreSQL database with the rows."""
    with psycopg.connect(fresh_postgres_url) as connection:
        connection.execute(TABLE.encode())
        connection.execute(ROWS.encode())
    return fresh_postgres_url


KINDS = [
    "sqlite3",
    "sqlite3 subclass",
    "psycopg",
    "psycopg dicts",
    "sqlalchemy sqlite",
    "sqlalchemy psycopg",
    "session",
    "raw",
]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each kind of connection."""
    kind = request.param
    if kind.startswith("sqlite3"):
        path = request.getfixturevalue("sqlite_file")
        with closing(sqlite3.connect(path, factory=Traced if "subclass" in kind else sqlite3.Connection)) as plain:
            yield Place(plain, plain.commit, lambda: _look(path))
        return
    if kind.startswith("psycopg"):
        url = request.getfixturevalue("postgres")
        rows: Any = dict_row if "dicts" in kind else psycopg.rows.tuple_row
        with psycopg.connect(url, row_factory=rows) as connection:
            yield Place(connection, connection.commit, lambda: _look(url))
        return
    path = (
        request.getfixturevalue("sqlite_file") if kind != "sqlalchemy psycopg" else request.getfixturevalue("postgres")
    )
    url = path.replace("postgresql:", "postgresql+psycopg:") if path.startswith("postgresql") else f"sqlite:///{path}"
    engine = sqlalchemy.create_engine(url)
    opened: Any = {"session": lambda: Session(engine), "raw": engine.raw_connection}.get(kind, engine.connect)()
    with closing(opened) as one:
        yield Place(one, one.commit, lambda: _look(path))
    engine.dispose()


# What it does ---------------------------------------------------------------------------------------------------------


def test_row_moves_where_it_is_as_expected(place: Place) -> None:
    """The change is made and told, and touches no other row."""
    assert place.move("READY", "SPAM_REVIEW") is True
    assert place.states == ["SPAM_REVIEW", "SPAM_REVIEW", "PROMOTED"]


def test_row_that_moved_meanwhile_stays(place: Place) -> None:
    """Whoever read READY and is late changes nothing, and learns so."""
    assert place.move("READY", "PROMOTED", {"id": 2}) is False
    assert place.move("READY", "PROMOTED", {"id": 99}) is False
    assert place.states == ["READY", "SPAM_REVIEW", "PROMOTED"]


def test_invalid_change_is_refused_and_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Out of a terminal state, past a state, or into one that nobody knows; nothing is sent."""
    for expected, to in (("PROMOTED", "READY"), ("READY", "SPAM_ARCHIVED"), ("READY", "LOST"), ("LOST", "READY")):
        with caplog.at_level(logging.WARNING), pytest.raises(IllegalTransition, match="message: "):
            place.move(expected, to, {"id": 3})
    assert len(caplog.records) == 4
    assert "PROMOTED -> READY is not allowed" in caplog.text
    assert place.states == ["READY", "SPAM_REVIEW", "PROMOTED"]


def test_same_state_is_allowed_without_a_write(place: Place) -> None:
    """A repeated update is no change (document E), also in a terminal state; it still tells whether the row is there."""
    assert place.move("PROMOTED", "PROMOTED", {"id": 3}) is True
    assert place.move("PROMOTED", "PROMOTED", {"id": 1}) is False
    assert place.states == ["READY", "SPAM_REVIEW", "PROMOTED"]


def test_same_state_writes_nothing(sqlite_file: str) -> None:
    """Not a single row is touched: no transaction begins."""
    with closing(sqlite3.connect(sqlite_file)) as connection:
        assert transition(
            connection, MESSAGES, table="Messages", key={"id": 1}, column="order", expected="READY", to="READY"
        )
        assert (connection.in_transaction, connection.total_changes) == (False, 0)


def test_transaction_is_the_callers(place: Place) -> None:
    """It does not commit: what is rolled back did not happen."""
    assert place.move("READY", "PROMOTED")
    place.connection.rollback()
    assert place.states[0] == "READY"


def test_key_that_names_several_rows_is_refused(place: Place) -> None:
    """One row changes or none: a key that is too wide is a mistake, to be rolled back."""
    assert place.move("READY", "SPAM_REVIEW", {"brand": "a", "id": 1}) is True
    for to in ("SPAM_REVIEW", "READY"):
        with pytest.raises(ValueError, match="brand, order names 2 rows, not one; roll back"):
            place.move("SPAM_REVIEW", to, {"brand": "a"})


class Status(StrEnum):
    """States as an application names them."""

    READY = "READY"
    PROMOTED = "PROMOTED"


def test_states_of_an_enum_are_texts(place: Place) -> None:
    """An application's own names for its states do."""
    assert place.move(Status.READY, Status.PROMOTED)
    assert place.states[0] == "PROMOTED"


def test_no_driver_gets_to_see_an_enum() -> None:
    """Drivers differ in what they make of one; a text is a text."""
    driver = type("Connection", (Driver,), {"__module__": "sqlite3.dbapi2"})()
    assert transition(driver, MESSAGES, table="m", key={"id": 7}, expected=Status.READY, to=Status.PROMOTED)
    assert [type(value) for value in driver.sent[1]] == [str, int, str]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_one_of_many_wins(kind: str, request: pytest.FixtureRequest) -> None:
    """Eight at once want the same row: one moves it, seven learn that they were late."""
    address: str = request.getfixturevalue("sqlite_file" if kind == "sqlite" else "postgres")
    ready, won = threading.Barrier(8), []

    def move() -> None:
        opened: Any = sqlite3.connect(address, timeout=30) if kind == "sqlite" else psycopg.connect(address)
        with closing(opened) as connection:
            ready.wait()
            done = transition(
                connection, MESSAGES, table="Messages", key={"id": 1}, column="order", expected="READY", to="PROMOTED"
            )
            connection.commit()
            won.append(done)

    threads = [threading.Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_table_in_a_schema_is_found(postgres: str) -> None:
    """Each part of a dotted name is quoted by itself."""
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE TABLE shop.orders (id int, status text)")
        connection.execute("INSERT INTO shop.orders VALUES (1, 'READY')")
        assert transition(connection, MESSAGES, table="shop.orders", key={"id": 1}, expected="READY", to="PROMOTED")


def test_pending_changes_of_a_session_come_first(sqlite_file: str) -> None:
    """As with any statement of a session, what it holds is written before."""
    engine = sqlalchemy.create_engine(f"sqlite:///{sqlite_file}")
    flushed: list[int] = []
    with Session(engine) as session:
        session.flush = lambda objects=None: flushed.append(1)  # type: ignore[method-assign]
        assert transition(
            session, MESSAGES, table="Messages", key={"id": 1}, column="order", expected="READY", to="PROMOTED"
        )
    assert flushed == [1]
    engine.dispose()


# What it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "key"),
    [
        ('Messages"; DROP TABLE x --', "order", {"id": 1}),
        ("Messages", 'order" = 1 --', {"id": 1}),
        ("Messages", "order", {"1=1 OR id": 1}),
        ("Messages", "order", {"": 1}),
        ("", "order", {"id": 1}),
        ("a..b", "order", {"id": 1}),
        ("x" * 64, "order", {"id": 1}),
        ("Mess%ages", "order", {"id": 1}),
    ],
)
def test_names_that_are_none_are_refused(place: Place, table: str, column: str, key: dict[str, Any]) -> None:
    """Text from outside never becomes SQL."""
    with pytest.raises(ValueError, match="is no name of a table or column"):
        transition(place.connection, MESSAGES, table=table, key=key, column=column, expected="READY", to="PROMOTED")


@pytest.mark.parametrize(
    ("key", "why"),
    [({}, "names no row"), ({"id": None}, "equals no row"), ({"id": 1, "order": "READY"}, "leave it out")],
)
def test_key_has_to_name_a_row(place: Place, key: dict[str, Any], why: str) -> None:
    """No key would be all rows, NULL would be none, and the column itself is not a key."""
    with pytest.raises(ValueError, match=why):
        place.move("READY", "PROMOTED", key)
    assert place.states == ["READY", "SPAM_REVIEW", "PROMOTED"]


def test_value_is_never_part_of_the_statement(place: Place) -> None:
    """A hostile value is compared, and equals nothing."""
    assert place.move("READY", "PROMOTED", {"brand": "' OR '1'='1"}) is False
    assert place.states == ["READY", "SPAM_REVIEW", "PROMOTED"]


def test_what_is_no_connection_is_refused() -> None:
    """An asynchronous connection would bring a coroutine that nobody awaits; anything else can't be spoken to."""

    class Asynchronous:
        async def execute(self, statement: str) -> None: ...

    class Nameless:
        def cursor(self) -> None: ...

    for wrong, why in ((Asynchronous(), "run_sync"), (object(), "no DB-API connection"), (Nameless(), "no paramstyle")):
        with pytest.raises(TypeError, match=why):
            transition(wrong, MESSAGES, table="Messages", key={"id": 1}, expected="READY", to="PROMOTED")


class Driver:
    """A driver's connection that keeps what it is sent; its module tells the paramstyle."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.rowcount = 1

    def cursor(self) -> Driver:
        return self

    def execute(self, statement: str, values: Any) -> None:
        self.sent = [statement, values]

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("paramstyle", "statement", "values"),
    [
        ("qmark", 'UPDATE "m" SET "status" = ? WHERE "id" = ? AND "status" = ?', ("PROMOTED", 7, "READY")),
        ("format", 'UPDATE "m" SET "status" = %s WHERE "id" = %s AND "status" = %s', ("PROMOTED", 7, "READY")),
        ("numeric", 'UPDATE "m" SET "status" = :1 WHERE "id" = :2 AND "status" = :3', ("PROMOTED", 7, "READY")),
        (
            "numeric_dollar",
            'UPDATE "m" SET "status" = $1 WHERE "id" = $2 AND "status" = $3',
            ("PROMOTED", 7, "READY"),
        ),
        (
            "named",
            'UPDATE "m" SET "status" = :p1 WHERE "id" = :p2 AND "status" = :p3',
            {"p1": "PROMOTED", "p2": 7, "p3": "READY"},
        ),
        (
            "pyformat",
            'UPDATE "m" SET "status" = %(p1)s WHERE "id" = %(p2)s AND "status" = %(p3)s',
            {"p1": "PROMOTED", "p2": 7, "p3": "READY"},
        ),
    ],
)
def test_parameters_are_marked_as_the_driver_wants(
    monkeypatch: pytest.MonkeyPatch, paramstyle: str, statement: str, values: Any
) -> None:
    """Every paramstyle of PEP 249, and asyncpg's."""
    monkeypatch.setattr(sqlite3, "paramstyle", paramstyle)
    driver = type("Connection", (Driver,), {"__module__": "sqlite3.dbapi2"})()
    assert transition(driver, MESSAGES, table="m", key={"id": 7}, expected="READY", to="PROMOTED")
    assert driver.sent == [statement, values]
