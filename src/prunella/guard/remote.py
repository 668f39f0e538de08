"""An engine elsewhere, over HTTP: it keeps durable calls, shared state and notices for applications.

What must not be lost while it does not answer waits in a spool, a SQLite file beside the program, and follows in
order. Only the standard library: this room has no other client.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
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
from prunella.guard.ledger import DurableCall, Ending, NewCall
from prunella.guard.spool import Spool

_TIMEOUT_S = 3.0
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_SILENT_S = 5.0
"""How long an engine that did not answer is left alone: calls must not queue up behind its silence."""
_IDLE_MAX = 4
_AT_ONCE = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_KEPT = (400, 413, 422)
"""Answers that would stay the same: what was sent can't be kept as it is."""
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
        except (OSError, HTTPException, ValueError) as error:
            self._silent_until = HOST.monotonic() + _SILENT_S
            raise StoreUnavailable(
                f"the engine at {self._address.netloc} does not answer ({type(error).__name__})"
            ) from error
        if status < 300:
            return answer
        told = redact.scrub(str(answer.get("detail") or answer.get("title") or "") if isinstance(answer, dict) else "")
        if status in _NOT_KEPT:
            raise InvalidInput(f"the engine refuses this (HTTP {status}): {told}")
        self._silent_until = HOST.monotonic() + _SILENT_S
        raise StoreUnavailable(f"the engine at {self._address.netloc} answers HTTP {status}: {told}")

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
            with closing(connection.getresponse()) as response:
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
        try:
            written = self._engine.ask("calls", body)
        except StoreUnavailable:
            self._spool.add("calls", body)
            return call.id, HOST.now().timestamp() + call.wait_s
        return written["id"], written["due_at"]

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls that are due; nobody else gets them meanwhile."""
        if not functions:
            return []
        body = {"functions": list(functions), "worker": worker, "lease_s": lease_s, "most": most}
        return [DurableCall(**call) for call in self._engine.ask("calls/claim", body)["items"]]

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
        return int(self._engine.ask("breakers/report", body | {"open_s": min(standing.open_s, 1e9)})["version"])

    def standings(self) -> list[Standing]:
        """Return where the others' breakers stand."""
        items = self._engine.ask("breakers", {})["items"]
        return [Standing(**(item | {"state": State(item["state"])})) for item in items]

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        return bool(self._engine.ask("breakers/probe", {"name": name, "lease_s": lease_s})["granted"])

    def learn(self, name: str, rate_per_s: float) -> None:
        """Keep a rate that was learned; the last word counts."""
        self._engine.ask("rates/learn", {"name": name, "rate_per_s": rate_per_s})

    def learned(self) -> dict[str, float]:
        """Return the rates that were learned, by the limiter's name."""
        rates: dict[str, float] = self._engine.ask("rates", {})["rates"]
        return rates

    def notice(self, notice: Notice) -> None:
        """Leave word for the engine."""
        self._engine.ask("notices", asdict(notice))


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
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
    return json.loads(text) if response.getheader("content-type", "").find("json") >= 0 or response.status < 300 else {}
