"""What prunella stands on goes away and comes back: a full disk, names that are not found, clocks, a frozen PostgreSQL.

Each time events come before, meanwhile and afterwards. Nothing that was accepted is lost or done twice, and from the
moment at which all is well again everything is healed without help.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from chaos.book import Book
from chaos.crew import Crew, Zygote
from chaos.postgres import Postgres
from chaos.stories import Shop, free_address, with_schema
from chaos.storm import places
from chaos.world import environment, ingest_headers, order_of
from prunella.testing import FaultyServer

_WITHIN_S = 10.0
_WAITED_S = 60.0
_DISK_MB = 8
_DAY_S = 86_400.0
_HANGS_S = 8.0
_SOME = 10
_NAME = "vendor.test"
_OPEN = "SELECT count(*) FROM incidents WHERE state NOT IN ('resolved', 'escalated')"


@dataclass
class Place:
    """One prunella, one service, and what was accepted."""

    folder: Path
    forks: Zygote
    server: Postgres
    plant: Sequence[str] = ()
    url: str = ""
    host: str = "127.0.0.1"
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    healed_s: float = -1.0

    def __post_init__(self) -> None:
        self.here = Path(tempfile.mkdtemp(prefix="infrastructure-", dir=self.folder))
        self.disk = self.here / "disk"
        self.disk.mkdir()
        self.url = self.url or f"sqlite:///{self.disk / 'prunella.db'}"
        self.address = free_address()
        self.world = FaultyServer(identity=order_of)

    def play(self, trouble: Callable[[Place], None], **order: object) -> Book:
        """Let something go wrong and come right again; return what became of everything."""
        book = Book()
        with self.world:
            (self.here / "prunella.yaml").write_text(self._configuration())
            environ = environment(self.url, f"{self.address[0]}:{self.address[1]}")
            crew = Crew(self.forks, self.here / "prunella.yaml", self.here / "up.log", environ, self.plant)
            try:
                self.worker = crew.start("up", "up", **order)
                self._until(lambda: self._ask("GET", "/readyz") == 200)
                self.report(_SOME)
                trouble(self)
                self._heal()
                crew.look()
                book.blame("ended by itself", [one.name for one in crew.ended])
                self._enter(book)
            finally:
                crew.close()
        return book

    def report(self, count: int) -> None:
        """Report so many events, once each."""
        for _ in range(count):
            name = f"event-{len(self.accepted) + self.refused}"
            event = {
                "event_id": name,
                "service_name": "vendor",
                "http_status": 503,
                "error_message": "Service temporarily unavailable",
                "endpoint": "/orders",
                "payload": {"order": name, "note": "x" * 2000},
                "retry_count": 0,
            }
            if self._ask("POST", "/integration-self-heal", event) == 202:
                self.accepted.append(name)
            else:
                self.refused += 1

    def _heal(self) -> None:
        """Wait until an event is accepted and everything is settled; note how long that took."""
        well_s, before = time.monotonic(), len(self.accepted)

        def accepts() -> bool:
            self.report(1)
            return len(self.accepted) > before

        self._until(accepts)
        with suppress(TimeoutError):
            self._until(lambda: self._rows(_OPEN) == [(0,)])
            self.healed_s = time.monotonic() - well_s

    def _enter(self, book: Book) -> None:
        kept = {row[0] for row in self._rows("SELECT event_id FROM signals")}
        left = self._rows("SELECT state, held_reason FROM incidents WHERE state <> 'resolved'")
        effects = self.world.ledger.effects_by_key
        book.count("events accepted", len(self.accepted))
        book.count("refused meanwhile", self.refused)
        book.count("lost", len(set(self.accepted) - kept), must_be=0)
        book.count("done", sum(effects[one] >= 1 for one in self.accepted), must_be=len(self.accepted))
        book.count("done twice", self.world.ledger.double_effects, must_be=0)
        book.count("healed after, seconds", self.healed_s)
        book.blame(f"not healed within {_WITHIN_S:g} s", [f"{self.healed_s:.1f} s"] * (self.healed_s > _WITHIN_S))
        book.blame("not healed by itself", left)

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        """Read its tables; those on a disk that only it sees from a copy, because SQLite follows links to our own."""
        store = Shop(with_schema(self.url if self.url.startswith("postgresql") else f"sqlite:///{self._copied()}"))
        try:
            return store.rows(query)
        finally:
            store.close()

    def _copied(self) -> Path:
        copy = Path(tempfile.mkdtemp(dir=self.here))
        for one in sorted(Path(f"/proc/{self.worker.pid}/root{self.disk}").glob("prunella.db*")):
            if not one.name.endswith(("-shm", ".key", ".lock")):
                shutil.copy(one, copy)
        return copy / "prunella.db"

    def _ask(self, method: str, path: str, body: object = None) -> int:
        line = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            line.request(method, path, json.dumps(body), ingest_headers())
            return line.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            line.close()

    def _until(self, holds: Callable[[], bool]) -> None:
        end_s = time.monotonic() + _WAITED_S
        while not holds():
            if time.monotonic() > end_s:
                raise TimeoutError("it did not come true")
            time.sleep(0.1)

    def _configuration(self) -> str:
        port = urlsplit(self.world.url).port
        return (
            'service: {listen: "${LISTEN}", environment: development, requests_per_s: 1000, events_per_s: 1000}\n'
            f'egress: {{allow_http: true, allow_hosts: ["{self.host}:{port}"]}}\n'
            f"services:\n  vendor:\n    base_url: http://{self.host}:{port}\n    timeout: 2s\n"
            "    honours_idempotency_key: true\n    health: {path: /health, every: 1m}\n"
            "    gate: {failures: 5, successes: 1, open: 1s}\n"
            "    disable_after: {auth: never, network: never, data: never, unknown: never}\n"
        )


def disk_is_full(place: Place) -> None:
    """Fill its disk to the last byte, report until something was refused, and free it."""
    filler = Path(f"/proc/{place.worker.pid}/root{place.disk}/filler")
    with filler.open("wb", buffering=0) as out, suppress(OSError):
        while True:
            out.write(bytes(4096))
    while not place.refused and len(place.accepted) < 5000:
        place.report(10)
    place.report(_SOME)
    filler.unlink()


def names_are_not_found(place: Place) -> None:
    """Nobody answers for names (EAI_AGAIN) from the beginning; then the name is known."""
    place.report(_SOME)
    time.sleep(3.0)
    with (place.here / "hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {_NAME}\n")


def clock_jumps(place: Place) -> None:
    """A day ahead, a day behind, and right again, with failures each time."""
    for ahead_s in (_DAY_S, -_DAY_S, 0.0):
        (place.here / "clock").write_text(str(ahead_s))
        place.report(_SOME)
        time.sleep(1.0)


def postgres_hangs(place: Place) -> None:
    """PostgreSQL neither answers nor goes away, as behind a network that swallows everything."""
    with place.server.frozen():
        end_s = time.monotonic() + _HANGS_S
        while time.monotonic() < end_s:
            place.report(1)


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Let each of them go wrong once."""
    book = Book()
    with places() as (folder, server, forks):
        full = Place(folder, forks, server, options.plant)
        book.add(full.play(disk_is_full, disk=[str(full.disk), _DISK_MB]), "disk full: ")
        names = Place(folder, forks, server, options.plant, host=_NAME)
        (names.here / "hosts").write_text("127.0.0.1 localhost\n")
        (names.here / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        book.add(names.play(names_are_not_found, names=str(names.here)), "names not found: ")
        clock = Place(folder, forks, server, options.plant)
        book.add(clock.play(clock_jumps, clock=str(clock.here / "clock")), "clock jumps: ")
        hanging = Place(folder, forks, server, options.plant, url=server.migrated())
        book.add(hanging.play(postgres_hangs), "PostgreSQL hangs: ")
    return f"infrastructure, on a machine with a load of {os.getloadavg()[0]:.0f}", book
