"""An address leads to the right place, or to a clear refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard.place import DatabasePlace, open_place
from prunella.guard.remote import EnginePlace


def test_address_names_the_place(tmp_path: Path) -> None:
    """A database for sqlite:///, an engine with its spool for https://."""
    here = open_place(f"sqlite:///{tmp_path / 'p.db'}", None, None)
    there = open_place("https://engine.invalid", "a-token", str(tmp_path / "spool.db"))
    assert (type(here), type(there)) == (DatabasePlace, EnginePlace)
    assert {path.name for path in tmp_path.glob("*.db")} == {"p.db", "spool.db"}
    here.close()
    there.close()


@pytest.mark.parametrize("given", [("a-token", None), (None, "spool.db")])
def test_what_belongs_to_an_engine_is_refused_for_a_database(
    given: tuple[str | None, str | None], tmp_path: Path
) -> None:
    """A token that nobody would look at must not seem to protect anything."""
    with pytest.raises(InvalidInput, match="belongs to an engine"):
        open_place(f"sqlite:///{tmp_path / 'p.db'}", *given)
    assert list(tmp_path.iterdir()) == []


def test_database_that_is_away_is_told(tmp_path: Path) -> None:
    """Nothing is written and the address stays unsaid."""
    with pytest.raises(StoreUnavailable, match="nothing was written") as told:
        open_place(f"sqlite:///{tmp_path}/no/such/folder/hunter2.db", None, None)
    assert "hunter2" not in str(told.value)


@pytest.fixture
def poor_url(fresh_postgres_url: str) -> Iterator[str]:
    """Name a role that may make nothing, in an empty database."""
    role = f"poor_{os.getpid()}"
    with psycopg.connect(fresh_postgres_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'poor'".encode())
        yield make_url(fresh_postgres_url).set(username=role, password="poor").render_as_string(hide_password=False)
        owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.slow
def test_role_that_may_make_no_tables_works_on_those_that_are_there(poor_url: str, fresh_postgres_url: str) -> None:
    """An owner made them, as it is done where applications get few rights; before that, the message says what to do."""
    with pytest.raises(InvalidInput, match="GRANT") as told:
        DatabasePlace(poor_url)
    assert "durable_calls" in str(told.value)
    DatabasePlace(fresh_postgres_url).close()
    role = make_url(poor_url).username
    with psycopg.connect(fresh_postgres_url, autocommit=True) as owner:
        owner.execute(f"GRANT USAGE ON SCHEMA prunella TO {role}".encode())
        owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA prunella TO {role}".encode())
    place = DatabasePlace(poor_url)
    place.board.learn("crm", 5.0)
    assert place.board.learned() == {"crm": 5.0}
    place.close()


def test_http_client_is_loaded_only_for_an_engine(tmp_path: Path) -> None:
    """A program that names a database pays for no HTTP."""
    program = (
        "import sys, prunella as pr\n"
        f"pr.connect('sqlite:///{tmp_path / 'p.db'}', resume=False)\n"
        "print('http.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
