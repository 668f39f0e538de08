"""How bytes become requests: the head of one may have so many bytes, and all of it has to arrive in time.

uvicorn's own reader waits for ever and remembers everything; whoever sends slowly, or a head without end, would take
connections and memory from all others. Where connections run short, who has been silent for longest makes room.
"""

from __future__ import annotations

import asyncio
import resource
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024
"""Room for any token and cookie that an issuer makes; servers in front take 8 to 32 KiB."""
CONNECTIONS_MAX: Final = 10_000
"""Each costs some 20 kB."""
_TOO_MANY = b'{"type":"about:blank","title":"Too many connections","status":503,"detail":"all of them are at work"}'
_TOO_LARGE = b'{"type":"about:blank","title":"The head of the request is too large","status":431}'


class Wire(HttpToolsProtocol):
    """Read requests of one connection."""

    whole_within_s: ClassVar[float] = 30.0
    """How long one request may take to arrive: 1 MiB at 35 kB/s."""

    _silent: ClassVar[dict[Wire, None]] = {}
    """Connections on which nothing is at work, the longest silent first."""

    _has_room = True
    _head_bytes = 0
    _in_head = True
    _whole = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request; where there are too many connections, let one go that waits in vain."""
        super().connection_made(transport)
        if len(self.connections) > connections_max():
            self._has_room = self._make_room()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, if it is not too much; it belongs to a request that is not whole yet."""
        if not self._has_room:
            self._refuse("503 Service Unavailable", _TOO_MANY, "retry-after: 1")
            return
        self._whole = False
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse("431 Request Header Fields Too Large", _TOO_LARGE)
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

    def on_response_complete(self) -> None:
        """Be silent until the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._silent[self] = None

    def _wait(self) -> None:
        self._silent.pop(self, None)  # what comes is new
        self._silent[self] = None
        self._deadline = self.loop.call_later(self.whole_within_s, self.transport.close)

    def _wait_no_longer(self) -> None:
        self._silent.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> bool:
        """Hang up on who has been silent for longest; False where everybody is at work."""
        oldest = next((one for one in self._silent if one in self.connections), None)
        if oldest is None:
            return False
        oldest.hang_up()
        return True

    def hang_up(self) -> None:
        """End the connection, whatever was begun on it."""
        self._wait_no_longer()
        self.transport.close()

    def _refuse(self, status: str, words: bytes, *lines: str) -> None:
        head = (
            f"HTTP/1.1 {status}",
            "content-type: application/problem+json",
            f"content-length: {len(words)}",
            "connection: close",
            *lines,
        )
        self.transport.write("\r\n".join([*head, "", ""]).encode() + words)
        self.transport.close()


def connections_max() -> int:
    """Return how many connections are kept: half of the files that a process may have open; it needs some itself."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files < 0 else min(CONNECTIONS_MAX, files // 2)
