"""Every error is a problem of RFC 9457: what was wrong, where, what next; and never a secret or a stack."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Message, Receive, Scope, Send

from prunella.core.errors import (
    Conflict,
    IllegalTransition,
    InvalidInput,
    Outdated,
    PrunellaError,
    SchemaBehind,
    StoreError,
    StoreUnavailable,
)
from prunella.web.auth import Role
from prunella.web.problems import CutOff, Problem, install, pointer, unprocessable
from web.conftest import Web

pytestmark = pytest.mark.anyio

TOKEN = "xoxb-1234567890-abcdefghijklmnop"


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")

    street: str
    number: Annotated[int, Field(ge=1)]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=5)]
    to: list[Address]
    extra: dict[str, Address] = Field(default_factory=dict)


def application(raised: Exception | None = None) -> FastAPI:
    """Return an application that fails as it is told, and knows some addresses."""
    app = FastAPI()
    install(app)

    @app.post("/size")
    async def size() -> None: ...

    @app.get("/fail")
    async def fail() -> None:
        assert raised is not None
        raise raised

    @app.get("/number/{number}")
    async def number(number: int, limit: int = 1) -> int:
        return number * limit

    return app


def client(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://prunella")


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """Return the problem details of an answer."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    return body


@pytest.mark.parametrize(
    ("raised", "status", "title"),
    [
        (Problem(418, "Teapot"), 418, "Teapot"),
        (InvalidInput("no address"), 422, "The input can't be accepted"),
        (IllegalTransition("incident: a -> b"), 409, "Not in this state"),
        (Conflict("row changed"), 409, "Changed meanwhile"),
        (StoreUnavailable("locked"), 503, "The database does not answer"),
        (Outdated("version 7, not 6"), 412, "Not the version you have seen"),
        (SchemaBehind("tables are old"), 503, "The database does not answer"),
        (StoreError("?"), 503, "The database does not answer"),
        (PrunellaError("?"), 500, "A fault of prunella's own"),
        (RuntimeError(f"boom {TOKEN}"), 500, "A fault of prunella's own"),
        (ZeroDivisionError("x"), 500, "A fault of prunella's own"),
    ],
)
async def test_every_error_has_its_status(raised: Exception, status: int, title: str) -> None:
    """Wrong input 422, wrong state 409, database away 503 with Retry-After, a bug 500 without its words."""
    async with client(application(raised=raised)) as web:
        answer = await web.get("/fail")
    body = problem(answer)
    assert (answer.status_code, body["title"], body["type"]) == (status, title, "about:blank")
    assert ("retry-after" in answer.headers) is (status == 503)
    if status == 500:
        assert body["detail"] == f"{type(raised).__name__}; the log says more"


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nowhere", 404, "there is nothing at this address"),
        ("GET", "/api/v1/nowhere", 404, "there is nothing at /api/v1/nowhere; see /openapi.json"),
        ("PUT", "/size", 405, "PUT is not answered here; allowed: OPTIONS, POST"),
        ("GET", "/number/x", 422, "1 wrong; see errors"),
    ],
)
async def test_errors_of_the_framework_are_problems_too(method: str, path: str, status: int, detail: str) -> None:
    """Unknown address, wrong method, wrong parameter: the same shape as our own, and as plain."""
    async with client(application()) as web:
        answer = await web.request(method, path)
    assert (problem(answer)["status"], problem(answer)["detail"]) == (status, detail)


async def test_parameter_is_named_once_however_it_may_be_understood(web: Web) -> None:
    """A state is one of a list or a word for several: the pointer is the parameter's, and both ways are told."""
    answer = await web.ask("GET", "/api/v1/incidents?state=foo", web.token(Role.VIEWER))
    (error,) = problem(answer)["errors"]
    assert error["pointer"] == "/query/state"
    assert "'escalated'" in error["detail"]
    assert error["detail"].endswith("; or: Input should be 'open_any'")


async def test_request_that_breaks_off_is_no_fault_of_ours(web: Web) -> None:
    """Who goes away in the middle of a body, without a token, fills no log with our faults."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/v1/inbound/shop", "query_string": b"", "headers": []}
    await web.api(
        {**scope, "scheme": "http", "server": ("x", 80), "http_version": "1.1", "root_path": ""}, receive, send
    )
    assert sent[0]["status"] == 400


async def test_wrong_parameters_are_named() -> None:
    """A wrong query parameter is named by its place."""
    async with client(application()) as web:
        answer = await web.get("/number/x?limit=y")
    assert [one["pointer"] for one in problem(answer)["errors"]] == ["/path/number", "/query/limit"]


async def test_pointer_of_refused_input_is_kept() -> None:
    """`InvalidInput` with a pointer names its place; without one it is about the whole."""
    async with client(application(raised=InvalidInput("wrong", pointer="/endpoint"))) as web:
        assert problem(await web.get("/fail"))["errors"] == [{"pointer": "/endpoint", "detail": "wrong"}]
    async with client(application(raised=InvalidInput("wrong"))) as web:
        assert "errors" not in problem(await web.get("/fail"))


def test_every_word_of_a_problem_is_scrubbed() -> None:
    """A message that holds a token leaves without it."""
    errors = [{"pointer": "/auth", "detail": f"{TOKEN} is refused"}]
    body = bytes(Problem(400, f"Not {TOKEN}", f"got {TOKEN}", errors=errors).response().body)
    assert TOKEN.encode() not in body
    assert body.count(b"REDACTED") == 3


def test_problem_carries_more_where_it_is_given() -> None:
    """Headers, errors and extra members arrive; nothing empty is shown."""
    given_problem = Problem(
        409, "Superseded", errors=[{"pointer": "/a", "detail": "b"}], headers={"x-a": "1"}, extra={"superseded_by": "7"}
    )
    response = given_problem.response()
    assert (response.status_code, response.headers["x-a"]) == (409, "1")
    assert b'"superseded_by":"7"' in bytes(response.body)
    assert b"detail" not in bytes(Problem(404, "Unknown").response().body)


# Pointers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_order", "pointers"),
    [
        ({}, {"/name", "/to"}),
        ({"name": 7, "to": []}, {"/name"}),
        ({"name": "toolong", "to": []}, {"/name"}),
        ({"name": "a", "to": "x"}, {"/to"}),
        ({"name": "a", "to": [{"street": "s", "number": 0}]}, {"/to/0/number"}),
        ({"name": "a", "to": [{"street": "s", "number": 1}, {"number": "x"}]}, {"/to/1/street", "/to/1/number"}),
        ({"name": "a", "to": [], "nmae": 1}, {"/nmae"}),
        ({"name": "a", "to": [], "extra": {"a/b~c": {}}}, {"/extra/a~1b~0c/street", "/extra/a~1b~0c/number"}),
    ],
)
def test_every_wrong_field_is_named_at_once(given_order: dict[str, Any], pointers: set[str]) -> None:
    """All mistakes in one answer, each by its JSON pointer (RFC 6901), escaped where it has to be."""
    with pytest.raises(ValidationError) as caught:
        Order.model_validate(given_order)
    found = unprocessable(caught.value)
    assert {one["pointer"] for one in found.errors} == pointers
    assert (found.status, found.detail) == (422, f"{len(pointers)} wrong; see errors")


def test_wrong_value_is_not_repeated() -> None:
    """What was wrong may be a secret: the value stands nowhere in the answer."""
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"name": {"secret": "hunter2"}, "to": "hunter2"})
    assert "hunter2" not in str(unprocessable(caught.value).errors)


def test_body_is_no_part_of_a_pointer() -> None:
    """FastAPI puts `body` in front; the pointer is into the document."""
    error = RequestValidationError([{"loc": ("body", "a", 0), "msg": "wrong", "type": "x"}])
    assert unprocessable(error).errors == [{"pointer": "/a/0", "detail": "wrong"}]


@given(st.lists(st.text() | st.integers(0, 100), max_size=5))
def test_pointer_can_be_read_back(parts: list[str | int]) -> None:
    """Whatever the names hold, splitting the pointer as RFC 6901 says gives them back."""
    written = pointer(parts)
    read = [one.replace("~1", "/").replace("~0", "~") for one in written.split("/")[1:]]
    assert read == [str(part) for part in parts]


async def test_request_that_is_cut_off_is_told_to_come_again() -> None:
    """What still waits when the time to stop is up gets 503 and Retry-After; an answer that has begun just breaks off."""
    sent: list[Message] = []
    waits = asyncio.Event()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        waits.set()
        await asyncio.Event().wait()

    for path in ("/", "/begun"):
        under_way = asyncio.ensure_future(CutOff(hang)({"type": "http", "path": path}, receive, send))
        await waits.wait()
        waits.clear()
        under_way.cancel()
        await asyncio.wait({under_way})
        assert under_way.cancelled() is (path == "/begun")
    assert [message.get("status") for message in sent] == [503, None, 200]
    assert b"retry-after" in dict(sent[0]["headers"])
    assert b"This process ends" in sent[1]["body"]
