"""Durable calls as rows, on both databases: once per key, one winner per claim, and no secret."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput
from prunella.guard.database import Database, Session
from prunella.guard.durable import Ending, NewCall
from prunella.guard.ledger import SqlLedger

pytestmark = pytest.mark.slow  # real databases

Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    database = Database(url)
    yield SqlLedger(database)
    database.close()


@pytest.fixture
def query(url: str) -> Query:
    """Look at the rows past the ledger."""

    def run(text: str) -> list[tuple[Any, ...]]:
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
                return file.execute(text).fetchall()
        with psycopg.connect(url, autocommit=True, options="-csearch_path=prunella") as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    return run


def write(ledger: SqlLedger, key: str = "order-1", *, wait_s: float = 0.0, **arguments: Any) -> str:
    return ledger.write(new_call(key, wait_s=wait_s, **arguments))[0]


def new_call(key: str, *, wait_s: float = 0.0, error: str = "Down: HTTP 503", **arguments: Any) -> NewCall:
    kept = {"args": [], "kwargs": arguments}
    return NewCall(function="shop:push", policy="crm", key=key, arguments=kept, attempts=3, wait_s=wait_s, error=error)


def claim(ledger: SqlLedger, worker: str = "w1", *, most: int = 10, lease_s: float = 60.0) -> list[str]:
    return [call.id for call in ledger.claim(["shop:push"], worker, lease_s, most)]


def test_call_comes_back_as_it_was_written(ledger: SqlLedger) -> None:
    """Arguments, key and the attempts made so far: the next one counts on."""
    written = write(ledger, order_id=1, note="grüße", lines=[1, None, 2.5])
    (call,) = ledger.claim(["shop:push"], "w1", 60.0, 10)
    assert (call.id, call.idempotency_key, call.attempts) == (written, "order-1", 4)
    assert (call.args, call.kwargs) == ([], {"order_id": 1, "note": "grüße", "lines": [1, None, 2.5]})


def test_call_of_one_key_is_written_once_while_it_waits(ledger: SqlLedger, query: Query) -> None:
    """Twenty threads hand the same call over: one row, and all are told its id; once made, a new one may be written."""
    with ThreadPoolExecutor(20) as threads:
        ids = set(threads.map(lambda _: write(ledger), range(20)))
    assert len(ids) == 1
    assert query("SELECT count(*) FROM durable_calls") == [(1,)]
    (call_id,) = claim(ledger)
    assert write(ledger) == call_id
    ledger.end(call_id, "w1", Ending(state="done"))
    assert write(ledger) != call_id


class Interrupted(Database):
    """A database in which somebody else is quick: `between` is done after the next insertion."""

    between: Callable[[], object] | None = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        with super().session() as session:
            yield session if self.between is None else self._Quick(session, self)

    class _Quick(Session):
        def __init__(self, session: Session, database: Interrupted) -> None:
            super().__init__(session._connection, session._dialect)
            self.database = database

        def run(self, statement: str, fields: Mapping[str, Any]) -> list[tuple[Any, ...]]:
            rows = super().run(statement, fields)
            between, self.database.between = self.database.between, None
            if between is not None:
                between()
            return rows


def test_call_whose_forerunner_ends_meanwhile_is_written(fresh_postgres_url: str) -> None:
    """The one of the same key was in the way when it was inserted, and was gone when it was looked for."""
    database = Interrupted(fresh_postgres_url)
    hasty, other = SqlLedger(database), SqlLedger(Database(fresh_postgres_url))
    first = write(other)
    assert claim(other) == [first]
    database.between = lambda: other.end(first, "w1", Ending(state="done"))
    second = write(hasty)
    assert second != first
    assert claim(other) == [second]
    for ledger in (hasty, other):
        ledger._database.close()


def test_call_that_is_written_twice_is_written_once_for_ever(ledger: SqlLedger, query: Query) -> None:
    """A message that is sent again because its answer was lost finds its own call, also when that was made already."""
    call = new_call("order-1")
    assert ledger.write(call)[0] == ledger.write(call)[0] == call.id
    assert claim(ledger) == [call.id]
    ledger.end(call.id, "w1", Ending(state="done"))
    write(ledger)
    assert ledger.write(call)[0] == call.id
    assert query("SELECT count(*) FROM durable_calls") == [(2,)]


def test_claim_has_one_winner(ledger: SqlLedger) -> None:
    """Of twenty workers each call goes to one."""
    written = {write(ledger, f"order-{number}") for number in range(10)}
    with ThreadPoolExecutor(20) as threads:
        won = [one for ids in threads.map(lambda number: claim(ledger, f"w{number}"), range(20)) for one in ids]
    assert sorted(won) == sorted(written)


def test_claim_leaves_what_is_not_due_and_what_it_does_not_know(ledger: SqlLedger) -> None:
    """A due time in the future, another function, and a limit are kept."""
    write(ledger, "later", wait_s=60)
    now = [write(ledger, f"now-{number}") for number in range(3)]
    assert ledger.claim(["another:function"], "w1", 60.0, 10) == []
    assert ledger.claim([], "w1", 60.0, 10) == []
    assert claim(ledger, most=2) == now[:2]


def test_lease_that_ended_frees_a_call_and_its_old_worker_writes_nothing(ledger: SqlLedger, query: Query) -> None:
    """A dead worker's call goes to the next; should it live after all, its word no longer counts."""
    call_id = write(ledger)
    assert claim(ledger, "slow", lease_s=0.0) == [call_id]
    assert claim(ledger, "next") == [call_id]
    ledger.end(call_id, "slow", Ending(state="done"))
    ledger.renew(call_id, "slow", -60.0)
    assert query("SELECT state, worker FROM durable_calls") == [("running", "next")]
    assert claim(ledger, "third") == []


def test_ends_are_written_with_their_reason(ledger: SqlLedger, query: Query) -> None:
    """Done, again (counted or not) and dead; what ended has its time, what waits has a due time."""
    one, two, three = (write(ledger, key) for key in ("1", "2", "3"))
    assert claim(ledger) == [one, two, three]
    ledger.end(one, "w1", Ending(state="done"))
    again = Ending(state="waiting", wait_s=60.0, error="CircuitOpen: crm is open", counted=False)
    ledger.end(two, "w1", again)
    ledger.end(three, "w1", Ending(state="dead", error="HTTP 422"))
    rows = query("SELECT state, attempts, last_error, ended_at IS NULL FROM durable_calls ORDER BY idempotency_key")
    assert [(row[0], row[1], row[2], bool(row[3])) for row in rows] == [
        ("done", 4, None, False),
        ("waiting", 3, "CircuitOpen: crm is open", True),
        ("dead", 4, "HTTP 422", False),
    ]
    assert claim(ledger) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"thing": object()}, "are no JSON"),
        ({"number": float("nan")}, "are no JSON"),
        ({"text": "\ud800"}, "are no JSON"),
        ({"\ud800": 1}, "are no JSON"),
        ({"deep": json.loads("[" * 200 + "]" * 200)}, "deeper than 100 levels"),
        ({"long": "a b " * 5_000}, "20.* characters of JSON"),
        ({"token": "sk_live_51HunterHunterHunter2xyzXYZ"}, "looks like a secret"),
    ],
)
def test_arguments_that_can_not_be_kept_are_refused(
    ledger: SqlLedger, query: Query, arguments: dict[str, Any], why: str
) -> None:
    """No row is written, and the message neither shows a secret nor leaves the reader without a next step."""
    with pytest.raises(InvalidInput, match=why) as refused:
        write(ledger, **arguments)
    assert "sk_live" not in str(refused.value)
    assert query("SELECT count(*) FROM durable_calls") == [(0,)]


def test_error_text_is_scrubbed(ledger: SqlLedger, query: Query) -> None:
    """What an exception says is kept without its secrets."""
    ledger.write(new_call("1", error="401 for Bearer sk_live_51HunterHunterHunter2"))
    assert "Hunter" not in json.dumps(query("SELECT last_error FROM durable_calls"))


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "ü" * 300, "sk_live_51HunterHunterHunter2xyzXYZ"])
def test_key_that_can_not_be_kept_is_refused(ledger: SqlLedger, query: Query, key: str) -> None:
    """No text for every database, too long for an index, or a secret: refused before anybody is told of it."""
    with pytest.raises(InvalidInput) as refused:
        write(ledger, key)
    assert "Hunter" not in str(refused.value)
    assert query("SELECT count(*) FROM durable_calls") == [(0,)]


@pytest.mark.parametrize("error", ["no \0 text", "no \ud800 text"])
def test_error_of_strange_text_holds_up_no_call(ledger: SqlLedger, query: Query, error: str) -> None:
    """A server's bytes and file names get into messages: the call is written down and ended all the same."""
    call_id = ledger.write(new_call("1", error=error))[0]
    assert query("SELECT last_error FROM durable_calls") == [("no ? text",)]
    assert claim(ledger) == [call_id]
    ledger.end(call_id, "w1", Ending(state="dead", error=error))
    assert query("SELECT state, last_error FROM durable_calls") == [("dead", "no ? text")]


def test_wait_for_ever_is_a_year(ledger: SqlLedger) -> None:
    """`Retry-After: 9999999999` is a mistake; its due time must be one that every side can hold."""
    year_s = 366 * 86_400
    due_at = ledger.write(new_call("1", wait_s=1e11))[1]
    assert abs(due_at - HOST.now().timestamp() - year_s) < 60
    assert Ending(state="waiting", wait_s=1e11).wait_s == year_s


@pytest.fixture
def forked(ledger: SqlLedger) -> int:
    """Fork with a connection open, and write in the child."""
    write(ledger, "parent")
    child = os.fork()
    if child == 0:
        try:
            write(ledger, "child")
        finally:
            os._exit(0)
    return child


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_has_a_connection_of_its_own(ledger: SqlLedger, query: Query, forked: int) -> None:
    """Both sides write, and neither breaks the other's connection."""
    assert os.waitpid(forked, 0)[1] == 0
    write(ledger, "parent again")
    assert query("SELECT count(*) FROM durable_calls") == [(3,)]


_CHILD_AND_PARENT = """
import os, sys
from prunella.guard.database import Database
from prunella.guard.durable import NewCall
from prunella.guard.ledger import SqlLedger

database = Database(sys.argv[1])
ledger = SqlLedger(database)

def write(key):
    ledger.write(NewCall(function="f", policy="p", key=key, arguments={}, attempts=1, wait_s=0.0, error=""))

(to_child, tell_child), (to_parent, tell_parent) = os.pipe(), os.pipe()
if os.fork() == 0:
    write("child, parent connected")
    os.write(tell_parent, b".")
    os.read(to_child, 1)
    write("child, parent gone")
    os.write(tell_parent, b".")
    os.read(to_child, 1)
    os._exit(0)
os.read(to_parent, 1)
database.close()
Database(sys.argv[1]).create()
os.write(tell_child, b".")
os.read(to_parent, 1)
write("parent")
os.write(tell_child, b".")
"""


def test_call_of_a_child_survives_its_parents_leaving(url: str, query: Query) -> None:
    """Connected, forked, and the parent closes: SQLite must not throw away the log that the child still writes."""
    subprocess.run([sys.executable, "-c", _CHILD_AND_PARENT, url], check=True)
    keys = {key for (key,) in query("SELECT idempotency_key FROM durable_calls")}
    assert keys == {"child, parent connected", "child, parent gone", "parent"}
