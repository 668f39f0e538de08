"""Whole applications and single handlers are healed, in memory and in a real server."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import prunella as pr
from guard.shop import QUICK, Shop
from prunella.core.errors import CircuitOpen
from prunella.core.events import Event
from prunella.guard.asgi import SelfHealingMiddleware, self_healing
from prunella.guard.healing import Unavailable


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


# One handler ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop() -> pr.Policy:
    """A quick policy."""
    return pr.policy("shop", retry=QUICK)


def test_handler_is_healed(shop: pr.Policy) -> None:
    """Synchronous and asynchronous handlers: repeated, remedied, tried once more."""
    outcomes: list[Any] = []

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


def test_answer_raised_after_a_remedy_is_not_learned_from() -> None:
    """The remedy worked, and the order is not there: that is for the client, and no failure."""
    events: list[Event] = []
    policy = pr.policy("shop", breaker=pr.Breaker(failures=9), listeners=[events.append])
    outcomes: list[Exception] = [OSError("known"), HTTPException(404)]

    @self_healing("orders", policy=policy, remedy=lambda error: True)
    def handler() -> None:
        raise outcomes.pop(0)

    with pytest.raises(HTTPException):
        handler()
    assert [event.name for event in events] == ["call.gave_up", "remedy.tried"]


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

    async def remedy(error: Exception) -> bool:
        return True

    with pytest.raises(TypeError, match="not async but its remedy is"):
        self_healing("orders", remedy=remedy)(handler)
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
