"""Failures are answered, repaired and learned from; a client never sees a crash."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

import prunella as pr
from guard.conftest import ManualTime
from guard.shop import Client, Shop, ask, healing
from prunella.core.errors import AttemptTimeout
from prunella.core.events import Event
from prunella.guard.asgi import SelfHealingMiddleware

# Answers --------------------------------------------------------------------------------------------------------------


def test_crash_ends_as_a_503_with_a_request_id() -> None:
    """Problem details instead of a crash, with an id to ask for and when to come back; nothing of the error."""
    client, events = healing(Shop(OSError("secret password")))
    heard = ask(client)
    problem = json.loads(heard.body)
    assert (heard.status, problem["status"], problem["title"]) == (503, 503, "Service Unavailable")
    assert heard.headers["content-type"] == "application/problem+json"
    assert heard.headers["retry-after"] == "2"
    assert heard.headers["x-request-id"] == problem["request_id"]
    assert len(problem["request_id"]) == 36
    assert b"password" not in heard.body
    assert int(heard.headers["content-length"]) == len(heard.body)
    (learned,) = [event for event in events if event.name == "failure.learned"]
    assert learned.fields["component"] == "shop"
    assert learned.fields["action"] == "GET /orders"
    assert learned.fields["request_id"] == problem["request_id"]


def test_answer_to_head_has_no_body() -> None:
    """RFC 9110 section 9.3.2."""
    client, _ = healing(Shop(OSError("down")))
    assert ask(client, "HEAD").body == b""


@pytest.mark.parametrize(
    ("given", "kept"), [("order-7.a:b", True), ("two words", False), ("x" * 200, False), ("\r\nx", False)]
)
def test_request_id_of_the_client_is_kept_where_it_is_one(given: str, kept: bool) -> None:
    """It ties logs of several services together; anything that is no plain word is replaced."""
    client, _ = healing(Shop(OSError("down")))
    assert (ask(client, headers={"X-Request-ID": given}).headers["x-request-id"] == given) is kept


def test_wait_that_a_service_asked_for_is_passed_on() -> None:
    """A service further down asked for 7 s; so does the answer, rounded up."""

    class Throttled(Exception):
        status = 429

        def __init__(self, wait: str) -> None:
            self.headers = {"retry-after": wait}

    client, _ = healing(Shop(Throttled("6.2"), Throttled("277403")), retry=None)
    assert [ask(client).headers["retry-after"] for _ in range(2)] == ["7", "3600"]


def test_open_breaker_answers_without_the_application() -> None:
    """Document C: after five failures in a row nothing is served for a minute, and clients are told."""
    shop = Shop(OSError("down"))
    client = Client(SelfHealingMiddleware(shop, component="bookings"))
    events: list[Event] = []
    policy = pr.policies()["bookings"]
    policy.subscribe(events.append)
    policy.update(retry=None)
    for _ in range(5):
        assert ask(client).status == 503
    heard = ask(client)
    assert (heard.status, shop.calls) == (503, 5)
    assert 60 <= int(heard.headers["retry-after"]) <= 66
    assert [event.fields["issue"] for event in events if event.name == "issue.noticed"] == ["circuit_breaker_open"]


def test_default_figures_are_document_cs(clock: ManualTime) -> None:
    """Three attempts, 1 and 2 s apart, unless a policy says otherwise."""
    shop = Shop(OSError("down"), OSError("down"), 200)
    client = Client(SelfHealingMiddleware(shop, component="bookings"))
    assert clock.run(client.ask()).status == 200
    assert (clock.slept, shop.calls) == ([1.0, 2.0], 3)
    breaker = pr.policies()["bookings"].settings.breaker
    assert breaker is not None
    assert (breaker.failures, breaker.successes, breaker.open_s) == (5, 2, 60.0)


def test_failures_of_unsafe_requests_count() -> None:
    """What can't be repeated is still a failure of the component."""
    client, _ = healing(Shop(OSError("down")), breaker=pr.Breaker(failures=2))
    statuses = [ask(client, "POST").status for _ in range(3)]
    assert statuses == [503] * 3
    assert pr.policies()["shop"].breaker.state.value == "open"


def test_log_tells_what_failed_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is not lost with the crash; what redaction knows is taken out of it."""
    client, _ = healing(Shop(OSError("Authorization: Bearer abcdef0123456789abcdef")))
    with caplog.at_level(logging.ERROR):
        ask(client, headers={"x-request-id": "order-7"})
    assert "order-7" in caplog.text
    assert "Traceback" in caplog.text
    assert "abcdef0123456789" not in caplog.text


# Remedies -------------------------------------------------------------------------------------------------------------


async def _arepair(error: Exception) -> bool:
    return isinstance(error, OSError)


@pytest.mark.parametrize("remedy", [lambda error: isinstance(error, OSError), _arepair], ids=["sync", "async"])
def test_remedy_is_followed_by_exactly_one_more_try(remedy: Any) -> None:
    """Document C: what the remedy repaired is tried once more, and that is learned."""
    shop = Shop(OSError("stale cache"), OSError("stale cache"), OSError("stale cache"), 200)
    client, events = healing(shop, remedy=remedy)
    assert (ask(client).status, shop.calls) == (200, 4)
    assert [event.name for event in events][-2:] == ["remedy.tried", "remedy.proven"]
    shop = Shop(OSError("for good"))
    client, events = healing(shop, remedy=remedy)
    assert (ask(client).status, shop.calls) == (503, 4)
    assert [event.fields["remedied"] for event in events if event.name == "failure.learned"] == [True]


@pytest.mark.parametrize("says", [False, None, "yes"])
def test_remedy_that_does_not_say_true_brings_no_further_try(says: object) -> None:
    """Unknown failures are only learned."""
    shop = Shop(OSError("down"))
    client, events = healing(shop, remedy=lambda error: says)
    assert (ask(client).status, shop.calls) == (503, 3)
    assert [event.fields["worked"] for event in events if event.name == "remedy.tried"] == [False]


def test_remedy_that_fails_does_not_hide_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Its own error is told; the client gets the same answer."""

    def remedy(error: Exception) -> bool:
        raise RuntimeError("no access to the cache")

    client, events = healing(Shop(OSError("down")), remedy=remedy)
    assert ask(client).status == 503
    assert "remedy.failed" in [event.name for event in events]


def test_remedy_is_not_asked_about_refusals() -> None:
    """An open breaker is no failure of the application."""
    asked: list[Exception] = []
    client, _ = healing(Shop(200), remedy=asked.append, breaker=pr.Breaker())
    pr.policies()["shop"].breaker.hold_open("maintenance")
    assert ask(client).status == 503
    assert asked == []


def test_client_that_left_during_the_further_try_is_nobodys_failure() -> None:
    """Nobody is there to be answered: the exception passes."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tries.append(1)
        if len(tries) > 1:
            await receive()
        raise OSError("known")

    tries: list[int] = []
    client, _ = healing(app, remedy=lambda error: True, retry=None)
    with pytest.raises(OSError, match="known"):
        ask(client, receive=receive)
    assert (len(tries), client.messages) == (2, [])


# The parts of a policy ------------------------------------------------------------------------------------------------


def test_attempt_that_takes_too_long_is_served_again() -> None:
    """A policy's time limit ends an attempt; the next may be quicker."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    shop = Shop(slow, 200)
    client, _ = healing(shop, attempt_timeout_s=0.01)
    assert (ask(client).status, shop.calls) == (200, 2)
    client, events = healing(Shop(slow), attempt_timeout_s=0.01, retry=None, remedy=lambda error: True)
    assert [ask(client, method).status for method in ("GET", "POST")] == [503, 503]
    learned = [event.fields["error"] for event in events if event.name == "failure.learned"]
    assert [type(error) for error in learned] == [AttemptTimeout, AttemptTimeout]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("failure", [OSError("down"), 500])
def test_fallback_may_answer(method: str, failure: object) -> None:
    """A Response is an ASGI application: what a fallback returns is sent, also instead of the application's 500."""
    client, _ = healing(Shop(failure), fallback=lambda scope: PlainTextResponse("from the cache"))
    heard = ask(client, method)
    assert (heard.status, heard.body) == (200, b"from the cache")
    client, _ = healing(Shop(failure), fallback=lambda scope: "no application")
    assert ask(client, method).status == (500 if failure == 500 else 503)


def test_no_further_try_comes_after_the_deadline(clock: ManualTime) -> None:
    """A remedy that took all the time there was helps the next request; this one's own failure is learned from."""

    def remedy(error: Exception) -> bool:
        clock.passes(5.0)
        return True

    stale = OSError("stale cache")
    shop = Shop(stale, 200)
    client, events = healing(shop, remedy=remedy, retry=None, deadline_s=5.0)
    assert (clock.run(client.ask()).status, shop.calls) == (503, 1)
    assert [event.name for event in events] == ["call.gave_up", "remedy.tried", "failure.learned"]
    assert events[-1].fields["error"] is stale


def test_request_that_is_served_once_is_given_up_with_its_reason() -> None:
    """Who listens and who asks the policy hears of it as of every other call."""
    client, events = healing(Shop(OSError("down")))
    ask(client, "POST")
    assert [event.name for event in events] == ["call.gave_up", "failure.learned"]
    (told,) = pr.policies()["shop"].explain()["calls"]
    assert told["reason"] == events[0].fields["reason"] == "the request may not be served again"
