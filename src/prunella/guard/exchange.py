"""One HTTP exchange over ASGI: the request is kept to be served again, a plain 500 held back until it is the last word.

Must never start a response twice, and never keep a client waiting for a part of a stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from prunella.guard.healing import Unavailable, request_id
from prunella.guard.request import REPEATABLE

BODY_BYTES_MAX: Final = 1024 * 1024
"""A longer request is served once: it is not kept to be served again."""
_HELD_BYTES_MAX: Final = 65536

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class CrashAnswered(RuntimeError):
    """Say that an application made a 500 of a failure that nobody else got to see."""

    status = 500


class Exchange:
    """What a client asked and has heard of the answer.

    Args:
        app: who serves it.
        scope, receive, send: as the server gave them.
    """

    def __init__(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        self.action = f"{scope['method']} {scope.get('path', '')}"
        self.request_id = request_id(headers)
        self.begun = False
        self.served = False
        self._gone = False
        self._safe = scope["method"] in REPEATABLE
        self._app, self._receive, self._send = app, receive, send
        self._scope, self._scope_at_first = scope, dict(scope)
        self._kept: list[Message] | None = []
        self._kept_bytes = 0
        self._held: list[Message] = []
        self._held_bytes = 0

    @property
    def repeatable(self) -> bool:
        """Tell whether the request may be served again."""
        return self._safe and self._kept is not None and not self.begun and not self._gone

    def passes(self, error: Exception) -> bool:
        """Tell whether an exception is no failure: the client left."""
        return self._gone

    async def serve(self, scope: Scope) -> None:
        """Let the application serve the request, from its beginning."""
        scope.clear()
        scope.update(self._scope_at_first)
        self._drop()
        try:
            await self._app(scope, self._replay(), self._pass_on)
        except BaseException:
            self._drop()  # what was said about a failure that is raised here, too
            raise
        if self._held and not self._gone:
            raise CrashAnswered(f"{self.action} was answered with 500")
        self.served = True

    async def end(self, answer: Application) -> None:
        """Let the client hear the last word: `answer`, or instead of an `Unavailable` the application's own 500."""
        if self._held and isinstance(answer, Unavailable):
            await self._release()
        else:
            await answer(self._scope, self._receive, self._send)

    def _replay(self) -> Receive:
        """Return a `receive` that begins with what was kept."""
        kept = iter(tuple(self._kept or ()))

        async def receive() -> Message:
            message = next(kept, None)
            if message is not None:
                return message
            message = await self._receive()
            self._keep(message)
            return message

        return receive

    def _keep(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._gone = True
            return
        self._kept_bytes += len(message.get("body", b""))
        if self._kept_bytes > BODY_BYTES_MAX:
            self._kept = None
        if self._kept is not None:
            self._kept.append(message)

    async def _pass_on(self, message: Message) -> None:
        """Send a message, unless it belongs to a 500 that may not be the last word."""
        begins = message["type"] == "http.response.start"
        if begins and message["status"] == 500 and not self.begun and not self._gone:
            self._held = [message]
        elif self._held:
            self._held.append(message)
            self._held_bytes += len(message.get("body", b""))
            if message["type"] != "http.response.body" or self._held_bytes > _HELD_BYTES_MAX:
                await self._release()
        else:
            self.begun = self.begun or begins
            await self._forward(message)

    def _drop(self) -> None:
        self._held, self._held_bytes = [], 0

    async def _release(self) -> None:
        held, self._held, self.begun = self._held, [], True
        for message in held:
            await self._forward(message)

    async def _forward(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how a server says that nobody listens any more
            self._gone = True
            raise
