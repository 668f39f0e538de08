"""How bytes become requests: the head of one may have so many bytes, and all of it has to arrive in time.

uvicorn's own reader waits for ever and remembers everything; whoever sends slowly, or a head without end, would take
connections and memory from all others.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024
"""Room for any token and cookie that an issuer makes; servers in front take 8 to 32 KiB."""
_TOO_LARGE = b'{"type":"about:blank","title":"The head of the request is too large","status":431}'


class Wire(HttpToolsProtocol):
    """Read requests of one connection."""

    whole_within_s: ClassVar[float] = 30.0
    """How long one request may take to arrive: 1 MiB at 35 kB/s."""

    _head_bytes = 0
    _in_head = True
    _whole = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, if it is not too much; it belongs to a request that is not whole yet."""
        self._whole = False
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse()
        elif self._whole:
            self._wait_no_longer()
        elif self._deadline is None:
            self._wait()

    def on_message_begin(self) -> None:
        """Count anew."""
        self._in_head, self._whole = True, False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Let the body be counted by who reads it."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Leave the connection to the answer; what comes after it is the next request's head."""
        self._in_head, self._whole = True, True
        super().on_message_complete()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.whole_within_s, self.transport.close)

    def _wait_no_longer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self) -> None:
        head = (
            "HTTP/1.1 431 Request Header Fields Too Large",
            "content-type: application/problem+json",
            f"content-length: {len(_TOO_LARGE)}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*head, "", ""]).encode() + _TOO_LARGE)
        self.transport.close()
