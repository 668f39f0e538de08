"""Ask an engine over HTTP, and take for its answer only what is one.

Only the standard library: this room has no other client. Must never send a token unencrypted beyond this machine, and
never show it.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from prunella.core import redact
from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard.durable import told
from prunella.guard.forks import renew_after_fork
from prunella.guard.link import ADMISSION

_TIMEOUT_S = 3.0
_WHOLE_S = 10.0
"""An answer that comes drop by drop keeps every timeout of a socket: after so long it counts as none."""
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_SILENT_S = 5.0
"""How long an engine that did not answer is left alone: calls must not queue up behind its silence."""
_IDLE_MAX = 4
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_KEPT = (400, 413, 422)
"""Answers that would stay the same: what was sent can't be kept as it is."""
_TOKEN_REFUSED = (401, 403)
_PROMISED = {
    "calls": "due_at", "calls/claim": "items", "calls/end": "id", "breakers": "items", "breakers/report": "version",
    "breakers/probe": "granted", "rates": "rates",
}  # fmt: skip
"""What an engine's answer holds; who else stands at the address and says `{}` has taken nothing."""


class Engine:
    """The HTTP side of an engine.

    Args:
        url: `https://host[:port][/prefix]`; `http://` for an engine on this machine only.
        token: a token of the role APPLICATION (`prunella token --role APPLICATION`).

    Raises:
        InvalidInput: the address is none, or the token would leave this machine unencrypted.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._address = _checked(url)
        if not token:
            raise InvalidInput(f"connect: an engine wants a token; make one there: {ADMISSION}")
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        redact.known.register(redact.Secret(token))
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidInput("connect: the token holds what no header can carry; strip spaces and line ends from it")
        self._silent_until, self._why = 0.0, ""
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with connections of its own: on a parent's a child would get the parent's answers."""
        self._idle: deque[HTTPConnection] = deque()

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what the engine answers.

        Raises:
            InvalidInput: it refuses what was sent, and always will.
            StoreUnavailable: it does not answer, or refuses this token: a person may give another.
        """
        if HOST.monotonic() < self._silent_until:
            raise StoreUnavailable(f"{self._why}; it is left alone for some seconds")
        try:
            status, answer = self._exchange(path, json.dumps(body).encode())
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            raise self._gone(f"does not answer ({type(error).__name__})") from error
        if status < 300 and isinstance(answer, dict) and _PROMISED.get(path, "") in {*answer, ""}:
            return answer
        said = told(str(answer.get("detail") or answer.get("title") or "") if isinstance(answer, dict) else "")
        if status in _NOT_KEPT:
            raise InvalidInput(f"the engine refuses this (HTTP {status}): {said}")
        if status in _TOKEN_REFUSED:
            raise self._gone(
                f"refuses the token (HTTP {status}: {said or 'without a reason'}); make another there with "
                f"`{ADMISSION}` and give it to connect"
            )
        raise self._gone(f"answers HTTP {status}: {said or 'nothing of use'}")

    def _gone(self, why: str) -> StoreUnavailable:
        """Leave the engine alone for a while, and return why."""
        self._why = f"the engine at {self._address.netloc} {why}"
        self._silent_until = HOST.monotonic() + _SILENT_S
        return StoreUnavailable(self._why)

    def close(self) -> None:
        """Close what is open."""
        while self._idle:
            self._idle.pop().close()

    def _exchange(self, path: str, body: bytes) -> tuple[int, Any]:
        """Ask on a connection that is open already, or on a new one: the old may have been closed meanwhile."""
        target = f"{self._address.path.rstrip('/')}/api/v1/guard/{path}"
        while self._idle:
            try:
                return self._send(self._idle.pop(), target, body)
            except TimeoutError:
                raise
            except (OSError, HTTPException, IndexError):
                continue
        return self._send(self._open(), target, body)

    def _send(self, connection: HTTPConnection, target: str, body: bytes) -> tuple[int, Any]:
        try:
            connection.request("POST", target, body, self._headers)
            with _hurried(connection.sock), closing(connection.getresponse()) as response:
                answer = _read(response)
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return response.status, answer

    def _open(self) -> HTTPConnection:
        kind = HTTPSConnection if self._address.scheme == "https" else HTTPConnection
        return kind(self._address.hostname or "", self._address.port, timeout=_TIMEOUT_S)


@contextmanager
def _hurried(sock: socket.socket | None) -> Iterator[None]:
    """Hang up on an answer that takes too long as a whole."""

    def hang_up() -> None:
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(_WHOLE_S, hang_up)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fits = parts.hostname and parts.port != 0 and "@" not in parts.netloc and not (parts.query or parts.fragment)
    except ValueError:  # a port that is none, a bracket too few
        fits = False
    if not fits:
        raise InvalidInput("connect: the engine's address must look like https://host[:port][/prefix]")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise InvalidInput(
            f"connect: the token would reach {parts.hostname} unencrypted; write https://, or http:// for this machine"
        )
    return parts


def _read(response: HTTPResponse) -> Any:
    text = response.read(_ANSWER_BYTES_MAX + 1)
    if len(text) > _ANSWER_BYTES_MAX:
        raise ValueError("the answer is too long")
    if not text and response.status >= 300:
        return {}
    if response.status >= 300 and "json" not in response.getheader("content-type", ""):
        return {}
    return json.loads(text, parse_constant=_no_number)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
