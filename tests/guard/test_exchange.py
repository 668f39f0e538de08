"""An exchange is served again from its beginning, and its response is begun once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import prunella as pr
from guard.shop import QUICK, Client, Heard, Shop, ask, healing
from prunella.guard.asgi import SelfHealingMiddleware
from prunella.guard.exchange import BODY_BYTES_MAX

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


def test_begun_response_has_no_other_word_after_it() -> None:
    """Neither a fallback nor a wait that a service asked for takes the place of what was torn."""

    class Throttled(Exception):
        status = 429
        retry_after_s = 277403.0

    error = Throttled()
    client, _ = healing(Shop(begun_then(error)), fallback=lambda scope: PlainTextResponse("from the cache"))
    with pytest.raises(Throttled) as caught:
        ask(client)
    assert caught.value is error
    assert len(Heard(client.messages).starts) == 1


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


def test_500_for_a_client_that_left_is_nobodys_failure() -> None:
    """The application has been graceful, and nobody listened: there is nothing to raise."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("sorry", status_code=500)(scope, receive, send)
        await receive()

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    client, events = healing(app, breaker=pr.Breaker(failures=1))
    ask(client, receive=leave)
    assert (client.messages, events) == ([], [])


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
