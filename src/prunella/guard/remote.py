"""An engine elsewhere, over HTTP: it keeps durable calls, shared state and notices for applications.

What must not be lost while it does not answer waits in a spool, a SQLite file beside the program, and follows in
order. Only the standard library: this room has no other client.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from prunella.core import redact
from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard.board import Notice, Standing
from prunella.guard.breaker import State
from prunella.guard.forks import renew_after_fork
from prunella.guard.ledger import DurableCall, Ending, NewCall, told
from prunella.guard.spool import Spool

_TIMEOUT_S = 3.0
_WHOLE_S = 10.0
"""An answer that comes drop by drop keeps every timeout of a socket: after so long it counts as none."""
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_SILENT_S = 5.0
"""How long an engine that did not answer is left alone: calls must not queue up behind its silence."""
_IDLE_MAX = 4
_AT_ONCE = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_KEPT = (400, 413, 422)
"""Answers that would stay the same: what was sent can't be kept as it is."""
_PROMISED = {
    "calls": "due_at", "calls/claim": "items", "calls/end": "id", "breakers": "items", "breakers/report": "version",
    "breakers/probe": "granted", "rates": "rates",
}  # fmt: skip
"""What an engine's answer holds; who else stands at the address and says `{}` has taken nothing."""
_DUE_MAX = 32_503_680_000.0  # the year 3000
_log = logging.getLogger(__name__)


class EnginePlace:
    """An engine, with a spool for the time when it does not answer.

    Raises:
        InvalidInput: the address or the token can't be right.
    """

    def __init__(self, url: str, token: str | None, spool: str) -> None:
        self._engine = Engine(url, token)
        self._spool = Spool(spool)
        self.ledger = RemoteLedger(self._engine, self._spool)
        self.board = RemoteBoard(self._engine)

    def deliver(self) -> None:
        """Bring what was spooled while the engine did not answer."""
        self._spool.carry(self._engine)

    def close(self) -> None:
        """Close connections and the spool."""
        self._engine.close()
        self._spool.close()


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
            raise InvalidInput("connect: an engine wants a token; make one there: prunella token --role APPLICATION")
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        redact.known.register(redact.Secret(token))
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidInput("connect: the token holds what no header can carry; strip spaces and line ends from it")
        self._silent_until = 0.0
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with connections of its own: on a parent's a child would get the parent's answers."""
        self._idle: deque[HTTPConnection] = deque()

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what the engine answers.

        Raises:
            InvalidInput: it refuses what was sent, and always will.
            StoreUnavailable: it does not answer, or not to this token.
        """
        if HOST.monotonic() < self._silent_until:
            raise StoreUnavailable(f"the engine at {self._address.netloc} did not answer just now; it is left alone")
        try:
            status, answer = self._exchange(path, json.dumps(body).encode())
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            self._silent_until = HOST.monotonic() + _SILENT_S
            raise StoreUnavailable(
                f"the engine at {self._address.netloc} does not answer ({type(error).__name__})"
            ) from error
        if status < 300 and isinstance(answer, dict) and _PROMISED.get(path, "") in {*answer, ""}:
            return answer
        why = told(str(answer.get("detail") or answer.get("title") or "") if isinstance(answer, dict) else "")
        if status in _NOT_KEPT:
            raise InvalidInput(f"the engine refuses this (HTTP {status}): {why}")
        self._silent_until = HOST.monotonic() + _SILENT_S
        raise StoreUnavailable(f"the engine at {self._address.netloc} answers HTTP {status}: {why or 'nothing of use'}")

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


class RemoteLedger:
    """Durable calls that an engine keeps; what it can't take now is spooled."""

    def __init__(self, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool

    def write(self, call: NewCall) -> tuple[str, float]:
        """Have a call written down; where nobody answers it waits in the spool, under the same id."""
        body = asdict(call)
        earlier = self._spool.waiting(call.function, call.key)
        if earlier is not None:
            return str(earlier["id"]), HOST.now().timestamp() + float(earlier["wait_s"])
        try:
            written = self._engine.ask("calls", body)
            with _understood():
                return str(written["id"]), min(max(float(written["due_at"]), 0.0), _DUE_MAX)
        except StoreUnavailable:
            self._spool.add("calls", body)
            return call.id, HOST.now().timestamp() + call.wait_s

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls that are due; nobody else gets them meanwhile."""
        if not functions:
            return []
        body = {"functions": list(functions), "worker": worker, "lease_s": lease_s, "most": most}
        items = self._engine.ask("calls/claim", body)["items"]
        with _understood():
            calls = [_call(item) for item in items]
        return [call for call in calls if call.function in functions]

    def renew(self, call_id: str, worker: str, lease_s: float) -> None:
        """Keep a call that is still being made."""
        self._engine.ask("calls/renew", {"id": call_id, "worker": worker, "lease_s": lease_s})

    def end(self, call_id: str, worker: str, ending: Ending) -> None:
        """Report how an attempt ended; where nobody answers the report waits in the spool."""
        body = {"id": call_id, "worker": worker, **asdict(ending)}
        try:
            self._engine.ask("calls/end", body)
        except StoreUnavailable:
            self._spool.add("calls/end", body)


class RemoteBoard:
    """The board that an engine keeps."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def report(self, standing: Standing) -> int:
        """Tell the others where a breaker stands; return the new version."""
        body = {"name": standing.name, "state": standing.state.value, "reason": standing.reason}
        answer = self._engine.ask("breakers/report", body | {"open_s": min(standing.open_s, 1e9)})
        with _understood():
            return int(answer["version"])

    def standings(self) -> list[Standing]:
        """Return where the others' breakers stand."""
        items = self._engine.ask("breakers", {})["items"]
        with _understood():
            return [_standing(item) for item in items]

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        return bool(self._engine.ask("breakers/probe", {"name": name, "lease_s": lease_s})["granted"])

    def learn(self, name: str, rate_per_s: float) -> None:
        """Keep a rate that was learned; the last word counts."""
        self._engine.ask("rates/learn", {"name": name, "rate_per_s": rate_per_s})

    def learned(self) -> dict[str, float]:
        """Return the rates that were learned, by the limiter's name."""
        rates = self._engine.ask("rates", {})["rates"]
        with _understood():
            return {str(name): float(rate_per_s) for name, rate_per_s in rates.items()}

    def notice(self, notice: Notice) -> None:
        """Leave word for the engine."""
        self._engine.ask("notices", asdict(notice))


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


@contextmanager
def _understood() -> Iterator[None]:
    """Take an answer that is not of the promised shape for none."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreUnavailable(f"the engine's answer can't be understood ({type(error).__name__})") from error


def _call(item: Mapping[str, Any]) -> DurableCall:
    return DurableCall(
        id=str(item["id"]),
        function=str(item["function"]),
        idempotency_key=str(item["idempotency_key"]),
        args=list(item["args"]),
        kwargs=dict(item["kwargs"]),
        attempts=int(item["attempts"]),
        created_at=float(item["created_at"]),
    )


def _standing(item: Mapping[str, Any]) -> Standing:
    return Standing(
        name=str(item["name"]),
        state=State(item["state"]),
        reason=str(item["reason"]),
        open_s=float(item["open_s"]),
        version=int(item["version"]),
    )


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
