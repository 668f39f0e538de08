"""The tables become what this version wants: from nothing, once, whole, and whoever else starts at the same moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, inspect, make_url, text

from prunella.core.errors import SchemaBehind, StoreRefused, StoreUnavailable
from prunella.core.states import IncidentState
from prunella.store import migrations
from prunella.store.migrations import views
from prunella.store.session import row_of
from prunella.store.tables import SCHEMA, metadata
from store.making import incident

UPGRADE = "import sys; from prunella.store import migrations; migrations.upgrade(sys.argv[1])"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'prunella.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect so that prunella's schema is the default one."""
    options = {} if url.startswith("sqlite") else {"options": f"-csearch_path={SCHEMA}"}
    engine = create_engine(migrations.sync_url(url), connect_args=options)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def tables(url: str) -> set[str]:
    with connected(url) as connection:
        return set(inspect(connection).get_table_names())


def test_upgrade_builds_everything_from_nothing(empty_url: str) -> None:
    """An empty database becomes one with every table, every view and the newest revision."""
    assert migrations.current(empty_url) is None
    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.head()
    assert tables(empty_url) == {*metadata.tables, "alembic_version"}
    with connected(empty_url) as connection:
        assert set(inspect(connection).get_view_names()) == set(views.VIEWS)
        for name in views.VIEWS:
            assert connection.execute(text(f"SELECT * FROM {name}")).all() == []


def test_upgrade_twice_changes_nothing(empty_url: str) -> None:
    """A second upgrade leaves rows and tables alone."""
    migrations.upgrade(empty_url)
    with connected(empty_url) as connection:
        connection.execute(text("INSERT INTO secrets VALUES ('slack', 'x', '2026-01-01 00:00:00.000000+00:00')"))
        connection.commit()
    migrations.upgrade(empty_url)
    with connected(empty_url) as connection:
        assert connection.execute(text("SELECT name FROM secrets")).all() == [("slack",)]


def test_upgraded_tables_equal_the_definitions(empty_url: str) -> None:
    """The revisions lead to the very tables that the code is written for: columns, types, indexes, constraints."""
    migrations.upgrade(empty_url)
    with connected(empty_url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_upgrade_stays_in_its_own_schema(fresh_postgres_url: str) -> None:
    """On PostgreSQL nothing is put into `public`, which other tools expose."""
    migrations.upgrade(fresh_postgres_url)
    engine = create_engine(migrations.sync_url(fresh_postgres_url))
    with engine.connect() as connection:
        assert inspect(connection).get_table_names("public") == []
        assert inspect(connection).get_view_names("public") == []
    engine.dispose()


def test_upgrade_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last step fails, the steps before it are undone, and the next upgrade starts from nothing."""

    def fail(connection: Connection) -> None:
        assert inspect(connection).has_table("audit", schema=None if "sqlite" in empty_url else SCHEMA)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "create_views", fail)
        with pytest.raises(ZeroDivisionError):
            migrations.upgrade(empty_url)
    assert tables(empty_url) == set()
    migrations.upgrade(empty_url)
    migrations.check(empty_url)


def test_what_failed_before_the_upgrade_is_not_learned_from(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history makes nothing known and wakes nobody."""
    whole = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _: whole(config, "0005"))
        patch.setattr(migrations, "create_views", lambda _: None)
        migrations.upgrade(empty_url)
    with connected(empty_url) as connection:
        columns = {column["name"] for column in inspect(connection).get_columns("incidents")}
        for number, state in enumerate((IncidentState.RESOLVED, IncidentState.OPEN)):
            row = row_of(incident(number, state=state, count=3))
            known = {name: value for name, value in row.items() if name in columns}
            if connection.dialect.name == "sqlite":  # whose driver has no types of its own for these
                known = {name: str(one) if isinstance(one, (dict, datetime)) else one for name, one in known.items()}
            connection.execute(insert(metadata.tables["incidents"]).values(known))
        connection.commit()
    migrations.upgrade(empty_url)
    with connected(empty_url) as connection:
        assert connection.execute(text("SELECT learned FROM incidents ORDER BY id")).all() == [(3,), (3,)]


@pytest.mark.slow
def test_upgrade_by_two_processes_at_once(empty_url: str) -> None:
    """Two processes that start together on an empty database both end well."""
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty_url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]
    migrations.check(empty_url)


def test_check_refuses_older_tables(empty_url: str) -> None:
    """Tables of no or an older revision are refused, with both revisions and the command that helps; ours pass."""
    with pytest.raises(SchemaBehind, match=rf"revision none, this version needs {migrations.head()}; run: prunella db"):
        migrations.check(empty_url)
    migrations.upgrade(empty_url)
    migrations.check(empty_url)
    with connected(empty_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        connection.commit()
    with pytest.raises(SchemaBehind, match="revision 0001"):
        migrations.check(empty_url)


def test_newer_tables_are_left_alone(empty_url: str) -> None:
    """While a newer version is rolled out, processes of this one start and go on: revisions only add."""
    migrations.upgrade(empty_url)
    with connected(empty_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    before = tables(empty_url)
    migrations.upgrade(empty_url)
    migrations.check(empty_url)
    assert (migrations.current(empty_url), tables(empty_url)) == ("9999", before)


def test_check_does_not_make_a_file(tmp_path: Path) -> None:
    """Asking about a SQLite file that is not there changes nothing on the disk."""
    path = tmp_path / "prunella.db"
    with pytest.raises(SchemaBehind):
        migrations.check(f"sqlite:///{path}")
    assert not path.exists()


def test_check_works_while_a_process_writes(tmp_path: Path) -> None:
    """Asking where the tables stand neither waits for the running process nor makes it wait."""
    path = tmp_path / "prunella.db"
    migrations.upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        migrations.check(f"sqlite:///{path}")
        other.execute("COMMIT")


def test_role_that_may_not_make_tables_is_told(fresh_postgres_url: str) -> None:
    """What it lacks is said, in words that are no traceback, and waiting for it is no use."""
    with psycopg.connect(fresh_postgres_url, autocommit=True) as server:
        server.execute("CREATE ROLE prunella_weak")
        try:
            weak = make_url(fresh_postgres_url).update_query_dict({"options": "-c role=prunella_weak"})
            with pytest.raises(StoreRefused, match="may not make or change the tables of prunella; GRANT CREATE"):
                migrations.upgrade(weak.render_as_string(hide_password=False))
        finally:
            server.execute("DROP ROLE prunella_weak")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all/prunella.db",
        "postgresql://prunella:hunter2hunter2@127.0.0.1:1/prunella",
    ],
)
def test_upgrade_of_what_does_not_answer_is_told(url: str) -> None:
    """A database that cannot be reached is named as such, without its password."""
    with pytest.raises(StoreUnavailable, match="does not answer") as told:
        migrations.upgrade(url)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("sqlite:///prunella.db", "sqlite:///prunella.db"),
        ("postgresql://ada:p%40ss@db:5432/prunella", "postgresql+psycopg://ada:p%40ss@db:5432/prunella"),
        ("postgres://ada@db/prunella?sslmode=require", "postgresql+psycopg://ada@db/prunella?sslmode=require"),
        ("postgresql+psycopg://ada@db/prunella", "postgresql+psycopg://ada@db/prunella"),
    ],
)
def test_url_names_the_driver(given: str, named: str) -> None:
    """Whatever spelling a hosting service hands out, psycopg is used, and the password stays as it was."""
    assert migrations.sync_url(given) == named
