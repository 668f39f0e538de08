"""How much one caller may ask: per second, per address, per body; and nobody locks another out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from prunella.core.redact import Secret
from prunella.engine import entrances
from prunella.web.auth import Caller, Gatehouse, Role
from prunella.web.limits import BODY_BYTES_MAX, SMALL_BYTES_MAX, BodyLimit, Limits, Pace, bytes_max_of
from prunella.web.problems import Problem, install
from web.conftest import INGEST, KEYS, Web

pytestmark = pytest.mark.anyio

ADA, BOB = Caller("ada", Role.ADMIN), Caller("bob", Role.ADMIN)


class Time:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(address: str = "10.0.0.1") -> Request:
    return Request({"type": "http", "client": (address, 1), "headers": []})


def taken(limits: Limits, pace: Pace, caller: Caller, times: int, address: str = "10.0.0.1") -> int:
    """Return how many of so many requests are let through."""
    through = 0
    for _ in range(times):
        with suppress(Problem):
            limits.take(pace, caller, asked(address))
            through += 1
    return through


def test_caller_may_ask_so_often_and_then_as_fast_as_promised() -> None:
    """50 a second, a hundred at once; the next second brings fifty more, and another caller has a bucket of their own."""
    time = Time()
    limits = Limits(time)
    assert taken(limits, Pace.OTHERS, ADA, 150) == 100
    assert taken(limits, Pace.OTHERS, BOB, 10) == 10
    time.now += 1
    assert taken(limits, Pace.OTHERS, ADA, 150) == 50
    assert taken(limits, Pace.INTAKE, ADA, 3000) == 2000


def test_refusal_says_when_to_ask_again() -> None:
    """429 names the wait and the quota (Retry-After, RateLimit), and who waits as long is let in."""
    time = Time()
    limits = Limits(time, others_per_s=0.5)
    assert taken(limits, Pace.OTHERS, ADA, 5) == 1
    with pytest.raises(Problem) as refused:
        limits.take(Pace.OTHERS, ADA, asked())
    headers = refused.value.headers or {}
    assert headers["ratelimit-policy"] == '"others";q=1;w=2'
    assert headers["ratelimit"] == '"others";r=0;t=2'
    time.now += int(headers["retry-after"])
    assert taken(limits, Pace.OTHERS, ADA, 1) == 1


def test_noisy_source_leaves_the_others_their_share() -> None:
    """While one source of a token sends a hundred times too much, another that sends little is never refused."""
    time = Time()
    limits = Limits(time, intake_per_s=100)
    noisy = quiet = 0
    for _ in range(200):
        time.now += 0.1
        noisy += taken(limits, Pace.INTAKE, ADA, 100, "10.0.0.1")
        quiet += taken(limits, Pace.INTAKE, ADA, 2, "10.0.0.2")
    assert quiet == 400
    assert 1500 < noisy < 1900


def test_source_that_speaks_up_in_a_flood_is_heard() -> None:
    """What another source has emptied is no reason to refuse one that has taken nothing, nor one that speaks seldom."""
    time = Time()
    limits = Limits(time)
    assert taken(limits, Pace.INTAKE, ADA, 5000) == 2000
    assert taken(limits, Pace.INTAKE, ADA, 10, "10.0.0.2") == 10
    for _ in range(3):
        time.now += 11
        taken(limits, Pace.INTAKE, ADA, 4000)
        assert taken(limits, Pace.INTAKE, ADA, 1, "10.0.0.2") == 1


def test_many_sources_take_little_more_than_one() -> None:
    """Whoever has a thousand addresses gets a quarter of a burst more than who has one, and no more per second."""
    time = Time()
    limits = Limits(time)
    first = sum(taken(limits, Pace.INTAKE, ADA, 50, f"10.0.0.{number}") for number in range(200))
    assert 2000 <= first <= 2500
    time.now += 1
    later = sum(taken(limits, Pace.INTAKE, ADA, 50, f"10.0.0.{number}") for number in range(200))
    assert later <= 1000


def test_memory_of_callers_is_bounded() -> None:
    """A hundred thousand addresses leave no more than ten thousand buckets."""
    limits = Limits(Time())
    for number in range(20_000):
        limits.sign_in(asked(f"10.{number}"))
    assert len(limits._buckets) == 10_000


async def test_api_refuses_what_is_too_much(web: Web) -> None:
    """Over HTTP: problem details with the headers; the next second is another one."""
    token = web.token(Role.ADMIN)
    statuses = [(await web.ask("GET", "/api/v1/pause", token)).status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]
    answer = await web.ask("GET", "/api/v1/pause", token)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    web.clock.advance(1)
    assert (await web.ask("GET", "/api/v1/pause", token)).status_code == 200


async def test_sign_ins_of_an_address_are_limited_and_failures_noted(web: Web) -> None:
    """Ten a minute, good or bad; each failure is an event that is logged and counted, without what was shown."""
    told: list[Any] = []
    web.app.parts.listeners.subscribe(told.append)
    statuses = [(await web.client.post("/login", data={"token": "wrong"})).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    failed = [event for event in told if event.name == "entrance.refused"]
    assert len(failed) == 10
    assert "wrong" not in str(failed)
    web.clock.advance(6)
    assert (await web.client.post("/login", data={"token": "wrong"})).status_code == 401


async def test_tokens_of_one_name_have_limits_of_their_own(web: Web) -> None:
    """Two programs with keys of one name, or with ingest tokens of their own, do not use up each other's share."""
    limits = Limits(lambda: 0.0, 1, 1)
    request = Request({"type": "http", "client": ("10.0.0.1", 1), "headers": []})
    house = Gatehouse(KEYS, (Secret("a" * 20), Secret("b" * 20)), web.clock.now, web.app.store)
    shown = [(await entrances.new_key(web.app.parts, "ci", "INGEST", None, by="ada"))[1] for _ in range(2)]
    for token in ("a" * 20, "b" * 20, *shown):
        caller = await house.known(token)
        assert caller is not None
        for _ in range(2):
            limits.take(Pace.INTAKE, caller, request)
        with pytest.raises(Problem):
            limits.take(Pace.INTAKE, caller, request)


async def test_failed_token_is_counted(web: Web) -> None:
    """A token that is no good is an event; a request that shows none is not."""
    told: list[str] = []
    web.app.parts.listeners.subscribe(lambda event: told.append(event.name))
    await web.ask("GET", "/api/v1/pause")
    assert told == []
    await web.ask("GET", "/api/v1/pause", "no-good")
    assert told == ["entrance.refused"]


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/integration-self-heal", BODY_BYTES_MAX),
        ("/api/v1/guard/calls", BODY_BYTES_MAX),
        ("/known-issues/try", BODY_BYTES_MAX),
        ("/api/v1/known-issues/import", BODY_BYTES_MAX),
        ("/api/v1/known-issues/crm.lunch/bind", SMALL_BYTES_MAX),
        ("/api/v1/incidents/1/ack", SMALL_BYTES_MAX),
        ("/login", SMALL_BYTES_MAX),
    ],
)
def test_events_may_be_large_and_changes_small(path: str, most: int) -> None:
    """1 MiB for what others send or a person pastes to try it, 64 KiB for what people decide."""
    assert bytes_max_of(path) == most


async def test_route_refuses_a_body_beyond_its_own_limit(web: Web) -> None:
    """A reason of 64 KiB is too large for an incident, and so would an event be at 1 MiB."""
    token = web.token(Role.ADMIN)
    large = await web.ask("POST", "/api/v1/pause", token, content=b" " * (SMALL_BYTES_MAX + 1))
    assert large.status_code == 413
    event = await web.ask("POST", "/integration-self-heal", INGEST, content=b" " * (SMALL_BYTES_MAX + 1))
    assert event.status_code == 422


def application(bytes_max: int) -> FastAPI:
    """Return an application that returns the size of a body."""
    app = FastAPI()
    install(app)
    app.add_middleware(BodyLimit, bytes_max=bytes_max)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    return app


def client(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://prunella")


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """Return the problem details of an answer."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


# Size of bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "status"), [(0, 200), (9, 200), (10, 200), (11, 413), (10_000, 413)])
@pytest.mark.parametrize("chunked", [False, True], ids=["claimed", "chunked"])
async def test_body_beyond_the_limit_is_refused(size: int, status: int, chunked: bool) -> None:
    """To the byte, whether the length is claimed or the body comes in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b"x"

    async with client(application(bytes_max=10)) as web:
        answer = await web.post("/size", content=pieces() if chunked else b"x" * size)
    assert answer.status_code == status
    if status == 413:
        assert problem(answer)["detail"] == "at most 10 bytes are taken"
    else:
        assert answer.json() == size


@pytest.mark.parametrize("claimed", [b"3", b"-1", b"many", b"", "²".encode("latin-1")])
async def test_claimed_length_is_not_believed(claimed: bytes) -> None:
    """A body that is longer than it claims is stopped where the limit is, whatever the claim."""
    sent = await through(BodyLimit(application(bytes_max=10**6), bytes_max=10), claimed, [b"x" * 8, b"x" * 8])
    assert sent == 413


async def test_claim_of_thousands_of_digits_is_too_much() -> None:
    """Python reads no such number; it is more than is taken, whatever it is."""
    assert await through(BodyLimit(application(bytes_max=10), bytes_max=10), b"9" * 5000, [b"x"]) == 413


async def test_refused_body_is_not_read() -> None:
    """Nothing of a body that claims to be too long is taken from the wire."""
    taken: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        taken.append(1)

    assert await through(BodyLimit(app, bytes_max=10), b"11", [b"x" * 11]) == 413
    assert taken == []


async def test_limit_leaves_other_protocols_alone() -> None:
    """Start-up messages and the like pass unchanged."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def never() -> Message:
        raise AssertionError

    async def nowhere(_: Message) -> None: ...

    await BodyLimit(app)({"type": "lifespan"}, never, nowhere)
    assert seen == ["lifespan"]


def test_limit_is_a_megabyte() -> None:
    """1 MiB: far beyond any event, far below what hurts."""
    assert BODY_BYTES_MAX == 1024 * 1024


async def through(app: Any, claimed: bytes, chunks: list[bytes]) -> int:
    """Send a POST through an ASGI application past any client, and return the status."""
    left = list(chunks)
    statuses: list[int] = []

    async def receive() -> Message:
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/size",
        "raw_path": b"/size",
        "query_string": b"",
        "headers": [(b"content-length", claimed)],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "asgi": {"version": "3.0"},
    }
    await app(scope, receive, send)
    return statuses[0]
