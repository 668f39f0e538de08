"""Requests that arrive too slowly or have no end: their connections are closed, and those of others are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
import uvicorn

from prunella.core.clock import SystemClock
from prunella.web import wire
from prunella.web.server import Server
from prunella.web.wire import HEAD_BYTES_MAX, Wire

pytestmark = pytest.mark.anyio
GOOD = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Hasty(Wire):
    """A connection whose requests have to be quick."""

    whole_within_s: ClassVar[float] = 0.1


class Patient(Wire):
    """A connection that would wait for as long as the test may run."""

    whole_within_s: ClassVar[float] = 600.0


class Slow(Patient):
    """A connection whose requests for /slow are worked on until the test goes on."""

    begun: ClassVar[asyncio.Semaphore]
    go_on: ClassVar[asyncio.Event]


Sent = Callable[[Any, Any, Any], Awaitable[None]]


async def answered(scope: Any, receive: Any, send: Any) -> None:
    """Read a body whole and say how long it was."""
    length = 0
    if scope["path"] == "/slow":
        Slow.begun.release()
        await Slow.go_on.wait()
    while (message := await receive())["type"] == "http.request":
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    text = str(length).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(text)).encode())]}
    )
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def served(kind: type[Wire]) -> AsyncIterator[int]:
    """Serve connections of a kind."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        server = uvicorn.Server(
            uvicorn.Config(answered, http=kind, log_config=None, lifespan="off", timeout_keep_alive=1)
        )
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        yield int(bound.getsockname()[1])
        server.should_exit = True
        await serving


async def told(port: int, *pieces: bytes) -> bytes:
    """Send pieces, and return what comes until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    ],
    ids=["nothing", "an empty line", "half of a head", "half of a body", "half of the chunks"],
)
async def test_request_that_does_not_arrive_ends_its_connection(begun: bytes) -> None:
    """Nothing at all, half of a head, half of a body: closed when the time is over, without an answer that is whole."""
    async with served(Hasty) as port, asyncio.timeout(5):
        assert b"200 OK" not in await told(port, begun)


async def test_next_request_of_a_connection_has_to_arrive_too() -> None:
    """A good request does not buy a slow one after it."""
    async with served(Hasty) as port, asyncio.timeout(5):
        assert (await told(port, GOOD, b"\r\n")).count(b"200 OK") == 1
        assert (await told(port, GOOD + GOOD, GOOD[:9])).count(b"200 OK") == 2


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 2 * HEAD_BYTES_MAX,
        b"GET / HTTP/1.1\r\nauthorization: " + b"a" * 2 * HEAD_BYTES_MAX,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEAD_BYTES_MAX,
        GOOD + b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEAD_BYTES_MAX,
    ],
    ids=["address", "value", "many", "second"],
)
async def test_head_without_end_is_refused(head: bytes) -> None:
    """431, and the connection ends, long before all of it is kept."""
    async with served(Patient) as port, asyncio.timeout(5):
        pieces = [head[start : start + 8192] for start in range(0, len(head), 8192)]
        try:
            found = await told(port, *pieces)
        except ConnectionError:
            return  # it was cut off while it still sent
        assert b"431" in found


async def test_good_requests_are_answered_as_ever() -> None:
    """A large head below the limit, a body of a megabyte in pieces, and several requests on one connection."""
    large = b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 60_000 + b"\r\n\r\n"
    body = [b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1048576\r\n\r\n", *[b"x" * 65_536] * 16]
    last = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    async with served(Patient) as port, asyncio.timeout(5):
        found = await told(port, large, *body, GOOD, last)
    assert found.count(b"200 OK") == 4
    assert b"1048576" in found


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be room for three connections."""
    monkeypatch.setattr(wire, "connections_max", lambda: 3)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx", GOOD])
async def test_who_is_silent_for_longest_makes_room(begun: bytes) -> None:
    """Nothing said, half a head, half a body, an answer long ago: hung up in that order; the newest are served."""
    async with served(Patient) as port:
        lines = []
        for _ in range(5):
            lines.append(await asyncio.open_connection("127.0.0.1", port))
            lines[-1][1].write(begun)
            if begun == GOOD:
                assert b"200 OK" in await lines[-1][0].readuntil(b"\r\n\r\n0")
            await asyncio.sleep(0.01)
        assert b"200 OK" in await told(port, GOOD[:-2] + b"connection: close\r\n\r\n")
        for reader, _ in lines[:3]:
            assert await reader.read() == b""
        for _, writer in lines:
            writer.close()


@pytest.mark.usefixtures("three")
async def test_where_all_are_at_work_the_next_is_refused_in_words() -> None:
    """503 as problem details with Retry-After; those at work end their work."""
    async with served(Slow) as port:
        Slow.begun, Slow.go_on = asyncio.Semaphore(0), asyncio.Event()
        busy = [asyncio.create_task(told(port, b"GET /slow HTTP/1.1\r\nconnection: close\r\n\r\n")) for _ in range(3)]
        for _ in busy:
            await Slow.begun.acquire()
        refused = await told(port, GOOD)
        Slow.go_on.set()
        answers = await asyncio.gather(*busy)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"application/problem+json" in refused
    assert b"retry-after: 1" in refused
    assert [b"200 OK" in one for one in answers] == [True] * 3


async def test_connection_that_was_just_accepted_ends_with_the_server() -> None:
    """A page that comes while the server goes does not hold it up: what is under way goes on, what is silent ends."""
    Slow.begun, Slow.go_on = asyncio.Semaphore(0), asyncio.Event()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        config = uvicorn.Config(answered, http=Slow, log_config=None, lifespan="off", timeout_graceful_shutdown=60)
        server = Server(config, SystemClock())
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        async with asyncio.timeout(10):
            at_work = asyncio.create_task(told(bound.getsockname()[1], GOOD.replace(b"/", b"/slow", 1)))
            await Slow.begun.acquire()
            server.stop(False)
            while any(one.is_serving() for one in server.servers):  # noqa: ASYNC110  uvicorn tells nobody
                await asyncio.sleep(0.01)
            ours, theirs = socket.socketpair()
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Slow(server.config, server.server_state, {}), theirs
            )
            reader, writer = await asyncio.open_connection(sock=ours)
            assert await reader.read() == b""
            writer.close()
            Slow.go_on.set()
            assert b"200 OK" in await at_work
            await serving
