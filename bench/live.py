"""How soon an open page hears of a change: from before a person's call to the line in its stream of events.

Outside, over HTTP, on both databases. The page adds what the browser needs to draw it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2

from bench import places
from bench.harness import Options, Report, Row, Spread, percentile
from bench.places import Server

_CHANGES = 50
_MOST_MS = 1000.0
_CONFIG = "services: {crm: {base_url: http://127.0.0.1:9}}\n"


def run(options: Options) -> Report:
    """Pause and resume a service, again and again, while a page listens."""
    rows = []
    with places.places() as place:
        for kind in ("sqlite", "postgresql"):
            with places.prunella(place, place.database(kind), _CONFIG) as server:
                rows.append(_row(kind, sorted(_changes(server, options.amount(_CHANGES)))))
    return Report("live: a change is heard by an open page", rows, ["p50 / p95 / longest of the changes"])


def _row(kind: str, heard_ms: list[float]) -> Row:
    figures = [percentile(heard_ms, 0.5), percentile(heard_ms, 0.95), heard_ms[-1]]
    met = figures[-1] <= _MOST_MS
    return Row(what=kind, unit="ms", ours=Spread.of(figures), target=f"at most {_MOST_MS:.0f} ms", met=met)


def _changes(server: Server, count: int) -> Iterator[float]:
    headers = {"authorization": f"Bearer {server.token('ADMIN')}"}
    address = f"http://127.0.0.1:{server.port}/live?feed=true"
    with httpx2.stream("GET", address, headers=headers, timeout=30, trust_env=False) as answer:
        lines = answer.iter_lines()
        next(lines)  # it is open
        for number in range(count):
            begun = time.perf_counter()
            server.call("POST", f"/api/v1/services/crm/{('pause', 'resume')[number % 2]}", "ADMIN", {})
            while next(lines) != "event: moved":
                pass
            yield 1000 * (time.perf_counter() - begun)
