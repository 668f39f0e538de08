"""The floors: what somebody would write by hand who only wants the event to be durable. Each is a process of its own.

`python -m bench.floor sqlite FILE`, `python -m bench.floor postgresql URL`, `python -m bench.floor null`. A route
parses the JSON, inserts one row with the bare driver, commits durably and answers 202. Options of uvicorn as in
`prunella up`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg_pool import AsyncConnectionPool

Insert = Callable[[dict[str, Any], bytes], Awaitable[None]]
_CREATE = "CREATE TABLE events (event_id TEXT NOT NULL, service TEXT NOT NULL, body TEXT NOT NULL)"
_POOL = 8  # as many as prunella's own; more made this floor slower on two cores
_ANSWER = b'HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'


@asynccontextmanager
async def sqlite(path: str) -> AsyncIterator[Insert]:
    """Insert inline, one durable commit per request."""
    database = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _CREATE):
        database.execute(statement)

    async def insert(event: dict[str, Any], raw: bytes) -> None:
        row = (event["event_id"], event["service_name"], raw.decode())
        database.execute("INSERT INTO events VALUES (?, ?, ?)", row)

    yield insert
    database.close()


@asynccontextmanager
async def postgresql(url: str) -> AsyncIterator[Insert]:
    """Insert over a pool, one durable commit per request."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url, min_size=_POOL, max_size=_POOL, open=False, kwargs={"autocommit": True}
    )
    async with pool:
        async with pool.connection() as connection:
            await connection.execute(_CREATE)

        async def insert(event: dict[str, Any], raw: bytes) -> None:
            row = (event["event_id"], event["service_name"], raw.decode())
            async with pool.connection() as connection:
                await connection.execute("INSERT INTO events VALUES (%s, %s, %s)", row, prepare=True)

        yield insert


def application(store: AbstractAsyncContextManager[Insert], token_url: str | None) -> FastAPI:
    """Return the route; with `token_url` each event of a user also begins a refresh, in the background."""
    insert: Insert
    begun: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal insert
        async with store as insert:
            yield

    web = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @web.post("/integration-self-heal")
    async def accept(request: Request) -> JSONResponse:
        raw = await request.body()
        event = json.loads(raw)
        await insert(event, raw)
        if token_url is not None and "user_id" in event:
            refresh = asyncio.create_task(_refresh(token_url, event["user_id"]))
            begun.add(refresh)
            refresh.add_done_callback(begun.discard)
        return JSONResponse({"success": True}, status_code=202)

    return web


async def _refresh(url: str, account: str) -> None:
    """Post a refresh over a fresh connection and read the answer."""
    address = urlsplit(url)
    body = urlencode({"grant_type": "refresh_token", "refresh_token": account})
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    await reader.read()
    writer.close()


class Null(asyncio.Protocol):
    """Answer every packet at once: it shows how quick the load generator itself is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


async def serve(kind: str, database: str, token_url: str | None) -> None:
    """Serve one floor until the process is ended."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: no delay by Nagle
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    print(f"floor is up: http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    if kind == "null":
        server = await asyncio.get_running_loop().create_server(Null, sock=listening)
        await server.serve_forever()
    web = application({"sqlite": sqlite, "postgresql": postgresql}[kind](database), token_url)
    config = uvicorn.Config(web, log_config=None, access_log=False, http="httptools")
    await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    """Run a floor from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__)
    parser.add_argument("kind", choices=["sqlite", "postgresql", "null"])
    parser.add_argument("database", nargs="?", default="")
    parser.add_argument("--token-url", help="post a refresh there for each event")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.kind, chosen.database, chosen.token_url))


if __name__ == "__main__":
    main()
