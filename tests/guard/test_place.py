"""An address leads to the right place, or to a clear refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard import place as place_room
from prunella.guard.board import Standing
from prunella.guard.breaker import State
from prunella.guard.durable import Ending, NewCall
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


@pytest.mark.parametrize("url", [5, None, b"sqlite:///p.db"])
def test_address_that_is_no_text_is_told(url: Any) -> None:
    """The message says what it got, and what to write; a variable that is not set is None."""
    with pytest.raises(InvalidInput, match=rf"url must be a text, got {type(url).__name__}; write sqlite:///"):
        open_place(url, None, None)


def test_database_that_is_away_is_told(tmp_path: Path) -> None:
    """Nothing is written and the address stays unsaid."""
    why = r"\(OperationalError: unable to open database file\); nothing was written"
    with pytest.raises(StoreUnavailable, match=why) as told:
        open_place(f"sqlite:///{tmp_path}/no/such/folder/hunter2.db", None, None)
    assert "hunter2" not in str(told.value)


DAY_S = 86_400.0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'p.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


def aged(place: DatabasePlace, days: float) -> None:
    """Make every row older; PostgreSQL has a clock of its own."""
    moved = {"durable_calls": "ended_at", "learned_rates": "learned_at", "shared_breakers": "reopen_at"}
    with place._database.session() as session:
        for table, column in moved.items():
            session.run(f"UPDATE {{schema}}{table} SET {column} = {column} - :age_s", {"age_s": days * DAY_S})


def hand_over(place: DatabasePlace, key: str, state: str | None) -> None:
    call = NewCall(
        function="f", policy="p", key=key, arguments={"args": [], "kwargs": {}}, attempts=1, wait_s=0.0, error=""
    )
    place.ledger.write(call)
    if state is not None:
        place.ledger.claim(["f"], "w", 60.0, 10)
        place.ledger.end(call.id, "w", Ending(state="done" if state == "done" else "dead"))


def kept(place: DatabasePlace) -> tuple[list[str], list[str], list[str]]:
    with place._database.session() as session:
        keys = [row[0] for row in session.run("SELECT idempotency_key FROM {schema}durable_calls ORDER BY 1", {})]
    return keys, sorted(place.board.learned()), sorted(one.name for one in place.board.standings())


def test_what_nobody_needs_any_more_is_removed(url: str) -> None:
    """Done for a week, untouched for 90 days; what waits, what is dead and what is held open stays."""
    place = DatabasePlace(url)
    for key, state in (("done", "done"), ("dead", "dead"), ("waits", None)):
        hand_over(place, key, state)
    place.board.learn("rate", 5.0)
    for name, open_s in (("closed", 0.0), ("held", float("inf"))):
        place.board.report(Standing(name=name, state=State.OPEN, reason="", open_s=open_s))
    place.tidy()
    assert kept(place) == (["dead", "done", "waits"], ["rate"], ["closed", "held"])
    aged(place, 8)
    place.tidy()
    assert "done" in kept(place)[0]
    with HOST.replaced(monotonic=lambda before=HOST.monotonic: before() + 3_601.0):
        place.tidy()
    assert kept(place) == (["dead", "waits"], ["rate"], ["closed", "held"])
    aged(place, 83)
    with HOST.replaced(monotonic=lambda before=HOST.monotonic: before() + 7_202.0):
        place.tidy()
    assert kept(place) == (["dead", "waits"], [], ["held"])
    place.close()


def test_much_is_removed_in_steps(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a long transaction; the next look goes on."""
    monkeypatch.setattr(place_room, "_AT_ONCE", 2)
    place = DatabasePlace(url)
    for number in range(5):
        hand_over(place, str(number), "done")
    aged(place, 8)
    left = []
    for _ in range(4):
        place.tidy()
        left.append(len(kept(place)[0]))
    assert left == [3, 1, 0, 0]
    place.close()


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
