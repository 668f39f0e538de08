"""Retries of other libraries that are used up are heard of once, and not multiplied."""

from __future__ import annotations

import asyncio
import logging

import pytest
import stamina
import tenacity

import prunella as pr
from prunella.core.events import Event
from prunella.guard.exhausted import report_exhausted, reports_exhausted, retry_error_callback

QUICK = pr.Retry(attempts=3, base_s=0.0)


class Outcome:
    """The outcome of tenacity's last attempt."""

    def __init__(self, error: Exception | None) -> None:
        self.failed = error is not None
        self._error = error

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> str:
        if self._error is not None:
            raise self._error
        return "not what was wanted"


class RetryState:
    """What tenacity hands to a callback."""

    attempt_number = 4

    def __init__(self, error: Exception | None) -> None:
        self.outcome = Outcome(error)


@pytest.fixture
def heard() -> list[Event]:
    """Events of a policy named shop."""
    events: list[Event] = []
    pr.policy("shop", listeners=[events.append])
    return events


def test_callback_of_tenacity_reports_and_raises_the_error_itself(heard: list[Event]) -> None:
    """tenacity returns what its callback returns: the caller must still get the error."""
    error = OSError("down")
    with pytest.raises(OSError, match="down") as caught:
        retry_error_callback("shop")(RetryState(error))
    assert caught.value is error
    (event,) = heard
    assert (event.name, event.fields["attempts"], event.fields["error"]) == ("call.gave_up", 4, error)
    assert retry_error_callback("shop")(RetryState(None)) == "not what was wanted"
    assert len(heard) == 1


def test_tenacity_itself_is_accepted(heard: list[Event]) -> None:
    """The real one."""

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), retry_error_callback=retry_error_callback("shop"))
    def push() -> None:
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        push()
    assert [event.fields["attempts"] for event in heard] == [3]


def test_stamina_itself_is_accepted(heard: list[Event]) -> None:
    """The real one: a decorator above its own catches at the end."""

    @reports_exhausted("shop")
    @stamina.retry(on=OSError, attempts=2, wait_initial=0.0, wait_max=0.0)
    def push() -> None:
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        push()
    assert [event.name for event in heard] == ["call.gave_up"]


def test_decorator_reports_what_a_function_raises(heard: list[Event]) -> None:
    """Synchronous and asynchronous, results untouched, names kept."""

    @reports_exhausted("shop")
    def push(result: str) -> str:
        if result == "down":
            raise OSError(result)
        return result

    @reports_exhausted("shop")
    async def apush(result: str) -> str:
        return push(result)

    assert (push("ok"), asyncio.run(apush("ok")), push.__name__) == ("ok", "ok", "push")
    assert heard == []
    with pytest.raises(OSError, match="down"):
        asyncio.run(apush("down"))
    assert len(heard) == 2


def test_report_reads_attempts_where_an_error_tells(heard: list[Event]) -> None:
    """tenacity's RetryError holds its last attempt; urllib3's MaxRetryError tells none."""

    class RetryError(Exception):
        last_attempt = RetryState(None)

    report_exhausted("shop", RetryError())
    report_exhausted("shop", OSError("too many retries"))
    assert [event.fields["attempts"] for event in heard] == [4, None]


def test_exhausted_retries_are_not_multiplied(heard: list[Event]) -> None:
    """A policy further out does not try again what another library has tried already."""
    calls: list[int] = []

    @pr.policy("outer", retry=QUICK)
    @reports_exhausted("shop")
    def push() -> None:
        calls.append(1)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        push()
    assert len(calls) == 1


def test_report_to_nobody_is_logged_and_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is called where another error is on its way: that one must arrive."""
    with caplog.at_level(logging.WARNING):
        report_exhausted("no such policy", OSError("down"))
    assert "no policy named no such policy" in caplog.text
