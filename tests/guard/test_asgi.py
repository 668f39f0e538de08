"""Requests are healed where they are served: repeated, repaired, or answered with a 503; never twice, never a crash."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import prunella as pr
from guard.conftest import ManualTime
from prunella.core.errors import AttemptTimeout, CircuitOpen
from prunella.core.events import Event
from prunella.guard.asgi import BODY_BYTES_MAX, SelfHealingMiddleware, Unavailable, self_healing

QUICK = pr.Retry(attempts=3, base_s=0.0)
Script = list[Any]


class Heard:
    """What a client got over ASGI."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.starts = [one for one in messages if one["type"] == "http.response.start"]

    @property
    def status(self) -> int:
        assert len(self.starts) == 1, self.messages
        return int(self.starts[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.starts[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.messages)


class Client:
    """Speak ASGI to an application, in memory."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.messages: list[dict[str, Any]] = []

    async def ask(
        self,
        method: str = "GET",
        body: list[bytes] | None = None,
        headers: dict[str, str] | None = None,
        receive: Callable[[], Awaitable[Any]] | None = None,
    ) -> Heard:
        """Send one request and return what came back."""
        self.messages = []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": "/orders",
            "raw_path": b"/orders", "query_string": b"", "root_path": "", "scheme": "http", "server": ("shop", 80),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }  # fmt: skip
        parts = list(body or [b""])

        async def bring() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await asyncio.Event().wait()
            raise AssertionError("nobody hangs up")

        async def send(message: Any) -> None:
            self.messages.append(dict(message))

        await self.app(scope, receive or bring, send)
        return Heard(self.messages)


class Shop:
    """An application that does what it is told, one step per time it is called; it keeps what it was sent."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.bodies: list[bytes] = []
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        request = StarletteRequest(scope, receive)
        self.bodies.append(await request.body())
        assert "touched" not in scope
        scope["touched"] = True
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            await step(scope, receive, send)
            return
        await PlainTextResponse(str(step), status_code=step)(scope, receive, send)


def healing(app: Any, remedy: Any = None, **parts: Any) -> tuple[Client, list[Event]]:
    """Return a client of an application under a quick policy, and the events that it tells."""
    events: list[Event] = []
    policy = pr.policy("shop", **{"retry": QUICK, **parts}, listeners=[events.append])
    return Client(SelfHealingMiddleware(app, component="shop", policy=policy, remedy=remedy)), events


def ask(client: Client, *args: Any, **kwargs: Any) -> Heard:
    """Ask once, in a loop of its own."""
    return asyncio.run(client.ask(*args, **kwargs))


# Served again ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_repeatable_request_is_served_again(method: str) -> None:
    """A crash before the response is made up for; the body is the same each time."""
    shop = Shop(OSError("down"), OSError("down"), 200)
    client, _ = healing(shop)
    heard = ask(client, method, [b"rows ", b"and more"])
    assert (heard.status, shop.calls) == (200, 3)
    assert shop.bodies == [b"rows and more"] * 3


def test_body_that_was_read_in_part_is_served_whole() -> None:
    """What one attempt left unread the next reads from the client."""
    read: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not read:
            read.append((await receive())["body"])
            raise OSError("down")
        read.append(await StarletteRequest(scope, receive).body())
        await PlainTextResponse("ok")(scope, receive, send)

    client, _ = healing(app)
    assert ask(client, "PUT", [b"a", b"b", b"c"]).status == 200
    assert read == [b"a", b"abc"]


@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPFIND"])
def test_other_methods_are_served_once(method: str) -> None:
    """They may have had their effect: not even a refused connection further down makes them repeatable."""
    shop = Shop(ConnectionRefusedError("the database"), 200)
    client, _ = healing(shop, remedy=lambda error: True)
    heard = ask(client, method, [b"{}"])
    assert (heard.status, shop.calls) == (503, 1)


@pytest.mark.parametrize(("size", "calls"), [(BODY_BYTES_MAX, 2), (BODY_BYTES_MAX + 1, 1)])
def test_body_is_kept_up_to_one_mebibyte(size: int, calls: int) -> None:
    """A longer one is served whole, but once."""
    shop = Shop(OSError("down"), 200)
    client, _ = healing(shop)
    heard = ask(client, "PUT", [b"x" * (size - 1), b"x"])
    assert (heard.status, shop.calls) == ({2: 200, 1: 503}[calls], calls)
    assert {len(body) for body in shop.bodies} == {size}


def test_scope_is_fresh_for_each_attempt_and_shared_with_those_outside() -> None:
    """What one attempt wrote is gone for the next; what the last wrote is seen by middleware further out."""
    shop = Shop(OSError("down"), 200)
    seen: list[Any] = []

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await SelfHealingMiddleware(shop, policy=pr.policy("shop", retry=QUICK))(scope, receive, send)
        seen.append(scope.get("touched"))

    assert ask(Client(outer)).status == 200
    assert seen == [True]


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


# Responses that were begun --------------------------------------------------------------------------------------------


def begun_then(error: BaseException) -> Any:
    """Return an application that starts a response and then fails."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise error

    return app


def test_begun_response_is_never_begun_again() -> None:
    """The failure is raised as it is, for the server to cut the connection; it counts and is learned from."""
    error = OSError("torn")
    client, events = healing(Shop(begun_then(error)), remedy=lambda failure: True, breaker=pr.Breaker(failures=1))
    with pytest.raises(OSError, match="torn") as caught:
        ask(client)
    assert caught.value is error
    assert len(Heard(client.messages).starts) == 1
    assert [event.name for event in events if event.name in ("call.retrying", "failure.learned")] == ["failure.learned"]
    assert pr.policies()["shop"].breaker.state.value == "open"


def test_response_begun_by_a_later_attempt_is_not_begun_again() -> None:
    """The second attempt got as far as a response: there is no third."""
    shop = Shop(OSError("down"), begun_then(OSError("torn")), 200)
    client, _ = healing(shop)
    with pytest.raises(OSError, match="torn"):
        ask(client)
    assert (shop.calls, len(Heard(client.messages).starts)) == (2, 1)


def test_stream_is_passed_on_as_it_comes() -> None:
    """The start is not held back until there is a body, and no piece waits for the next."""
    heard: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        heard.append(len(client.messages))
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            heard.append(len(client.messages))

    client, _ = healing(app)
    ask(client)
    assert heard == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_other_protocols_pass_untouched(kind: str) -> None:
    """Only HTTP is healed: a websocket's failure is its own."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)
        raise OSError("down")

    given = ({"type": kind}, object(), object())
    with pytest.raises(OSError, match="down"):
        asyncio.run(SelfHealingMiddleware(app)(*given))  # type: ignore[arg-type]
    assert all(one is other for one, other in zip(seen, given, strict=True))
    assert len(seen) == 3


# A 500 that the application made itself -------------------------------------------------------------------------------


def test_500_is_a_crash_that_somebody_dressed() -> None:
    """Django and others answer 500 and raise nothing: it is served again, and the client sees the good answer only."""
    shop = Shop(500, 500, 200)
    client, _ = healing(shop)
    heard = ask(client)
    assert (heard.status, heard.body, shop.calls) == (200, b"200", 3)


@pytest.mark.parametrize(("method", "calls"), [("GET", 3), ("POST", 1)])
def test_last_500_is_the_applications_own(method: str, calls: int) -> None:
    """It has been graceful by itself; its answer goes out as it made it, and counts."""
    shop = Shop(500)
    client, events = healing(shop)
    heard = ask(client, method)
    assert (heard.status, heard.body, shop.calls) == (500, b"500", calls)
    assert "failure.learned" in [event.name for event in events]


@pytest.mark.parametrize("status", [200, 302, 404, 429, 502, 503])
def test_other_answers_are_meant(status: int) -> None:
    """What an application says on purpose goes out at once."""
    shop = Shop(status)
    client, _ = healing(shop)
    assert (ask(client).status, shop.calls) == (status, 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whole_application_of_starlette_is_healed(method: str) -> None:
    """It answers 500 and raises as well: the client sees one response, the graceful one."""
    crashes = [OSError("down")] * (3 if method == "POST" else 5)

    async def orders(request: StarletteRequest) -> Response:
        if crashes:
            raise crashes.pop()
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/orders", orders, methods=["GET", "POST"])])
    client, _ = healing(app)
    assert [ask(client, method).status for _ in range(2)] == ([503, 200] if method == "GET" else [503, 503])


def test_long_500_is_not_held_for_ever() -> None:
    """A page of more than 64 KiB begins to flow; then it is begun."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response(b"x" * 70_000, status_code=500)(scope, receive, send)

    shop = Shop(app, 200)
    client, _ = healing(shop)
    heard = ask(client)
    assert (heard.status, len(heard.body), shop.calls) == (500, 70_000, 1)


def test_500_by_other_means_than_bytes_flows() -> None:
    """A file sent by the server itself can't be held."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/srv/sorry.html"})

    shop = Shop(app)
    client, _ = healing(shop)
    ask(client)
    assert shop.calls == 1
    assert [message["type"] for message in client.messages] == ["http.response.start", "http.response.pathsend"]


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


# Clients that leave, and cancellation ---------------------------------------------------------------------------------


def test_client_that_left_is_nobodys_failure() -> None:
    """The application's own exception about it passes; it is neither counted nor learned nor repeated."""

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    shop = Shop(200)
    client, events = healing(shop, breaker=pr.Breaker(failures=1))
    with pytest.raises(ClientDisconnect):
        ask(client, "PUT", receive=leave)
    assert (shop.calls, client.messages, events) == (1, [], [])
    assert pr.policies()["shop"].breaker.state.value == "closed"


def test_client_that_left_in_mid_answer_is_nobodys_failure() -> None:
    """A server that raises because nobody listens is heard, and its error passes."""

    async def gone(message: Any) -> None:
        raise OSError("nobody listens")

    policy = pr.policy("shop", retry=QUICK, breaker=pr.Breaker(failures=1))
    middleware = SelfHealingMiddleware(Shop(200), policy=policy)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    with pytest.raises(OSError, match="nobody listens"):
        asyncio.run(middleware({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, gone))
    assert policy.breaker.state.value == "closed"


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


def test_cancellation_passes() -> None:
    """It is no failure: not repeated, not counted, not answered."""
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    client, events = healing(app, breaker=pr.Breaker(failures=1), remedy=lambda error: True)

    async def cancel() -> None:
        task = asyncio.create_task(client.ask())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert (client.messages, events) == ([], [])


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


def test_fallback_may_answer() -> None:
    """A Response is an ASGI application: what a fallback returns is sent; anything else is not."""
    client, _ = healing(Shop(OSError("down")), fallback=lambda scope: PlainTextResponse("from the cache"))
    heard = ask(client)
    assert (heard.status, heard.body) == (200, b"from the cache")
    client, _ = healing(Shop(OSError("down")), fallback=lambda scope: "no application")
    assert ask(client).status == 503


# One handler ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop() -> pr.Policy:
    """A quick policy."""
    return pr.policy("shop", retry=QUICK)


def test_handler_is_healed(shop: pr.Policy) -> None:
    """Synchronous and asynchronous handlers: repeated, remedied, tried once more."""
    outcomes: Script = []

    def handler(order: int) -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return order + int(outcome)

    async def ahandler(order: int) -> int:
        return handler(order)

    def remedy(error: Exception) -> bool:
        return str(error) == "known"

    healed = self_healing("orders", policy=shop, remedy=remedy)(handler)
    ahealed = self_healing("orders", policy=shop, remedy=remedy)(ahandler)
    ways: list[Callable[[int], Any]] = [healed, lambda order: asyncio.run(ahealed(order))]
    for serve in ways:
        outcomes[:] = [OSError("down"), 1]
        assert serve(7) == 8
        outcomes[:] = [OSError("known")] * 3 + [2]
        assert serve(7) == 9
        outcomes[:] = [OSError("known")] * 3 + [OSError("still")]
        assert serve(7).status_code == 503
        outcomes[:] = [OSError("unknown")] * 3
        assert serve(7).status_code == 503
        assert outcomes == []
    assert healed.__name__ == "handler"


def test_handler_answers_with_what_its_framework_takes(shop: pr.Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """starlette's Response where starlette is loaded, plain attributes elsewhere, or what `respond` makes."""

    def crash() -> None:
        raise OSError("down")

    answer: Any = self_healing("orders", policy=shop)(crash)()
    assert isinstance(answer, Response)
    assert (answer.status_code, answer.media_type) == (503, "application/problem+json")
    flask: Any = self_healing("orders", policy=shop, respond=lambda one: (one.body, one.status_code, one.headers))(
        crash
    )()
    assert (flask[1], flask[2]["Retry-After"]) == (503, "2")
    monkeypatch.delitem(sys.modules, "starlette.responses")
    bare: Any = self_healing("orders", policy=shop)(crash)()
    assert isinstance(bare, Unavailable)
    assert json.loads(bare.body)["request_id"] == bare.headers["X-Request-ID"] == bare.request_id


class Asked:
    """A request as frameworks shape it."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.headers = {"X-Request-Id": "order-7"}


class Payment:
    """No request, although it has a method."""

    method = "card"


@pytest.mark.parametrize(("request_", "calls"), [(Asked("GET"), 3), (Asked("POST"), 1), (Payment(), 3)])
def test_handler_of_an_unsafe_request_is_called_once(shop: pr.Policy, request_: Any, calls: int) -> None:
    """A request among the arguments says whether it may be repeated; also after a remedy."""
    seen: list[Any] = []

    @self_healing("orders", policy=shop, remedy=lambda error: calls == 1)
    def handler(request: Any) -> None:
        seen.append(request)
        raise OSError("down")

    answer: Any = handler(request_)
    assert (answer.status_code, len(seen)) == (503, calls)
    assert (answer.headers["x-request-id"] == "order-7") is isinstance(request_, Asked)


def test_answer_raised_by_a_handler_is_not_a_crash(shop: pr.Policy) -> None:
    """A framework's own 404 or 429 is for the client; the 404 of a service further down is a crash."""
    calls: list[int] = []

    @self_healing("orders", policy=shop)
    async def handler(status: int) -> None:
        calls.append(status)
        raise HTTPException(status)

    for status in (302, 404, 429):
        with pytest.raises(HTTPException):
            asyncio.run(handler(status))
    assert calls == [302, 404, 429]

    @self_healing("orders", policy=shop)
    def upstream() -> None:
        httpx2.Response(404, request=httpx2.Request("GET", "http://crm.example/")).raise_for_status()

    answer: Any = upstream()
    assert answer.status_code == 503

    class NotFound(Exception):
        """As SDKs raise it: with a status of its own, and the other service's response."""

        status_code = 404
        response = httpx2.Response(404)

    @self_healing("orders", policy=shop)
    def sdk() -> None:
        raise NotFound

    answer = sdk()
    assert answer.status_code == 503


def test_handler_whose_service_is_guarded_is_not_multiplied(shop: pr.Policy) -> None:
    """A guard further down has tried already: its failure ends in an answer, not in more attempts."""
    calls: list[int] = []
    crm = pr.policy("crm", retry=QUICK)

    @crm
    def fetch() -> None:
        calls.append(1)
        raise OSError("down")

    @self_healing("orders", policy=shop)
    def handler() -> None:
        fetch()

    answer: Any = handler()
    assert (answer.status_code, len(calls)) == (503, 3)


def test_refusal_further_down_is_not_counted(shop: pr.Policy) -> None:
    """An open breaker of a service further down says nothing about this component; its wait is passed on."""
    policy = pr.policy("orders", breaker=pr.Breaker(failures=1))

    @self_healing("orders", policy=policy)
    def handler(request: Asked) -> None:
        raise CircuitOpen("crm is open", retry_after_s=41.5)

    answer: Any = handler(Asked("POST"))
    assert answer.headers["retry-after"] == "42"
    assert policy.breaker.state.value == "closed"


def test_misuse_is_refused_where_it_is_declared() -> None:
    """A remedy that can't be awaited, a policy that is none."""

    def handler() -> None: ...

    with pytest.raises(TypeError, match="not async but its remedy is"):
        self_healing("orders", remedy=_arepair)(handler)
    with pytest.raises(TypeError, match=r"pr\.policy"):
        self_healing("orders", policy="crm")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="function of the failure"):
        SelfHealingMiddleware(Shop(200), remedy="restart")  # type: ignore[arg-type]


# In a real server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def address() -> Iterator[str]:
    """A FastAPI application with healed parts, served by uvicorn on loopback."""
    crashes = {"handler": 1, "route": 1, "stream": 1}
    app = FastAPI()
    quick = pr.policy("bookings", retry=QUICK)

    @app.get("/handler")
    @self_healing("handler", policy=quick)
    async def handler(order: int, request: Request) -> dict[str, int]:
        if crashes["handler"]:
            crashes["handler"] -= 1
            raise OSError("down")
        return {"order": order}

    @app.get("/broken")
    @self_healing("broken", policy=quick)
    def broken() -> None:
        raise OSError("down")

    @app.put("/route")
    async def route(rows: list[int]) -> JSONResponse:
        if crashes["route"]:
            crashes["route"] -= 1
            raise OSError("down")
        return JSONResponse(rows)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def torn() -> Any:
            yield "half"
            raise OSError("torn")

        return StreamingResponse(torn())

    @app.get("/crash")
    async def crash() -> None:
        raise OSError("down")

    app.add_middleware(SelfHealingMiddleware, component="bookings", policy=quick)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.mark.slow
def test_real_server_with_fastapi(address: str) -> None:
    """uvicorn, FastAPI, bytes on a socket: healed handlers keep their parameters, routes are served again."""
    with httpx2.Client(base_url=address) as client:
        assert client.get("/handler", params={"order": 7}).json() == {"order": 7}
        assert client.get("/handler", params={"order": "x"}).status_code == 422
        assert client.get("/broken", headers={"x-request-id": "a-1"}).json()["status"] == 503
        assert client.put("/route", json=[1, 2]).json() == [1, 2]
        crashed = client.get("/crash", headers={"x-request-id": "a-1"})
        assert (crashed.status_code, crashed.headers["x-request-id"], crashed.headers["retry-after"]) == (
            503,
            "a-1",
            "2",
        )
        with pytest.raises(httpx2.RemoteProtocolError):
            client.get("/stream")
        assert client.get("/nowhere").status_code == 404
