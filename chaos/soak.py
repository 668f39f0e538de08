"""A long steady load: memory, open files, rows and the log of writes of a running prunella stop growing.

What is over is forgotten after a minute instead of months, so that minutes show what months would.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import string
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import linear_regression, mean
from typing import Any
from urllib.parse import urlsplit

from chaos.book import Book
from chaos.crew import Crew, Worker
from chaos.stories import Shop, free_address, with_schema
from chaos.storm import places
from chaos.world import environment, ingest_headers
from prunella.cli import up
from prunella.core.retention import Retention
from prunella.engine import retention
from prunella.engine.learning import occurrences
from prunella.settings import Settings
from prunella.store.tables import metadata
from prunella.testing import FaultyServer

MB_PER_MIN_MAX = 1.0
_KEPT_S = 60.0
_FORGETS_EVERY_S = 10.0
_LOOKS_EVERY_S = 2.0
_PER_S = 10.0
_WARM_SHARE = 0.4  # of the time: what is kept for a minute is full by then
_ROWS_GROW_MAX = 1.25
_WAL_MB_MAX = 32.0
_FILES_MORE_MAX = 10
_SERVICES = 4
KEPT_MOST = {"patterns": occurrences.PATTERNS_MAX, "seals": 1000}
"""What is not bounded by time: patterns by their number, seals as the chain that they are, one per 500 entries."""
TABLES = sorted(table.name for table in metadata.sorted_tables)


def serve_and_forget(settings: Settings, _: Mapping[str, Any]) -> None:
    """Be `prunella up` with a short memory; the zygote runs it."""
    retention.EVERY_S = _FORGETS_EVERY_S
    short = Retention(operations_s=_KEPT_S, incidents_s=_KEPT_S, notifications_s=_KEPT_S, audit_s=_KEPT_S)
    up.serve(replace(settings, retention=short))


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a process and of its database at one moment."""

    at_s: float
    rss_mb: float
    files: int
    wal_mb: float = 0.0
    rows: Mapping[str, int] = field(default_factory=dict)


def look(pid: int, began_s: float) -> Look:
    """Look at a process from outside (proc(5))."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rss_mb = int(said["VmRSS"].split()[0]) / 1024
    return Look(time.monotonic() - began_s, rss_mb, len(os.listdir(f"/proc/{pid}/fd")))


def warm(looks: Sequence[Look]) -> list[Look]:
    """Return those behind the warm-up."""
    from_s = looks[0].at_s + (looks[-1].at_s - looks[0].at_s) * _WARM_SHARE
    return [one for one in looks if one.at_s >= from_s]


def slope_mb_per_min(looks: Sequence[Look]) -> float:
    """Return how fast memory grows behind the warm-up."""
    steady = warm(looks)
    return linear_regression([one.at_s for one in steady], [one.rss_mb for one in steady]).slope * 60


def judge(book: Book, looks: Sequence[Look]) -> None:
    """Enter what grew, and blame what may not."""
    steady = warm(looks)
    slope = slope_mb_per_min(looks)
    book.count("memory after the warm-up, MB", steady[0].rss_mb)
    book.count("memory at the end, MB", steady[-1].rss_mb)
    book.figures["memory grows by, MB per minute"] = f"{slope:+.2f}  (must be below {MB_PER_MIN_MAX:g})"
    book.blame("memory grows, MB per minute", [f"{slope:.2f}"] * (slope >= MB_PER_MIN_MAX))
    more = steady[-1].files - steady[0].files
    book.count("files open at the end", steady[-1].files)
    book.blame("open files grow", [f"from {steady[0].files} to {steady[-1].files}"] * (more > _FILES_MORE_MAX))


def judge_rows(book: Book, looks: Sequence[Look]) -> None:
    """Enter how many rows there were in the middle and at the end, and blame tables that go on growing."""
    steady = [one for one in warm(looks) if one.rows]
    half = len(steady) // 2
    for table in sorted(steady[-1].rows):
        early = mean(one.rows[table] for one in steady[:half])
        late = mean(one.rows[table] for one in steady[half:])
        if late >= 1:
            book.figures[f"rows of {table}, early and late"] = f"{early:,.0f}, {late:,.0f}"
        grows = late > _ROWS_GROW_MAX * early + 20 if table not in KEPT_MOST else late > KEPT_MOST[table]
        book.blame(f"rows of {table} go on growing", [f"{early:,.0f} to {late:,.0f}"] * grows)
    wal_mb = max(one.wal_mb for one in steady)
    if wal_mb:  # SQLite's
        book.count("log of writes at most, MB", wal_mb)
        book.blame("the log of writes grows", [f"{wal_mb:.0f} MB"] * (wal_mb > _WAL_MB_MAX))


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Load one prunella on each kind of database for as long as the command line says."""
    book = Book()
    with places() as (folder, server, forks), FaultyServer() as world:
        wards = {
            "SQLite": Ward(folder, f"sqlite:///{folder / 'soak.db'}", forks, world, options.plant),
            "PostgreSQL": Ward(folder, server.migrated(), forks, world, options.plant),
        }
        threads = [threading.Thread(target=one.live, args=(options.soak_minutes,)) for one in wards.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for kind, ward in wards.items():
            book.add(ward.book(), f"{kind}: ")
    return f"soak, {options.soak_minutes:g} minutes of {_PER_S:g} events/s", book


@dataclass
class Ward:
    """One prunella under load, and what is seen of it."""

    folder: Path
    url: str
    forks: Any
    world: FaultyServer
    plant: Sequence[str] = ()
    looks: list[Look] = field(default_factory=list)
    accepted: int = 0
    refused: list[str] = field(default_factory=list)

    def live(self, minutes: float) -> None:
        """Start it, load it and look at it for so long."""
        here = Path(tempfile.mkdtemp(prefix="soak-", dir=self.folder))
        address = free_address()
        (here / "prunella.yaml").write_text(_configuration(self.world))
        crew = Crew(
            self.forks,
            here / "prunella.yaml",
            here / "up.log",
            environment(self.url, f"{address[0]}:{address[1]}"),
            self.plant,
        )
        over = threading.Event()
        loading = threading.Thread(target=self._load, args=(address, over))
        store = Shop(with_schema(self.url))
        try:
            worker = crew.start("up", "soak")
            loading.start()
            self._watch(worker, store, minutes * 60)
        finally:
            over.set()
            loading.join()
            store.close()
            crew.close()

    def book(self) -> Book:
        """Return what became of it."""
        book = Book()
        book.count("events accepted", self.accepted)
        book.blame("events refused", self.refused)
        judge(book, self.looks)
        judge_rows(book, self.looks)
        return book

    def _watch(self, worker: Worker, store: Shop, for_s: float) -> None:
        began_s = time.monotonic()
        path = Path(f"{self.url.removeprefix('sqlite:///')}-wal")
        for number in itertools.count():
            if (left_s := began_s + for_s - time.monotonic()) <= 0:
                return
            seen = look(worker.pid, began_s)
            with suppress(OSError):
                seen = replace(seen, wal_mb=path.stat().st_size / 2**20)
            if number % 5 == 0 and self.accepted:
                seen = replace(
                    seen, rows={table: store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
                )
            self.looks.append(seen)
            time.sleep(min(_LOOKS_EVERY_S, left_s))

    def _load(self, address: tuple[str, int], over: threading.Event) -> None:
        """Report failures at a steady pace; one that nobody takes is reported again."""
        line = http.client.HTTPConnection(*address, timeout=30)
        due_s = time.monotonic()
        for event in _events():
            while not over.is_set():
                try:
                    line.request("POST", "/integration-self-heal", json.dumps(event), ingest_headers())
                    answer = line.getresponse()
                    said = answer.read()
                except (OSError, http.client.HTTPException):
                    line.close()
                    over.wait(0.2)
                    continue
                self.accepted += answer.status == 202
                self.refused += [f"{answer.status}: {said[:100]!r}"] * (answer.status != 202)
                break
            due_s = max(due_s + 1 / _PER_S, time.monotonic() - 1)
            if over.wait(max(due_s - time.monotonic(), 0)):
                break
        line.close()


def _events() -> Iterator[dict[str, Any]]:
    """Yield failures, each another problem: the same again and again would be left to a person."""
    for number, letters in enumerate(itertools.product(string.ascii_lowercase, repeat=4)):
        throttling = number % 3 == 0
        yield {
            "event_id": f"soak-{number}",
            "service_name": f"soak{number % _SERVICES}",
            "http_status": 429 if throttling else 503,
            "error_message": "slow down" if throttling else "Service temporarily unavailable",
            "endpoint": f"/orders/{''.join(reversed(letters))}",
            "payload": {"order": f"order-{number}", "note": "x" * 500},
            "retry_count": 0,
        }


def _configuration(world: FaultyServer) -> str:
    services = "".join(
        f"""\
  soak{number}:
    base_url: {world.url}/soak{number}
    timeout: 2s
    honours_idempotency_key: true
    gate: {{failures: 20, successes: 1, open: 1s}}
    disable_after: {{auth: never, network: never, data: never, unknown: never}}
"""
        for number in range(_SERVICES)
    )
    return (
        'service: {listen: "${LISTEN}", environment: development, requests_per_s: 1000, events_per_s: 1000}\n'
        f'egress: {{allow_http: true, allow_hosts: ["{urlsplit(world.url).netloc}"]}}\nservices:\n{services}'
    )
