"""Short transactions on a database that an application names: whole or not at all, from any thread."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from prunella.app import sqlite_path
from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    kind = request.param
    url = f"sqlite:///{tmp_path / 'd.db'}" if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres_url"))
    opened = Database(url)
    opened.create(things="CREATE TABLE {schema}things (name TEXT PRIMARY KEY, at DOUBLE PRECISION)")
    yield opened
    opened.close()


def put(database: Database, name: str) -> None:
    with database.session() as session:
        session.run("INSERT INTO {schema}things (name, at) VALUES (:name, {now})", {"name": name})


def names(database: Database) -> list[str]:
    with database.session() as session:
        return [row[0] for row in session.run("SELECT name FROM {schema}things ORDER BY name", {})]


def test_what_raises_in_a_session_leaves_nothing(database: Database) -> None:
    """An error of the caller's own, and one of the database's: neither keeps half of it."""
    with pytest.raises(ZeroDivisionError), database.session() as session:
        session.run("INSERT INTO {schema}things (name, at) VALUES (:name, {now})", {"name": "half"})
        raise ZeroDivisionError
    put(database, "whole")
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        put(database, "whole")
    assert names(database) == ["whole"]


def test_threads_share_a_database(database: Database) -> None:
    """Forty writes by eight threads: all are there."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: put(database, f"n{number:02}"), range(40)))
    assert names(database) == [f"n{number:02}" for number in range(40)]


def test_tables_are_made_once_by_all_who_begin_together(database: Database) -> None:
    """Eight processes of an application that was just installed start at the same moment."""
    with ThreadPoolExecutor(8) as threads:
        for number in range(5):
            table = {f"t{number}": f"CREATE TABLE IF NOT EXISTS {{schema}}t{number} (name TEXT PRIMARY KEY)"}
            list(threads.map(lambda _, made=table: database.create(**made), range(8)))


def test_closed_database_opens_again_when_it_is_asked(database: Database) -> None:
    """Closing gives connections back; it is no end."""
    put(database, "before")
    database.close()
    put(database, "after")
    assert names(database) == ["after", "before"]


def test_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    """Written ahead, and on the disk before the transaction ends."""
    database = Database(f"sqlite:///{tmp_path / 'd.db'}")
    with database.session() as session:
        assert session.run("PRAGMA synchronous", {}) == [(2,)]
    database.close()
    with closing(sqlite3.connect(tmp_path / "d.db")) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_waits_for_the_session_of_another_thread(tmp_path: Path) -> None:
    """SQLite forgets what a copied connection locks: none may be in use, and the child has a turn of its own."""
    database = Database(tmp_path / "d.db")
    database.create(things="CREATE TABLE things (name TEXT)")
    begun, ended = threading.Event(), threading.Event()

    def slow() -> None:
        with database.session() as session:
            begun.set()
            HOST.sleep(0.3)
            session.run("INSERT INTO things (name) VALUES ('slow')", {})
            ended.set()

    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait(10)
    if (child := os.fork()) == 0:
        failed = 1
        try:
            with database.session() as session:
                session.run("INSERT INTO things (name) VALUES ('child')", {})
            failed = 0 if ended.is_set() else 2
        finally:
            os._exit(failed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    with database.session() as session:
        assert session.run("SELECT name FROM things", {}) == [("slow",), ("child",)]
    database.close()


@pytest.mark.parametrize("name", ["a#b.db", "a%23b.db", "a b.db"])
def test_sqlite_address_means_the_same_file_as_for_the_engine(name: str, tmp_path: Path) -> None:
    """An application and an engine that are given one address must not work on two files."""
    url = f"sqlite:///{tmp_path / name}"
    database = Database(url)
    database.create(things="CREATE TABLE things (name TEXT)")
    database.close()
    path = sqlite_path(url)
    assert path is not None
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["mysql://x/y", "prunella.db", "sqlite://", ""])
def test_address_of_no_known_kind_is_refused(url: str) -> None:
    """The message names the forms that are known."""
    with pytest.raises(InvalidInput, match="sqlite:///"):
        Database(url)
