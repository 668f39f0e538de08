"""What processes tell each other and the engine, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest

from prunella.core.clock import HOST
from prunella.guard.board import Notice, SqlBoard, Standing
from prunella.guard.breaker import State
from prunella.guard.database import Database
from prunella.web.api.events import FailureEvent
from prunella.web.api.guards import NoticeIn

pytestmark = pytest.mark.slow  # real databases


@pytest.fixture(params=["sqlite", "postgresql"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlBoard]:
    """Open the board of an empty database, once of each kind."""
    kind = request.param
    url = f"sqlite:///{tmp_path / 'b.db'}" if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres_url"))
    database = Database(url)
    yield SqlBoard(database)
    database.close()


def notice(number: int, *, recovered: bool = False) -> Notice:
    return Notice(
        id=f"n{number}", service="crm", code="circuit_breaker_open", message=f"opened {number}", recovered=recovered
    )


def test_standing_comes_back_with_a_growing_version(board: SqlBoard) -> None:
    """The last word counts; a breaker that is held for ever can be written down too."""
    assert board.report(Standing(name="crm", state=State.OPEN, reason="down", open_s=30.0)) == 1
    assert board.report(Standing(name="crm", state=State.OPEN, reason="held", open_s=float("inf"))) == 2
    (standing,) = board.standings()
    assert (standing.name, standing.state, standing.reason, standing.version) == ("crm", State.OPEN, "held", 2)
    assert standing.open_s > 1e8


def test_secret_in_a_word_is_not_kept(board: SqlBoard) -> None:
    """Neither why a breaker opened nor what was noticed is written down with it."""
    board.report(Standing(name="crm", state=State.OPEN, reason="password=hunter2-abcdef", open_s=30.0))
    (standing,) = board.standings()
    noticed = Notice(service="crm", code="circuit_breaker_open", message="token=hunter2-abcdef", recovered=False)
    assert "hunter2" not in standing.reason + noticed.message
    assert standing.reason.startswith("password=[REDACTED")


def test_probe_is_won_once_per_period(board: SqlBoard) -> None:
    """Not before the open time is over, and by one; of a breaker that nobody reported everybody may probe."""
    assert board.may_probe("crm", 60.0)
    board.report(Standing(name="crm", state=State.OPEN, reason="down", open_s=60.0))
    assert not board.may_probe("crm", 60.0)
    board.report(Standing(name="crm", state=State.OPEN, reason="down", open_s=0.0))
    assert [board.may_probe("crm", 60.0) for _ in range(3)] == [True, False, False]


def test_last_learned_rate_counts(board: SqlBoard) -> None:
    """Each limiter has one."""
    for name, rate_per_s in (("crm", 50.0), ("shop", 5.0), ("crm", 12.5)):
        board.learn(name, rate_per_s)
    assert board.learned() == {"crm": 12.5, "shop": 5.0}


def test_notice_waits_until_it_is_taken(board: SqlBoard) -> None:
    """The oldest first, each once however often it is written, and what was taken does not come back."""
    for number in (1, 2, 2, 3):
        board.notice(notice(number, recovered=number == 3))
    first = board.notices(2)
    assert first == [notice(1), notice(2)]
    board.taken(first)
    assert board.notices(10) == [notice(3, recovered=True)]


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("crm", "crm"),
        (" Zürich: a/b@c+d.e_f-1 ", "Zürich: a/b@c+d.e_f-1"),
        ("crm|eu", "crm-eu-10f2cb43"),
        ("crm²", "crm--"),
        ("", "-00000000"),
        ("x" * 101, "x" * 91 + "-"),
        ("\ud800\0", "---"),
    ],
)
def test_service_of_a_notice_is_one_that_events_may_carry(name: str, service: str) -> None:
    """A policy may have any name; the notice is not lost for it, and two names stay two services."""
    noticed = Notice(service=name, code="circuit_breaker_open", message="x" * 3_000 + "\0", recovered=False)
    assert noticed.service.startswith(service)
    assert FailureEvent(event_id="e", service_name=noticed.service).service_name == noticed.service
    assert NoticeIn.model_validate(asdict(noticed)).service == noticed.service
    assert replace(noticed, id="n2").service == noticed.service
    assert replace(noticed, service=f"{name}|").service != noticed.service


def test_notice_that_no_engine_takes_is_forgotten(tmp_path: Path) -> None:
    """After a week; an application without an engine must not fill its database."""
    database = Database(f"sqlite:///{tmp_path / 'b.db'}")
    board = SqlBoard(database)
    board.notice(notice(1))
    week_s, before = 7 * 86_400.0, HOST.now
    with HOST.replaced(now=lambda: before() + timedelta(seconds=week_s + 60)):
        board.notice(notice(2))
        assert board.notices(10) == [notice(2)]
    database.close()
