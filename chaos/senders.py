"""Careful senders: each repeats an event under its own id until somebody says that it is accepted."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

from chaos.world import event, ingest_headers

_AGAIN_AFTER_S = 0.1
_TIMEOUT_S = 5.0
_TWICE = 0.05  # a webhook comes twice now and then


class Senders:
    """Send events at the pace that `may_send` sets.

    Args:
        may_send: how many events may be out by now.
        threads: 0 takes more for more events.
    """

    def __init__(
        self,
        address: tuple[str, int],
        services: Sequence[str],
        events: int,
        seed: int,
        may_send: Callable[[], int],
        threads: int = 0,
    ) -> None:
        self._address, self._services, self._seed = address, list(services), seed
        self.events, self._may_send = events, may_send
        self._next = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.accepted: set[int] = set()
        self.repeats = 0
        self.refused: list[str] = []
        self._threads = [
            threading.Thread(target=self._send_all, name=f"sender-{n}", daemon=True)
            for n in range(threads or min(16, 3 + events // 100))
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def enough(self) -> None:
        """Begin with no further event."""
        with self._lock:
            self.events = self._next

    def join(self, within_s: float) -> None:
        """Wait until everything is accepted, then stop."""
        for thread in self._threads:
            thread.join(within_s)
        self._stop.set()

    def stop(self) -> None:
        """Give up what is not accepted yet."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send_all(self) -> None:
        rng = random.Random(f"{self._seed}/{threading.current_thread().name}")
        connection = http.client.HTTPConnection(*self._address, timeout=_TIMEOUT_S)
        try:
            while not self._stop.is_set() and self._next < self.events:
                number = self._take()
                if number is None:
                    self._stop.wait(0.02)
                    continue
                self._until_accepted(number, connection)
                if rng.random() < _TWICE:
                    self._until_accepted(number, connection)
        finally:
            connection.close()

    def _take(self) -> int | None:
        """Return the next event, None while nobody may send."""
        with self._lock:
            if self._next >= min(self._may_send(), self.events):
                return None
            self._next += 1
            return self._next - 1

    def _until_accepted(self, number: int, connection: http.client.HTTPConnection) -> None:
        body = event(number, self._services, self._seed)
        while not self._stop.is_set():
            try:
                status = self._send(connection, body)
            except (OSError, http.client.HTTPException):
                connection.close()  # it opens again by itself
            else:
                if status in (200, 202):
                    with self._lock:
                        self.accepted.add(number)
                    return
            with self._lock:
                self.repeats += 1
            self._stop.wait(_AGAIN_AFTER_S)

    def _send(self, connection: http.client.HTTPConnection, body: dict[str, Any]) -> int:
        connection.request("POST", "/integration-self-heal", json.dumps(body), ingest_headers())
        reply = connection.getresponse()
        said = reply.read()
        if 400 <= reply.status < 500:
            self.refused.append(f"HTTP {reply.status}: {said[:300]!r}")
        return reply.status


def scan(address: tuple[str, int]) -> None:
    """Ask for a scan: what was interrupted three times in a row rests until one comes by."""
    connection = http.client.HTTPConnection(*address, timeout=15)
    body = json.dumps({"mode": "scan", "limit": 500, "window_minutes": 240})
    try:
        connection.request("POST", "/integration-self-heal", body, ingest_headers())
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()
