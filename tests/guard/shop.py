"""A shop served over ASGI, and a client that keeps what it heard: for tests of healing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse

import prunella as pr
from prunella.core.events import Event
from prunella.guard.asgi import SelfHealingMiddleware

QUICK = pr.Retry(attempts=3, base_s=0.0)


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
