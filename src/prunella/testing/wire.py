"""The HTTP side of a FaultyServer: reads requests, and sends replies as badly as their word says."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from prunella.testing.ledger import Ledger, Request
from prunella.testing.words import Reply, Word

DRIPS_PER_S = 10  # often enough to keep every read timeout of a second or more from firing


class Desk(Protocol):
    """Whoever decides about requests; `closing` is set when the server stops, so that no wait outlasts it."""

    ledger: Ledger
    closing: threading.Event

    def answer(self, request: Request) -> tuple[Word, Reply]:
        """Decide what this request gets."""
        ...


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A reply on its way; `leaving` is called before its last byte goes."""

    word: Word
    reply: Reply
    leaving: Callable[[], None]


class Listener(ThreadingHTTPServer):
    """Accept connections on loopback, and end them all when it stops."""

    daemon_threads = True
    request_queue_size = 1024  # with socketserver's 5, a burst of clients waits seconds for TCP to try again

    def __init__(self, address: tuple[str, int], desk: Desk) -> None:
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._desk = desk
        super().__init__(address, partial(_Conversation, desk))

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError) and not self._desk.closing.is_set():
            super().handle_error(request, client_address)

    def end_connections(self) -> None:
        """Cut every open connection: a kept-alive one would go on being served."""
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # already gone


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "faulty"
    sys_version = ""
    wbufsize = -1  # head and body leave together

    def __init__(self, desk: Desk, *connection: Any) -> None:
        self._desk = desk
        super().__init__(*connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the ledger knows."""

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            self.close_connection = True  # the client died while it was sending: no server acts on half a request
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(time.monotonic(), self.command, path, query, headers, body)
        with self._desk.ledger.passing() as leaving:
            word, reply = self._desk.answer(request)
            self._desk.closing.wait(word.wait_s)
            _DELIVERIES[word.delivery](self, _Outgoing(word, reply, leaving))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - http.server's names

    def _read_body(self) -> bytes | None:
        """Return the body, None when it ended early."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._read_chunks()
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _read_chunks(self) -> bytes | None:
        # RFC 9112 section 7.1; no trailers: nobody sends any.
        body = b""
        while size := self.rfile.readline().split(b";")[0].strip():
            chunk = self.rfile.read(int(size, 16))
            self.rfile.readline()
            if not chunk:
                return body
            body += chunk
        return None

    def _send(self, reply: Reply, body: bytes) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD" and reply.status != 204:
            self.wfile.write(body)

    def send_whole(self, out: _Outgoing) -> None:
        self._send(out.reply, out.reply.body)
        out.leaving()
        self.wfile.flush()

    def send_half(self, out: _Outgoing) -> None:
        self.close_connection = True
        self._send(out.reply, out.reply.body[: len(out.reply.body) // 2])
        out.leaving()
        self.wfile.flush()

    def send_drops(self, out: _Outgoing) -> None:
        drops = max(1, round(out.word.over_s * DRIPS_PER_S))
        # White space keeps the body valid JSON however long it drips.
        padded = out.reply.body + b" " * max(0, drops - len(out.reply.body))
        self._send(Reply(out.reply.status, out.reply.headers, padded), b"")
        for number in range(drops):
            if self._desk.closing.wait(out.word.over_s / drops):
                self.close_connection = True
                return
            self.wfile.write(padded[len(padded) * number // drops : len(padded) * (number + 1) // drops])
            if number == drops - 1:
                out.leaving()
            self.wfile.flush()

    def send_raw(self, out: _Outgoing) -> None:
        self.close_connection = True
        self.wfile.write(out.reply.body)
        out.leaving()
        self.wfile.flush()

    def send_nothing(self, out: _Outgoing) -> None:
        self.close_connection = True
        out.leaving()

    def reset_connection(self, out: _Outgoing) -> None:
        self.close_connection = True
        out.leaving()
        # Lingering for zero seconds turns the close into a RST; detached, because the streams still hold the socket.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())


_DELIVERIES = {
    "whole": _Conversation.send_whole,
    "cut": _Conversation.send_half,
    "drip": _Conversation.send_drops,
    "raw": _Conversation.send_raw,
    "silent": _Conversation.send_nothing,
    "reset": _Conversation.reset_connection,
}
