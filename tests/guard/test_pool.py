"""The monitor sees a real server fill up, keeps back what can wait, and lets go by itself."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row

from guard.conftest import ManualTime
from prunella.core.clock import HOST
from prunella.core.errors import LoadShed
from prunella.core.events import Event
from prunella.guard.pool import Level, PoolMonitor

pytestmark = pytest.mark.slow  # a real server that fills up

# A server that says what it is told -----------------------------------------------------------------------------------


class Server:
    """A DB-API driver's connection to a server with so many connections in use."""

    def __init__(self, used: int = 10, limit: int = 100) -> None:
        self.used, self.limit = used, limit
        self.error: Exception | None = None
        self.opened = self.closed = self.rolled_back = self.read = 0

    def connect(self) -> Server:
        self.opened += 1
        if self.error is not None:
            raise self.error
        return self

    def cursor(self) -> Cursor:
        return Cursor(self)

    def rollback(self) -> None:
        self.rolled_back += 1

    def close(self) -> None:
        self.closed += 1


class Cursor:
    """One question to the server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def execute(self, statement: str) -> None:
        if self.server.error is not None:
            raise self.server.error
        self.server.read += 1

    def fetchone(self) -> tuple[int, int]:
        return self.server.used, self.server.limit

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("used", "level", "accepts"),
    [
        (0, Level.NORMAL, True),
        (84, Level.NORMAL, True),
        (85, Level.WARNING, True),
        (89, Level.WARNING, True),
        (90, Level.WARNING, False),
        (91, Level.WARNING, False),
        (92, Level.CRITICAL, False),
        (103, Level.CRITICAL, False),
    ],
)
def test_levels_are_document_es(used: int, level: Level, accepts: bool) -> None:
    """Warning from 85 %, critical from 92 %, new work below 90 %; critical work always."""
    monitor = PoolMonitor(Server(used).connect)
    assert monitor.sample() is level
    assert (monitor.accepts(), monitor.accepts(critical_work=True)) == (accepts, True)


def admit(monitor: PoolMonitor, clock: ManualTime, asynchronous: bool, critical_work: bool = False) -> None:
    """Ask to begin work, from a thread or from a loop."""
    if asynchronous:
        clock.run(monitor.aadmit(critical_work=critical_work))
    else:
        monitor.admit(critical_work=critical_work)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_work_that_can_wait_is_delayed_then_refused(clock: ManualTime, asynchronous: bool) -> None:
    """At warning it is delayed, at critical it does not begin; both end with the reading that says so."""
    server = Server(84)
    monitor = PoolMonitor(server.connect, throttle_s=0.3, name="shop")
    monitor.sample()
    admit(monitor, clock, asynchronous)
    assert clock.slept == []
    server.used = 85
    monitor.sample()
    admit(monitor, clock, asynchronous)
    admit(monitor, clock, asynchronous, critical_work=True)
    assert clock.slept == [0.3]
    server.used = 92
    monitor.sample()
    with pytest.raises(LoadShed, match="shop: 92 of 100 connections are taken"):
        admit(monitor, clock, asynchronous)
    admit(monitor, clock, asynchronous, critical_work=True)
    assert clock.slept == [0.3]
    server.used = 10
    monitor.sample()
    admit(monitor, clock, asynchronous)
    assert clock.slept == [0.3]


def test_work_that_was_delayed_into_critical_is_refused() -> None:
    """The level is looked at again when the delay is over."""
    server = Server(85)
    monitor = PoolMonitor(server.connect)
    monitor.sample()

    def fills_up(seconds: float) -> None:
        server.used = 99
        monitor.sample()

    with HOST.replaced(sleep=fills_up), pytest.raises(LoadShed):
        monitor.admit()


def test_changes_of_level_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Listeners and the log hear of a change, not of every reading; a raising listener hurts nobody."""
    events: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("listener")

    server = Server(10)
    monitor = PoolMonitor(server.connect, name="shop", listeners=[broken, events.append])
    with caplog.at_level(logging.INFO):
        for used in (10, 11, 86, 87, 95, 96, 12):
            server.used = used
            monitor.sample()
    changes = [(event.fields["before"], event.fields["after"], event.fields["used"]) for event in events]
    assert changes == [
        ("unknown", "normal", 10),
        ("normal", "warning", 86),
        ("warning", "critical", 95),
        ("critical", "normal", 12),
    ]
    assert {(event.name, event.fields["pool"]) for event in events} == {("pool.changed", "shop")}
    assert "shop: connections are at level critical, 95 of 100 in use" in caplog.text


def test_later_listener_can_leave() -> None:
    """What `subscribe` returns ends it."""
    events: list[Event] = []
    monitor = PoolMonitor(Server().connect)
    leave = monitor.subscribe(events.append)
    leave()
    monitor.sample()
    assert events == []


def test_unreadable_database_sheds_nothing_and_says_so() -> None:
    """Not knowing is no reason to refuse work; secrets of the address do not show."""
    server = Server(99)
    monitor = PoolMonitor(server.connect)
    assert monitor.sample() is Level.CRITICAL
    server.error = OSError("no route to postgresql://shop:hunter2secret@db/shop")
    assert monitor.sample() is Level.UNKNOWN
    assert monitor.accepts()
    monitor.admit()
    standing = monitor.standing()
    assert (standing["level"], standing["used"]) == ("unknown", None)
    assert "OSError: no route" in str(standing["problem"])
    assert "hunter2secret" not in str(standing["problem"])
    server.error = None
    assert monitor.sample() is Level.CRITICAL
    assert monitor.standing()["problem"] == ""


def test_nothing_is_shed_before_the_first_reading() -> None:
    """A monitor that was never started knows nothing."""
    monitor = PoolMonitor(Server(99).connect)
    assert (monitor.level, monitor.accepts()) == (Level.UNKNOWN, True)
    monitor.admit()


def test_old_reading_is_forgotten(clock: ManualTime) -> None:
    """A monitor that stands still does not refuse work for ever."""
    monitor = PoolMonitor(Server(99).connect, every_s=5)
    monitor.sample()
    clock.passes(15)
    assert monitor.level is Level.CRITICAL
    clock.passes(0.1)
    assert (monitor.level, monitor.accepts()) == (Level.UNKNOWN, True)


@pytest.mark.parametrize(
    "words", ["FATAL:  sorry, too many clients already", "remaining connection slots are reserved"]
)
def test_server_that_has_no_connection_left_is_critical(words: str) -> None:
    """It can't be read because it is full: that is known, not unknown."""
    server = Server()
    server.error = OSError(words)
    monitor = PoolMonitor(server.connect)
    assert monitor.sample() is Level.CRITICAL
    assert not monitor.accepts()


def test_connection_is_kept_and_replaced_when_it_broke() -> None:
    """One connection for all readings, no transaction left open; a broken one costs no reading."""
    server = Server()
    monitor = PoolMonitor(server.connect)
    for _ in range(3):
        monitor.sample()
    assert (server.opened, server.closed, server.rolled_back) == (1, 0, 3)
    broken, fresh = server, Server(86)
    broken.error = OSError("terminated")
    monitor._connect = fresh.connect
    assert monitor.sample() is Level.WARNING
    assert (broken.closed, fresh.opened) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"every_s": 0}, "every_s must be seconds > 0"),
        ({"warning": 85}, "warning must be a share"),
        ({"critical": 0.5}, "critical must be at least warning, which is 0.85"),
        ({"accept_below": 0}, "accept_below must be a share"),
        ({"throttle_s": -1}, "throttle_s must be seconds >= 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], why: str) -> None:
    """With what would be right."""
    with pytest.raises(ValueError, match=why):
        PoolMonitor(Server().connect, **settings)


def test_connection_instead_of_a_way_to_open_one_is_refused() -> None:
    """A connection can't be opened again."""
    with pytest.raises(TypeError, match="function that opens a connection"):
        PoolMonitor(Server())  # type: ignore[arg-type]


# In the background ----------------------------------------------------------------------------------------------------


def heard(monitor: PoolMonitor) -> Callable[[str], bool]:
    """Return a way to wait until a level was told."""
    told: dict[str, threading.Event] = {level.value: threading.Event() for level in Level}
    monitor.subscribe(lambda event: told[str(event.fields["after"])].set())
    return lambda level: told[level].wait(10)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what a thread does that nobody waits for."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        threading.Event().wait(0.002)


def test_thread_reads_until_it_is_stopped() -> None:
    """Readings come by themselves; afterwards neither thread nor connection is left, and it can be started again."""
    server = Server()
    monitor = PoolMonitor(server.connect, every_s=0.001, name="watched by a thread")

    def threads() -> int:
        return sum(thread.name == "prunella-pool-watched by a thread" for thread in threading.enumerate())

    for used, level in ((99, "critical"), (86, "warning")):
        server.used = 10
        wait_for = heard(monitor)
        with monitor:
            monitor.start()
            assert threads() == 1
            server.used = used
            assert wait_for(level)
        until(lambda: threads() == 0)  # who stops it does not wait longer than until the next reading
    until(lambda: (server.opened, server.closed) == (2, 2))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_reading_that_outlasts_the_stop_leaves_no_connection(asynchronous: bool) -> None:
    """Whoever stops it does not wait for a database that hangs; what comes back from there hangs up by itself."""
    server = Server()
    asked, answers = threading.Event(), threading.Event()

    def hanging() -> Server:
        asked.set()
        answers.wait(20)
        return server.connect()

    monitor = PoolMonitor(hanging, every_s=0.01)

    async def work() -> None:
        async with monitor:
            await asyncio.to_thread(asked.wait, 10)
        answers.set()  # the loop ends only when its threads have

    if asynchronous:
        asyncio.run(work())
    else:
        with monitor:
            asked.wait(10)
        assert server.opened == 0
        answers.set()
    until(lambda: (server.opened, server.closed) == (1, 1))


def test_task_reads_until_it_is_stopped() -> None:
    """The same in an event loop; the reading itself is made in a thread, so that the loop goes on."""
    server = Server(10)
    monitor = PoolMonitor(server.connect, every_s=0.001)
    wait_for = heard(monitor)

    async def work() -> int:
        async with monitor:
            server.used = 99
            assert await asyncio.to_thread(wait_for, "critical")
        return len(asyncio.all_tasks())

    assert asyncio.run(work()) == 1
    until(lambda: (server.opened, server.closed) == (1, 1))


# A real server --------------------------------------------------------------------------------------------------------


class Crowd:
    """Open connections to a server, as many as wanted."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url, self.stack = url, stack
        self.open: list[psycopg.Connection[Any]] = []

    def fill(self, monitor: PoolMonitor, share: float) -> Level:
        """Open connections until this share is in use, and return the level then."""
        level = monitor.sample()
        while monitor.usage is not None and monitor.usage.share < share:
            self.one_more()
            level = monitor.sample()
        return level

    def overfill(self) -> None:
        """Take the places that are kept for superusers as well."""
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            for _ in range(1000):
                self.one_more()

    def one_more(self) -> None:
        """Open one connection."""
        self.open.append(self.stack.enter_context(closing(psycopg.connect(self.url))))

    def leave(self, monitor: PoolMonitor) -> None:
        """Close them, and wait until the server has seen it."""
        for connection in self.open:
            connection.close()
        self.open.clear()
        for _ in range(2000):
            if monitor.sample() is Level.NORMAL:
                return


@pytest.fixture
def crowd(fresh_postgres_url: str) -> Iterator[Crowd]:
    """Nobody yet."""
    with ExitStack() as stack:
        yield Crowd(fresh_postgres_url, stack)


@pytest.mark.slow
def test_real_server_fills_up_and_empties(crowd: Crowd) -> None:
    """Real connections to a real server: normal, warning, no new work, critical, full, and normal again."""
    monitor = PoolMonitor(partial(psycopg.connect, crowd.url))
    crowd.stack.callback(monitor.stop)
    with closing(psycopg.connect(crowd.url)) as one:
        (maximum,) = one.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        ).fetchone() or (0,)
    assert monitor.sample() is Level.NORMAL
    assert monitor.usage is not None
    assert monitor.usage.limit == maximum
    before = monitor.usage.used
    with closing(psycopg.connect(crowd.url)):
        monitor.sample()
        assert monitor.usage.used == before + 1
    assert crowd.fill(monitor, 0.85) is Level.WARNING
    assert monitor.accepts()
    assert crowd.fill(monitor, 0.90) is Level.WARNING
    assert not monitor.accepts()
    assert crowd.fill(monitor, 0.92) is Level.CRITICAL
    with pytest.raises(LoadShed):
        monitor.admit()
    crowd.overfill()
    late = PoolMonitor(partial(psycopg.connect, crowd.url))
    assert late.sample() is Level.CRITICAL
    assert "too many clients" in late.problem
    assert monitor.sample() is Level.CRITICAL
    crowd.leave(monitor)
    assert monitor.level is Level.NORMAL
    assert monitor.accepts()


@pytest.mark.parametrize("kind", ["tuples", "dicts", "autocommit", "sqlalchemy"])
def test_every_kind_of_connection_is_read(fresh_postgres_url: str, kind: str) -> None:
    """psycopg as it is or with rows as dicts, and SQLAlchemy's raw connections; no transaction stays open."""
    engine = sqlalchemy.create_engine(fresh_postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    ways: dict[str, Callable[[], Any]] = {
        "tuples": partial(psycopg.connect, fresh_postgres_url),
        "dicts": partial(psycopg.connect, fresh_postgres_url, row_factory=dict_row),
        "autocommit": partial(psycopg.connect, fresh_postgres_url, autocommit=True),
        "sqlalchemy": engine.raw_connection,
    }
    monitor = PoolMonitor(ways[kind])
    assert monitor.sample() is Level.NORMAL
    with closing(psycopg.connect(fresh_postgres_url)) as look:
        states = look.execute(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert states == [("idle",)]
    monitor.stop()
    engine.dispose()


def test_role_without_rights_sees_the_same(fresh_postgres_url: str) -> None:
    """An ordinary role does not see what others do, but counts them all."""
    with closing(psycopg.connect(fresh_postgres_url, autocommit=True)) as owner:
        owner.execute("CREATE ROLE prunella_test_watcher")
        try:
            owner.execute("SET ROLE prunella_test_watcher")
            monitor = PoolMonitor(lambda: owner)
            monitor.sample()
            seen = monitor.usage
            owner.execute("RESET ROLE")
            monitor.sample()
            assert seen is not None
            assert monitor.usage is not None
            assert (seen.used, seen.limit) == (monitor.usage.used, monitor.usage.limit)
            assert seen.used >= 1
        finally:
            owner.execute("RESET ROLE")
            owner.execute("DROP ROLE prunella_test_watcher")


def test_other_databases_are_unknown(tmp_path: Any) -> None:
    """SQLite has no such table: nothing is known, nothing is shed."""
    import sqlite3

    monitor = PoolMonitor(partial(sqlite3.connect, tmp_path / "shop.db"))
    assert monitor.sample() is Level.UNKNOWN
    assert "OperationalError" in monitor.problem
    monitor.admit()
