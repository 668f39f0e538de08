"""Many processes behind one shared breaker: while the service is down it hears of one probe at a time, and of no other.

Judged by what the service saw and when, and by nothing that a breaker says of itself.
"""

from __future__ import annotations

import argparse
import http.client
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import prunella as pr
from chaos.book import Book
from chaos.crew import Crew, Zygote
from chaos.storm import places
from chaos.world import environment
from prunella.settings import Settings
from prunella.testing import FaultyServer, delayed
from prunella.testing.ledger import Request

OPEN_S = 1.0
_FAILURES = 3
_CALL_EVERY_S = 0.02
_THINKS_S = 0.1
_SETTLED_S = 0.5
_EARLY_S = 0.02
_PATH = "/crm"


def call_all_the_time(_: Settings, order: Mapping[str, Any]) -> None:
    """Be a process that calls again and again behind the shared breaker; the zygote runs it."""
    address = urlsplit(order["url"])
    limits = pr.Breaker(failures=_FAILURES, open_s=OPEN_S, shared=True)
    crm = pr.policy("crm", retry=None, breaker=limits, attempt_timeout_s=2)

    def ask() -> None:
        line = http.client.HTTPConnection(address.hostname or "", address.port, timeout=2)
        try:
            line.request("POST", _PATH, order["process"])
            answer = line.getresponse()
            answer.read()
            if answer.status >= 500:
                raise ConnectionError(f"HTTP {answer.status}")
        finally:
            line.close()

    with pr.connect(order["board"]):
        while True:
            with suppress(pr.CircuitOpen, OSError):
                crm.call(ask)
            time.sleep(_CALL_EVERY_S)


@dataclass(frozen=True, slots=True)
class Down:
    """When the service was down."""

    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outages:
    """How often the service goes down under how many processes.

    Args:
        down_s, up_s: how long it is down, and well again.
    """

    processes: int = 8
    outages: int = 12
    down_s: float = 5.0
    up_s: float = 4.0


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Let the service go down as often as the command line says, with the board on each kind of database."""
    book = Book()
    wanted = Outages(outages=options.outages)
    with places() as (folder, server, forks):
        for kind, board in (("SQLite", f"sqlite:///{folder / 'board.db'}"), ("PostgreSQL", server.database())):
            book.add(play(wanted, folder, board, forks, options.plant), f"{kind}: ")
    return f"breakers: {wanted.processes} processes, {wanted.outages} outages", book


def play(wanted: Outages, folder: Path, board: str, forks: Zygote, plant: Sequence[str] = ()) -> Book:
    """Let a service go down and come back, and judge what it saw."""
    here = Path(tempfile.mkdtemp(prefix="breakers-", dir=folder))
    (here / "prunella.yaml").write_text("services: {}\n")
    downs = []
    with FaultyServer() as service:
        crew = Crew(forks, here / "prunella.yaml", here / "up.log", environment(board, "127.0.0.1:0"), plant)
        try:
            for number in range(wanted.processes):
                name = f"p{number}"
                crew.start(name, "breaker", url=service.url, board=board, process=name)
            _until_all_call(service, wanted.processes, 0.0)
            for _ in range(wanted.outages):
                from_s = time.monotonic()
                service.script(_PATH, [delayed(_THINKS_S, 503)])
                time.sleep(wanted.down_s)
                service.script(_PATH, ["ok"])
                downs.append(Down(from_s, time.monotonic()))
                time.sleep(wanted.up_s)
            back = _until_all_call(service, wanted.processes, time.monotonic())
        finally:
            crew.close()
        return _book(wanted, downs, service.ledger.requests, back)


def _until_all_call(service: FaultyServer, processes: int, since_s: float) -> int:
    """Wait until every process has called; return how many did."""

    def callers() -> set[bytes]:
        return {one.body for one in service.ledger.requests if one.at_s >= since_s}

    with suppress(TimeoutError):
        service.wait_for(lambda: len(callers()) == processes, 20)
    return len(callers())


def _book(wanted: Outages, downs: Sequence[Down], requests: Sequence[Request], back: int) -> Book:
    book = Book()
    seen = [_within(down, requests) for down in downs]
    probes = [judged for _, judged in seen]
    book.count("requests while the service was well", len(requests) - sum(called for called, _ in seen))
    book.count("outages", len(downs))
    book.count("probes", sum(len(one) for one in probes))
    early = [f"{gap_s:.2f} s" for one in probes for gap_s in _gaps(one) if gap_s < OPEN_S - _EARLY_S]
    beside = [gap for one in probes for gap in _gaps(one) if gap < _THINKS_S]
    book.count("requests within the open time", len(early), must_be=0)
    book.count("probes beside another", len(beside), must_be=0)
    book.count("processes that call again at the end", back, must_be=wanted.processes)
    return book


def _within(down: Down, requests: Sequence[Request]) -> tuple[int, list[float]]:
    """Return how often the service was called while it was down, and when behind the failures that open the breakers.

    Those are a burst, and the first few of each process: one that was starved may come late to its own.
    """
    failed: Counter[bytes] = Counter()
    last_s, settled, found = down.from_s, False, list[float]()
    for one in sorted(requests, key=lambda request: request.at_s):
        if down.from_s < one.at_s < down.until_s:
            settled = settled or one.at_s - last_s > _SETTLED_S
            last_s = one.at_s
            failed[one.body] += 1
            if settled and failed[one.body] > _FAILURES:
                found.append(one.at_s)
    return failed.total(), found


def _gaps(moments: Sequence[float]) -> Iterator[float]:
    return (after - before for before, after in pairwise(moments))
