"""Breakers of several processes, on both databases: who opens opens for all, and one probes for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from prunella.core.clock import HOST
from prunella.core.errors import CircuitOpen
from prunella.guard.breaker import LINK, Breaker, LiveBreaker, State
from prunella.guard.ledger import Ledger
from prunella.guard.shared import SharedBreakers

pytestmark = pytest.mark.slow  # real databases

LIMITS = Breaker(failures=2, open_s=0.05, shared=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


class Process:
    """One process's side: its breaker and its link to the database."""

    def __init__(self, url: str, limits: Breaker = LIMITS, name: str = "crm") -> None:
        self.ledger = Ledger(url)
        self.shared = SharedBreakers(self.ledger)
        self.changes: list[tuple[str, str]] = []
        self.breaker = LiveBreaker(name, limits, lambda before, after, _: self.changes.append((before, after)), 1.0)

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
def pair(url: str) -> Iterator[tuple[Process, Process]]:
    first, second = Process(url), Process(url)
    yield first, second
    for one in (first, second):
        one.ledger.close()


def open_both(first: Process, second: Process) -> None:
    first.fail(2)
    first.exchange()
    second.exchange()


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


def test_one_process_probes_for_all(pair: tuple[Process, Process]) -> None:
    """When the open time is over one of them may try; its success closes the others too."""
    first, second = pair
    open_both(first, second)
    HOST.sleep(0.08)
    probe = first.enter()
    with pytest.raises(CircuitOpen):
        second.enter()
    with first:
        probe.ok()
    first.exchange()
    second.exchange()
    assert (first.breaker.state, second.breaker.state) == (State.CLOSED, State.CLOSED)


def test_failed_probe_keeps_all_waiting(pair: tuple[Process, Process]) -> None:
    """The longer open time of the one that tried is the others' too."""
    first, second = pair
    open_both(first, second)
    HOST.sleep(0.08)
    with first:
        first.breaker.failed(first.breaker.enter())
    first.exchange()
    second.exchange()
    assert second.breaker.open_for_s > 0.05
    with pytest.raises(CircuitOpen):
        second.enter()


def test_probe_of_a_dead_process_frees_its_place(pair: tuple[Process, Process]) -> None:
    """When its lease is over the next process may try."""
    first, second = pair
    open_both(first, second)
    HOST.sleep(0.08)
    with first:
        assert first.shared.may_probe("crm", 0.05)
        assert not second.shared.may_probe("crm", 0.05)
    HOST.sleep(0.08)
    assert second.enter()


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
        one.ledger.close()


def test_database_that_is_away_keeps_no_probe_back(tmp_path: Path) -> None:
    """Each process then decides alone."""
    one = Process(f"sqlite:///{tmp_path / 'shared.db'}")
    one.fail(2)
    one.exchange()
    HOST.sleep(0.08)
    one.ledger.close()
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "shared.db").mkdir()
    assert one.enter()
