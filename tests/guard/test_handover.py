"""A call that was handed over is made later, as the same logical call, whatever happens to the process meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

import prunella as pr
from prunella.core.clock import HOST
from prunella.core.events import Event
from prunella.guard import handover, making
from prunella.guard.connection import Connection
from prunella.guard.durable import Ending
from prunella.testing import Fault, faults, throttled

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    """Attach a database whose due calls are made only when the test says so."""
    with pr.connect(f"sqlite:///{path}", resume=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def unknown_functions() -> Iterator[None]:
    """Forget the durable functions of the test before."""
    handover._functions.clear()
    yield
    handover._functions.clear()


class Shop:
    """Durable functions under one policy, and what they did."""

    def __init__(self, **parts: Any) -> None:
        self.made: list[Any] = []
        self.events: list[Event] = []
        self.token = "tok-1"
        parts = {"retry": pr.Retry(attempts=2, base_s=0.0), **parts}
        self.crm = pr.policy("crm", **parts, listeners=[self.events.append])
        self.push = self.crm.durable("order_id", name="push")(self._push)
        self.apush = self.crm.durable(lambda order_id: f"a-{order_id}", name="apush")(self._apush)
        self.secretly = self.crm.durable("order_id", name="secretly", secrets={"token": lambda: self.token})(
            self._secretly
        )

    def _push(self, order_id: int, *, note: str = "") -> str:
        self.made.append((order_id, note))
        return "pushed"

    async def _apush(self, order_id: int) -> str:
        self.made.append(order_id)
        return "pushed"

    def _secretly(self, order_id: int, token: str) -> None:
        self.made.append((order_id, token))

    def told(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.fields) for event in self.events if event.name == name]


def rows(path: Path, columns: str = "state, attempts") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute(f"SELECT {columns} FROM durable_calls ORDER BY id").fetchall()


def make_due(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE durable_calls SET due_at = 0")


def hand_over(shop: Shop, order_id: int = 7, **kwargs: Any) -> pr.HandedOver:
    with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver) as told:
        shop.push(order_id, **kwargs)
    return told.value


# Handing over ---------------------------------------------------------------------------------------------------------


def test_exhausted_call_is_written_before_the_caller_hears_of_it(connection: Connection, path: Path) -> None:
    """The caller is told id and due time, and what happened stands behind it."""
    shop = Shop()
    told = hand_over(shop, note="express")
    assert rows(path, "id, function, idempotency_key, state, attempts") == [
        (told.operation_id, "push", "7", "waiting", 2)
    ]
    assert timedelta(0) < told.due_at - datetime.now(UTC) < timedelta(minutes=1)
    assert isinstance(told.__cause__, Fault)
    assert [event["operation_id"] for event in shop.told("call.handed_over")] == [told.operation_id]


async def test_asynchronous_call_is_handed_over_too(connection: Connection, path: Path) -> None:
    """The key comes from a function of the arguments."""
    shop = Shop()
    with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver):
        await shop.apush(3)
    assert rows(path, "function, idempotency_key") == [("apush", "a-3")]


def test_wait_beyond_the_limit_becomes_the_due_time(connection: Connection) -> None:
    """Given Retry-After 600, nothing sleeps: the call is due when the service said."""
    shop = Shop()
    with faults(shop.crm, [throttled(600)]), pytest.raises(pr.HandedOver) as told:
        shop.push(1)
    assert abs(told.value.due_at - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=5)


def test_shut_gate_hands_over_until_it_opens(connection: Connection) -> None:
    """Refused by the breaker: due when the next probe may pass."""
    shop = Shop(breaker=pr.Breaker(failures=1, open_s=300.0))
    shop.crm.breaker.force_open("maintenance")
    with pytest.raises(pr.HandedOver) as told:
        shop.push(1)
    assert timedelta(seconds=290) < told.value.due_at - datetime.now(UTC) < timedelta(seconds=340)
    assert shop.made == []


@pytest.mark.parametrize("status", [400, 404, 422])
def test_client_error_is_not_handed_over(connection: Connection, path: Path, status: int) -> None:
    """What would fail again as it is reaches the caller unchanged."""
    shop = Shop()
    with faults(shop.crm, [status]), pytest.raises(Fault):
        shop.push(1)
    assert rows(path) == []


def test_same_call_is_handed_over_once(connection: Connection) -> None:
    """While it waits, another call with the same key joins it."""
    shop = Shop()
    assert hand_over(shop, 1).operation_id == hand_over(shop, 1).operation_id
    assert hand_over(shop, 2).operation_id != hand_over(shop, 1).operation_id


def test_fallback_is_what_the_caller_gets_when_there_is_one(connection: Connection, path: Path) -> None:
    """The call is written down all the same."""
    shop = Shop(fallback=pr.Fallback(value="later"))
    with faults(shop.crm, [503, 503]):
        assert shop.push(1) == "later"
    assert rows(path) == [("waiting", 2)]


def test_without_a_connection_the_error_itself_is_raised() -> None:
    """A durable function is a guarded one; a long wait is told as `RetryLater`."""
    shop = Shop()
    with faults(shop.crm, [503, 503]), pytest.raises(Fault):
        shop.push(1)
    with faults(shop.crm, [throttled(600)]), pytest.raises(pr.RetryLater):
        shop.push(1)


def test_what_can_not_be_written_leaves_the_error_as_it_was(connection: Connection, path: Path) -> None:
    """Arguments that are no JSON, an empty key, a database that is gone: the original error, and listeners hear why."""
    shop = Shop()
    for order_id in (object(), None):
        with faults(shop.crm, [503, 503]), pytest.raises(Fault):
            shop.push(order_id)  # type: ignore[arg-type]
    path.unlink()
    path.mkdir()
    connection.place.close()
    with faults(shop.crm, [503, 503]), pytest.raises(Fault):
        shop.push(1)
    kinds = [type(event["error"]).__name__ for event in shop.told("handover.failed")]
    assert kinds == ["InvalidInput", "InvalidInput", "StoreUnavailable"]


def test_secret_argument_is_never_written(connection: Connection, path: Path) -> None:
    """It is left out, and brought anew when the call is made."""
    shop = Shop()
    with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver):
        shop.secretly(1, "tok-of-the-morning")
    assert b"tok-of" not in path.read_bytes() + path.with_name("calls.db-wal").read_bytes()
    shop.token = "tok-2"
    make_due(path)
    connection.resume_due()
    assert shop.made == [(1, "tok-2")]


def test_misuse_is_refused_where_it_is_declared() -> None:
    """A key or a secret that is no argument, and a function that no other process could name."""
    crm = pr.policy("crm")

    def push(order_id: int, *lines: int) -> None: ...

    with pytest.raises(TypeError, match="has no name that another process"):
        crm.durable("order_id")(push)
    with pytest.raises(TypeError, match="has no argument 'id'; it has order_id, lines"):
        crm.durable("id", name="push")(push)
    with pytest.raises(TypeError, match="arguments without names"):
        crm.durable("order_id", name="push", secrets={"order_id": lambda: 1})(push)


def test_function_of_a_script_is_known_by_the_scripts_name(tmp_path: Path) -> None:
    """`__main__` is another module in every process; the script's own name is what others import."""
    script = tmp_path / "shop_calls.py"
    script.write_text(
        "import prunella as pr\nfrom prunella.guard import handover\ncrm = pr.policy('crm')\n"
        "@crm.durable('order_id')\ndef ship(order_id): ...\nprint(handover.known())\n"
    )
    for command in ([str(script)], ["-m", "shop_calls"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "['shop_calls:ship']\n"


# Making what is due ---------------------------------------------------------------------------------------------------


def test_due_call_is_made_as_the_same_logical_call(connection: Connection, path: Path) -> None:
    """Same arguments, and the attempts count on."""
    shop = Shop()
    hand_over(shop, 7, note="express")
    assert connection.resume_due() == 0
    make_due(path)
    assert connection.resume_due() == 1
    assert shop.made == [(7, "express")]
    assert rows(path) == [("done", 3)]
    assert [event["attempts"] for event in shop.told("operation.done")] == [3]
    assert connection.resume_due() == 0


def test_call_that_fails_again_waits_longer_and_longer(connection: Connection, path: Path) -> None:
    """One attempt each time; the waits grow to a quarter of an hour."""
    shop = Shop()
    hand_over(shop)
    waits = []
    for _ in range(8):
        make_due(path)
        with faults(shop.crm, [503]):
            connection.resume_due()
        waits.append(shop.told("operation.waits")[-1]["wait_s"])
    assert waits[-1] <= 900
    assert waits[0] < waits[-1]
    assert rows(path) == [("waiting", 10)]


def test_call_that_a_guard_refuses_does_not_count(connection: Connection, path: Path) -> None:
    """While the breaker is open the call waits for it, at no cost."""
    shop = Shop(breaker=pr.Breaker(failures=5, open_s=300.0))
    hand_over(shop)
    shop.crm.breaker.hold_open("maintenance")
    make_due(path)
    connection.resume_due()
    assert rows(path) == [("waiting", 2)]
    assert shop.made == []


def test_call_that_can_not_succeed_is_given_up(connection: Connection, path: Path) -> None:
    """A client error, or a day without success, is a person's."""
    shop = Shop()
    for order_id in (1, 2):
        hand_over(shop, order_id)
    make_due(path)
    with faults(shop.crm, [422, 503]), HOST.replaced(now=lambda: datetime.now(UTC) + timedelta(days=2)):
        connection.resume_due()
    assert [state for state, _ in rows(path)] == ["dead", "dead"]
    assert len(shop.told("operation.dead")) == 2


def test_call_of_a_dead_worker_is_made_by_the_next(connection: Connection, path: Path) -> None:
    """Claimed and never settled: when the lease ends, another process takes it."""
    shop = Shop()
    hand_over(shop)
    make_due(path)
    assert connection.place.ledger.claim(["push"], "dead", 0.0, 1)
    assert connection.resume_due() == 1
    assert rows(path) == [("done", 4)]


def test_end_that_was_held_up_ends_no_later_attempt(
    connection: Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine was away, the lease ended, the same process tries again: only the later attempt's own end counts."""
    shop, ends = Shop(), list[tuple[str, str]]()
    hand_over(shop)
    ledger = connection.place.ledger
    with monkeypatch.context() as away:
        away.setattr(ledger, "end", lambda call_id, worker, ending: ends.append((call_id, worker)))
        make_due(path)
        connection.resume_due()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE durable_calls SET lease_until = 0")

    def push(order_id: int) -> None:
        ledger.end(*ends[0], Ending(state="dead", error="late"))
        shop.made.append(rows(path))

    shop.crm.durable("order_id", name="push")(push)
    connection.resume_due()
    assert shop.made[1:] == [[("running", 4)]]
    assert rows(path) == [("done", 4)]


async def test_asynchronous_call_is_made_on_the_loop_that_connected(path: Path) -> None:
    """Clients that belong to the application's loop can be used; waiting for it from the loop itself is refused."""
    shop, loops = Shop(), []

    async def push(order_id: int) -> None:
        loops.append(asyncio.get_running_loop())

    durable = shop.crm.durable("order_id", name="loops")(push)
    with pr.connect(f"sqlite:///{path}", resume=False) as connection:
        with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver):
            await durable(1)
        make_due(path)
        assert await asyncio.to_thread(connection.resume_due) == 1
    assert loops == [asyncio.get_running_loop()]


def test_what_an_event_loop_must_not_do_costs_no_call(connection: Connection, path: Path) -> None:
    """`resume_due` on a loop is refused before anything is claimed."""
    shop = Shop(retry=pr.Retry(attempts=1, on=ConnectionError))

    async def misuse() -> None:
        with faults(shop.crm, [ConnectionError()]), pytest.raises(pr.HandedOver):
            await shop.apush(1)
        make_due(path)
        with pytest.raises(RuntimeError, match="to_thread"):
            connection.resume_due()

    asyncio.run(misuse())
    assert rows(path) == [("waiting", 1)]


@pytest.mark.parametrize("closed", [True, False])
def test_loop_that_ends_while_a_call_is_under_way_loses_nothing(path: Path, *, closed: bool) -> None:
    """Closing on the loop does not wait for what needs the loop, and a cancelled call waits for its next attempt."""
    shop = Shop(retry=pr.Retry(attempts=1, on=ConnectionError))

    async def program() -> None:
        connection = pr.connect(f"sqlite:///{path}")
        begun = asyncio.Event()

        async def push(order_id: int) -> None:
            begun.set()
            await asyncio.Event().wait()

        durable = shop.crm.durable("order_id", name="endless")(push)
        with faults(shop.crm, [ConnectionError()]), pytest.raises(pr.HandedOver):
            await durable(1)
        make_due(path)
        await begun.wait()
        if closed:
            connection.close()

    asyncio.run(program())
    if handover._connection is not None:
        handover._connection.close()
    until = time.monotonic() + 10
    while rows(path) != [("waiting", 1)] and time.monotonic() < until:
        time.sleep(0.02)
    assert rows(path) == [("waiting", 1)]


def test_lease_is_kept_as_long_as_a_call_takes(
    connection: Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes it, also while closing: nobody else may take a call that is only slow."""
    monkeypatch.setattr(making, "_RENEW_EVERY_S", 0.02)
    shop = Shop()
    seen: list[bool] = []

    def push(order_id: int) -> None:
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE durable_calls SET lease_until = 0")
        until = time.monotonic() + 10
        while rows(path, "lease_until")[0][0] == 0 and time.monotonic() < until:
            time.sleep(0.01)
        seen.append(rows(path, "lease_until")[0][0] > 0)

    durable = shop.crm.durable("order_id", name="slow")(push)
    with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver):
        durable(1)
    make_due(path)
    connection.resume_due()
    assert seen == [True]


def test_call_is_not_made_twice_because_its_end_could_not_be_written(connection: Connection, path: Path) -> None:
    """The database is away when the call is done: the end is written when it is back."""
    shop = Shop()
    away = path.with_name("away.db")

    def back() -> None:
        path.rmdir()
        away.rename(path)

    def push(order_id: int) -> None:
        shop.made.append(order_id)
        connection.place.close()
        path.rename(away)
        path.mkdir()
        threading.Timer(0.5, back).start()

    durable = shop.crm.durable("order_id", name="unlucky")(push)
    with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver):
        durable(1)
    make_due(path)
    connection.resume_due()
    assert (shop.made, rows(path)) == ([1], [("done", 3)])


def test_secret_that_can_not_be_brought_is_brought_later(connection: Connection, path: Path) -> None:
    """Nothing was attempted, so nothing is given up; the policy's key is told from all arguments."""
    shop = Shop(key=lambda order_id, token: token[:3])
    with faults(shop.crm, [503, 503]), pytest.raises(pr.HandedOver):
        shop.secretly(1, "tok-1")
    make_due(path)
    del shop.token
    connection.resume_due()
    assert rows(path) == [("waiting", 3)]
    make_due(path)
    shop.token = "tok-2"
    connection.resume_due()
    assert shop.made == [(1, "tok-2")]


def test_background_makes_what_is_due(path: Path) -> None:
    """Connected with `resume`, a due call is made within seconds, and closing waits for what is under way."""
    shop = Shop()
    with pr.connect(f"sqlite:///{path}") as connection:
        hand_over(shop)
        make_due(path)
        until = time.monotonic() + 10
        while rows(path)[0][0] != "done" and time.monotonic() < until:
            time.sleep(0.02)
        assert connection is handover._connection
    assert rows(path) == [("done", 3)]
    assert not handover.connected()


_FORKED = """
import os, sys, time
import prunella as pr
from prunella.testing import faults

crm = pr.policy("crm", retry=pr.Retry(attempts=1))

@crm.durable("order_id", name="push")
def push(order_id):
    os._exit(0)

pr.connect(sys.argv[1])
child = os.fork()
if child:
    pr.connect(sys.argv[1], resume=False)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with faults(crm, [503]):
    try:
        push(1)
    except pr.HandedOver:
        pass
from prunella.guard import handover
with handover._connection.place.ledger._database.session() as session:
    session.run("UPDATE durable_calls SET due_at = 0", {})
time.sleep(15)
os._exit(1)
"""


def test_child_of_a_connected_process_makes_what_is_due(path: Path) -> None:
    """A server that connects first and forks its workers then: the parent's thread is not in them."""
    subprocess.run([sys.executable, "-c", _FORKED, f"sqlite:///{path}"], check=True, timeout=30)


def test_engine_that_is_away_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Connecting does not fail; what is handed over waits here, and the log says so once and not every second."""
    shop = Shop()
    with pr.connect("http://127.0.0.1:9", "a-token-0123", resume=False, spool=str(tmp_path / "spool.db")) as connection:
        assert hand_over(shop).due_at > datetime.now(UTC)
        for _ in range(3):
            connection._look_once()
    (told,) = caplog.messages
    assert "does not answer (ConnectionRefusedError); what is handed over waits on this side" in told
    with closing(sqlite3.connect(tmp_path / "spool.db")) as file:
        assert file.execute("SELECT path FROM spooled").fetchall() == [("calls",)]


class Slow:
    """An engine that takes what it is sent and answers late."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                self.asked.append(connection.recv(65_536).split(b" ", 2)[1].decode())
                self.go_on.wait(10)


@pytest.mark.parametrize("resume", [True, False])
async def test_connecting_holds_up_no_event_loop(tmp_path: Path, *, resume: bool) -> None:
    """A full spool and a slow engine: other tasks go on within a second, and the spool is brought beside them."""
    spool = tmp_path / "spool.db"
    with pr.connect("http://127.0.0.1:9", "a-token-0123", resume=False, spool=str(spool)):
        hand_over(Shop())
    with Slow() as engine:
        begun = time.monotonic()
        connection = pr.connect(engine.url, "a-token-0123", resume=resume, spool=str(spool))
        waited_s = time.monotonic() - begun
        engine.go_on.set()
        await asyncio.to_thread(connection.close)
    assert waited_s < 1.5
    assert engine.asked[0].endswith("/rates")


# Death ----------------------------------------------------------------------------------------------------------------

_PROGRAM = """
import sys
import prunella as pr
from prunella.testing import faults

crm = pr.policy("crm", retry=pr.Retry(attempts=1))

@crm.durable("order_id", name="push")
def push(order_id):
    pass

pr.connect(sys.argv[1], resume=False)
for number in range(100_000):
    with faults(crm, [503]):
        try:
            push(number)
        except pr.HandedOver as told:
            print(told.operation_id, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_call_that_was_handed_over_survives_kill_9(kind: str, path: Path, request: pytest.FixtureRequest) -> None:
    """Killed at a random moment: each call whose caller was told exists exactly once."""
    url = f"sqlite:///{path}" if kind == "sqlite" else request.getfixturevalue("fresh_postgres_url")
    told: list[str] = []
    for life in range(4):
        child = subprocess.Popen([sys.executable, "-c", _PROGRAM, url], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told.append(child.stdout.readline().strip())
        time.sleep(random.Random(life).uniform(0.01, 0.2))
        os.kill(child.pid, signal.SIGKILL)
        told += child.communicate()[0].split("\n")[:-1]  # a line that was cut is no answer
    query = "SELECT id, idempotency_key FROM durable_calls"
    found = rows(path, "id, idempotency_key") if kind == "sqlite" else _postgres(url, query)
    assert len(told) >= 4
    assert set(told) <= {call_id for call_id, _ in found}
    assert len({key for _, key in found}) == len(found)


def _postgres(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, options="-csearch_path=prunella") as connection:
        return connection.execute(query.encode()).fetchall()
