"""Breakers of several processes, on both databases: who opens opens for all, and one probes for all."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import prunella as pr
from prunella.core.clock import HOST
from prunella.core.errors import CircuitOpen, InvalidInput, StoreUnavailable
from prunella.core.events import Listeners
from prunella.guard.board import Notice, SqlBoard
from prunella.guard.breaker import Breaker, LiveBreaker, State
from prunella.guard.core import Core, Settings
from prunella.guard.database import Database
from prunella.guard.limiter import AdaptiveLimiter, LiveLimiter
from prunella.guard.link import LINK
from prunella.guard.shared import SharedState

pytestmark = pytest.mark.slow  # real databases

LIMITS = Breaker(failures=2, open_s=30, shared=True)
_OVER_S = 35.0
"""A little more than the open time, which is longer by up to a tenth, and than a probe's lease."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know no limiter or breaker that a test before this one left alive."""
    monkeypatch.setattr(LINK, "limiters", weakref.WeakSet())
    monkeypatch.setattr(LINK, "breakers", weakref.WeakSet())


@pytest.fixture
def later() -> Iterator[Callable[[Process], None]]:
    """Let the open time and every lease end at once: for the processes, and in their database, whose clock is real."""
    passed_s, real = 0.0, HOST.monotonic

    def later(one: Process) -> None:
        nonlocal passed_s
        passed_s += _OVER_S
        older = "UPDATE {schema}shared_breakers SET reopen_at = reopen_at - :by, probe_until = probe_until - :by"
        with one.database.session() as session:
            session.run(older, {"by": _OVER_S})

    with HOST.replaced(monotonic=lambda: real() + passed_s):
        yield later


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


class Process:
    """One process's side: its breaker and its link to the database."""

    def __init__(self, url: str, limits: Breaker = LIMITS, name: str = "crm") -> None:
        self.database = Database(url)
        self.shared = SharedState(SqlBoard(self.database))
        self.changes: list[tuple[str, str]] = []
        self.breaker = LiveBreaker(name, limits, lambda before, after, _: self.changes.append((before, after)), 30.0)

    def __enter__(self) -> Self:
        LINK.state = self.shared
        LINK.breakers.clear()
        LINK.breakers.add(self.breaker)
        return self

    def __exit__(self, *_: object) -> None:
        LINK.state = None
        LINK.breakers.clear()

    def exchange(self) -> None:
        with self:
            self.shared.exchange()

    def fail(self, times: int) -> None:
        with self:
            for _ in range(times):
                self.breaker.failed(self.breaker.enter())

    def enter(self) -> Any:
        with self:
            return self.breaker.enter()


@pytest.fixture
def limits() -> Breaker:
    return LIMITS


@pytest.fixture
def pair(url: str, limits: Breaker) -> Iterator[tuple[Process, Process]]:
    first, second = Process(url, limits), Process(url, limits)
    yield first, second
    for one in (first, second):
        one.database.close()


def open_both(first: Process, second: Process) -> None:
    first.fail(2)
    first.exchange()
    second.exchange()


@pytest.mark.parametrize("limits", [Breaker(failures=2, open_s=60, shared=True)])
def test_breaker_that_opens_opens_for_all(pair: tuple[Process, Process]) -> None:
    """The other process refuses too, for the same reason, and tells it to nobody again."""
    first, second = pair
    open_both(first, second)
    assert second.breaker.state is State.OPEN
    assert second.breaker.reason == first.breaker.reason == "2 failures in a row"
    with pytest.raises(CircuitOpen):
        second.enter()
    for _ in range(3):
        first.exchange()
        second.exchange()
    assert (first.changes, second.changes) == ([("closed", "open")], [("closed", "open")])


def test_one_process_probes_for_all(pair: tuple[Process, Process], later: Callable[[Process], None]) -> None:
    """When the open time is over one of them may try; its success closes the others too."""
    first, second = pair
    open_both(first, second)
    later(first)
    probe = first.enter()
    with pytest.raises(CircuitOpen):
        second.enter()
    with first:
        probe.ok()
    first.exchange()
    second.exchange()
    assert (first.breaker.state, second.breaker.state) == (State.CLOSED, State.CLOSED)


def test_failed_probe_keeps_all_waiting(pair: tuple[Process, Process], later: Callable[[Process], None]) -> None:
    """The longer open time of the one that tried is the others' too."""
    first, second = pair
    open_both(first, second)
    later(first)
    with first:
        first.breaker.failed(first.breaker.enter())
    first.exchange()
    second.exchange()
    assert second.breaker.open_for_s > _OVER_S


def test_probe_of_a_dead_process_frees_its_place(
    pair: tuple[Process, Process], later: Callable[[Process], None]
) -> None:
    """When its lease is over the next process may try."""
    first, second = pair
    open_both(first, second)
    later(first)
    with first:
        assert first.shared.may_probe("crm", 30)
        assert not second.shared.may_probe("crm", 30)
    later(second)
    assert second.enter()


def test_right_to_probe_is_asked_for_beside_the_event_loop(tmp_path: Path) -> None:
    """The database or the engine takes its time; no other task of the loop waits for it."""
    asked: list[int] = []

    class Slow(SharedState):
        def may_probe(self, name: str, lease_s: float) -> bool:
            asked.append(threading.get_ident())
            return True

    policy = pr.policy("crm", breaker=Breaker(failures=1, open_s=0.01, shared=True))

    async def ping() -> str:
        return "pong"

    database = Database(f"sqlite:///{tmp_path / 'shared.db'}")
    LINK.state = Slow(SqlBoard(database))
    try:
        policy.breaker.force_open("maintenance")
        HOST.sleep(0.03)
        assert asyncio.run(policy.acall(ping)) == "pong"
    finally:
        LINK.state = None
        database.close()
    assert asked
    assert asked != [threading.get_ident()]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_blocks_ask_for_the_right_to_probe_too(asynchronous: bool, tmp_path: Path) -> None:
    """A block that is the probe is admitted, and its success counts."""
    policy = pr.policy("crm", breaker=Breaker(failures=1, open_s=0.01, shared=True))

    def loop() -> int:
        numbers = []
        for attempt in policy.attempts():
            with attempt:
                numbers.append(attempt.number)
        with policy.attempt():
            numbers.append(1)
        return len(numbers)

    async def aloop() -> int:
        numbers = []
        async for attempt in policy.attempts():
            async with attempt:
                numbers.append(attempt.number)
        async with policy.attempt():
            numbers.append(1)
        return len(numbers)

    database = Database(f"sqlite:///{tmp_path / 'shared.db'}")
    LINK.state = SharedState(SqlBoard(database))
    try:
        policy.breaker.force_open("maintenance")
        HOST.sleep(0.03)
        assert (asyncio.run(aloop()) if asynchronous else loop()) == 2
        assert policy.breaker.state is State.CLOSED
    finally:
        LINK.state = None
        database.close()


def test_hold_of_ones_own_stays(pair: tuple[Process, Process]) -> None:
    """What a person held open here is not closed by a success there."""
    first, second = pair
    open_both(first, second)
    with second:
        second.breaker.hold_open("maintenance")
    with first:
        first.breaker.force_closed()
    first.exchange()
    second.exchange()
    assert second.breaker.held == "maintenance"


def test_breaker_that_is_not_shared_stays_alone(url: str) -> None:
    """Without `shared=True` nothing is told and nothing is followed."""
    first, second = Process(url, Breaker(failures=2)), Process(url, LIMITS)
    first.fail(2)
    first.exchange()
    second.exchange()
    assert second.breaker.state is State.CLOSED
    second.fail(2)
    second.exchange()
    with first:
        first.breaker.force_closed()
    first.exchange()
    assert first.breaker.state is State.CLOSED
    for one in (first, second):
        one.database.close()


def test_database_that_is_away_keeps_no_probe_back(tmp_path: Path, later: Callable[[Process], None]) -> None:
    """Each process then decides alone."""
    one = Process(f"sqlite:///{tmp_path / 'shared.db'}")
    one.fail(2)
    one.exchange()
    later(one)
    one.database.close()
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "shared.db").mkdir()
    assert one.enter()


def test_learned_rate_outlives_the_process(url: str) -> None:
    """Limiters that live already and those that are made later go on at it, as far as their limits allow."""
    database = Database(url)
    learner = LiveLimiter("crm", AdaptiveLimiter(rate_per_s=50, profile="aimd"), lambda *_: None)
    learner.failed(throttled=True, asked_s=None)
    before = SharedState(SqlBoard(database))
    before.exchange()
    assert learner.rate_per_s == 35.0
    del learner

    restarted = SharedState(SqlBoard(database))
    early = LiveLimiter("crm", AdaptiveLimiter(rate_per_s=50), lambda *_: None)
    restarted.adopt_rates()
    assert early.rate_per_s == 35.0
    LINK.state = restarted
    try:
        late = LiveLimiter("crm", AdaptiveLimiter(rate_per_s=50), lambda *_: None)
        bounded = LiveLimiter("crm", AdaptiveLimiter(rate_per_s=5), lambda *_: None)
        stranger = LiveLimiter("shop", AdaptiveLimiter(rate_per_s=50), lambda *_: None)
        assert (late.rate_per_s, bounded.rate_per_s, stranger.rate_per_s) == (35.0, 10.0, 50.0)
    finally:
        LINK.state = None
        database.close()


def test_rate_and_breaker_in_use_outlive_what_is_forgotten(pair: tuple[Process, Process]) -> None:
    """A rate that does not move is written once a day, and a breaker that was forgotten is followed as a new one."""
    first, second = pair
    board = SqlBoard(first.database)
    board.learn("crm-still", 20.0)
    limiter = LiveLimiter("crm-still", AdaptiveLimiter(rate_per_s=50), lambda *_: None)

    def ages(table: str, column: str) -> None:
        with first.database.session() as session:
            session.run(f"UPDATE {{schema}}{table} SET {column} = 0", {})

    for days in (0, 2):
        ages("learned_rates", "learned_at")
        with HOST.replaced(monotonic=lambda before=HOST.monotonic, days=days: before() + days * 86_400.0):
            first.shared.keep_rates()
        board.forget(100)
        assert board.learned() == {"crm-still": limiter.rate_per_s} == {"crm-still": 20.0}
    with first:
        first.breaker.force_open("maintenance")
    first.exchange()
    second.exchange()
    ages("shared_breakers", "reopen_at")
    board.forget(100)
    assert board.standings() == []
    second.exchange()
    with first:
        first.breaker.force_closed()
    first.exchange()
    second.exchange()
    assert second.breaker.state is State.CLOSED


def test_rate_is_adopted_when_the_board_comes_back(tmp_path: Path) -> None:
    """Away when the process began: what it learned first must not take the place of what was learned before."""
    path, away = tmp_path / "shared.db", tmp_path / "away.db"
    database = Database(path)
    board = SqlBoard(database)
    board.learn("crm-back", 12.0)
    board.learn("crm-slowed", 40.0)
    database.close()
    path.rename(away)
    path.mkdir()
    shared = SharedState(board)
    grown, slowed = (
        LiveLimiter(name, AdaptiveLimiter(rate_per_s=50), lambda *_: None) for name in ("crm-back", "crm-slowed")
    )
    for ask in (shared.adopt_rates, shared.exchange, shared.keep_rates):
        with pytest.raises(StoreUnavailable):
            ask()
    grown.resume(55.0)
    slowed.resume(20.0)
    path.rmdir()
    away.rename(path)
    shared.keep_rates()
    assert (grown.rate_per_s, slowed.rate_per_s) == (12.0, 20.0)
    assert board.learned() == {"crm-back": 12.0, "crm-slowed": 20.0}
    grown.resume(30.0)
    shared.keep_rates()
    assert (grown.rate_per_s, board.learned()["crm-back"]) == (30.0, 30.0)
    database.close()


def test_rate_is_written_when_it_has_moved(url: str) -> None:
    """At most every few seconds, and not for less than one percent: a limiter that grows with every answer is no storm."""
    database = Database(url)
    board = SqlBoard(database)
    shared = SharedState(board)
    shared.exchange()
    limiter = LiveLimiter("crm-moves", AdaptiveLimiter(rate_per_s=50), lambda *_: None)
    limiter.resume(50.4)
    shared.keep_rates()
    assert board.learned() == {}
    limiter.resume(60.0)
    shared.exchange()
    assert board.learned() == {}
    shared.keep_rates()
    assert board.learned() == {"crm-moves": 60.0}
    database.close()


def noticed(one: Process) -> list[tuple[str, str, bool]]:
    return [(notice.service, notice.message, notice.recovered) for notice in SqlBoard(one.database).notices(10)]


def test_opening_is_noticed_once_whoever_follows(
    pair: tuple[Process, Process], later: Callable[[Process], None]
) -> None:
    """The process that saw it tells the engine; the one that follows does not, and a proven recovery is told too."""
    first, second = pair
    cores = [Core("crm[eu]", Settings(breaker=LIMITS), Listeners(), service="crm") for _ in pair]
    for one, core in zip(pair, cores, strict=True):
        assert isinstance(core.breaker, LiveBreaker)
        one.breaker = core.breaker
    open_both(first, second)
    assert second.breaker.state is State.OPEN
    later(first)
    with first:
        first.breaker.enter().ok()
    first.exchange()
    second.exchange()
    first.exchange()
    assert noticed(first) == [
        ("crm", "crm[eu]: 2 failures in a row", False),
        ("crm", "crm[eu]: 1 probes succeeded", True),
    ]


def test_what_a_person_does_is_no_failure(url: str) -> None:
    """Held open and forced closed by hand: the engine hears of neither."""
    one = Process(url)
    core = Core("crm", Settings(breaker=LIMITS), Listeners())
    assert isinstance(core.breaker, LiveBreaker)
    one.breaker = core.breaker
    with one:
        one.breaker.hold_open("maintenance")
        one.breaker.force_closed()
    one.exchange()
    assert noticed(one) == []
    one.database.close()


class Choosy(SqlBoard):
    """A board that refuses some names for good, as an engine does."""

    def notice(self, notice: Notice) -> None:
        if len(notice.message) > 500:
            raise InvalidInput("too long")
        super().notice(notice)

    def learn(self, name: str, rate_per_s: float) -> None:
        if len(name) > 500:
            raise InvalidInput("too long")
        super().learn(name, rate_per_s)


def test_word_that_is_refused_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key becomes a name that is too long: it is said in the log, and what comes after it is told."""
    database = Database(f"sqlite:///{tmp_path / 'shared.db'}")
    board = Choosy(database)
    shared = SharedState(board)
    limiters = [LiveLimiter(name, AdaptiveLimiter(rate_per_s=50), lambda *_: None) for name in ("x" * 600, "short")]
    for limiter in limiters:
        limiter.resume(20.0)
    shared.noticed("crm", "circuit_breaker_open", "x" * 600, recovered=False)
    shared.noticed("crm", "circuit_breaker_open", "short", recovered=False)
    shared.exchange()
    assert [notice.message for notice in board.notices(10)] == ["short"]
    assert "short" in board.learned()
    assert "too long" in caplog.text
    database.close()


def test_word_waits_for_a_board_that_is_away(tmp_path: Path) -> None:
    """Nothing is lost and nothing is told twice."""
    one = Process(f"sqlite:///{tmp_path / 'shared.db'}")
    one.fail(2)
    away = tmp_path / "away.db"
    one.database.close()
    (tmp_path / "shared.db").rename(away)
    (tmp_path / "shared.db").mkdir()
    with pytest.raises(StoreUnavailable):
        one.exchange()
    (tmp_path / "shared.db").rmdir()
    away.rename(tmp_path / "shared.db")
    one.exchange()
    one.exchange()
    assert [(standing.state, standing.version) for standing in SqlBoard(one.database).standings()] == [(State.OPEN, 1)]
    one.database.close()
