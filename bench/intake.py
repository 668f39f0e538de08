"""Durable accept over HTTP: `prunella up` against a bare FastAPI route that inserts one row per request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from bench import places
from bench.events import MIXES
from bench.harness import Options, Report, Row, Spread, compare
from bench.places import Places, Server

_REQUESTS, _WARM_UP = 4000, 500
_TARGET = 0.5
_SERVICES = """\
services:
  crm:
    base_url: http://127.0.0.1:9
"""


def run(options: Options) -> Report:
    """Measure every mix on both databases."""
    with places.places() as place:
        null = [_rate(places.floor(place, "null"), "one cause", options) for _ in range(options.rounds)]
        rows = [row for kind in ("sqlite", "postgresql") for row in _rows(place, kind, options)]
    quickest = max(figure for row in rows for figure in (row.ours.most, row.floor.most if row.floor else 0.0))
    headroom = min(null) / quickest
    note = f"load generator alone: {Spread.of(null)} /s, at least {headroom:.1f} times what it measured here"
    return Report("intake: events accepted durably, 32 connections, Prefer: respond-async", rows, [note])


def _rows(place: Places, kind: str, options: Options) -> Iterator[Row]:
    for mix in MIXES:
        floors, ours, ratios = compare(
            options.rounds,
            lambda mix=mix: {"rate": _rate(places.floor(place, kind), mix, options)},  # type: ignore[misc]
            lambda mix=mix: {"rate": _rate(_engine(place, kind), mix, options)},  # type: ignore[misc]
        )
        yield Row(
            what=f"{kind}, {mix}",
            unit="events/s",
            floor=floors["rate"],
            ours=ours["rate"],
            ratio=ratios["rate"],
            target=f"ratio >= {_TARGET}",
            met=ratios["rate"].median >= _TARGET,
        )


def _engine(place: Places, kind: str) -> AbstractContextManager[Server]:
    return places.prunella(place, place.database(kind), _SERVICES)


def _rate(server: AbstractContextManager[Server], mix: str, options: Options) -> float:
    """Start a server afresh, so that no round works on what another left behind, and measure it."""
    amounts = ("--requests", str(options.amount(_REQUESTS)), "--warm-up", str(options.amount(_WARM_UP)))
    with server as running:
        return float(places.load(running, "--mix", mix, *amounts)["rate"])
