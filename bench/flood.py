"""A flood of one cause: how many incidents and messages it becomes, whether every event is counted, and how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from bench import places
from bench.harness import Options, Report, Row, Spread
from bench.places import Places
from prunella.testing import FaultyServer
from prunella.testing.places import Receiver

_EVENTS = 10_000
_QUIET_S = 3.0
_CALM_WITHIN_S = 60.0
_CONFIG = """\
services:
  crm:
    base_url: ${BENCH_WORLD}/crm
notify:
  channels:
    chat: {slack: "${BENCH_WORLD}/chat"}
"""
_direct = build_opener(ProxyHandler({}))


def run(options: Options) -> Report:
    """Let the flood come once per database: its promise is exact, only its rate has a spread."""
    events = options.amount(_EVENTS)
    rows: list[Row] = []
    notes: list[str] = []
    with places.places() as place:
        for kind in ("sqlite", "postgresql"):
            rate, incidents, messages = _flood(place, kind, events)
            counted = [incident["count"] for incident in incidents]
            rows += [
                Row(what=f"{kind}, rate", unit="events/s", ours=Spread.of([rate])),
                _exact(f"{kind}, incidents", len(incidents), 1),
                _exact(f"{kind}, events counted", sum(counted), events),
                _at_most(f"{kind}, messages without digests", len([one for one in messages if not _is_digest(one)]), 2),
            ]
            notes.append(f"{kind}, messages: {'; '.join(_headline(one) for one in messages)}")
    return Report(f"flood: {events:,} events of one cause from a service that is down", rows, notes)


def _flood(place: Places, kind: str, events: int) -> tuple[float, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rate, incidents and messages."""
    with FaultyServer() as world:
        world.script("/crm", [503])
        chat = world.chat("/chat")
        environment = {"BENCH_WORLD": world.url}
        with places.prunella(place, place.database(kind), _CONFIG, **environment) as engine:
            figures = places.load(engine.port, "--requests", str(events), "--warm-up", "0")
            _until_quiet(chat)
            listed = _read(engine, "/api/v1/incidents?limit=500")
        return figures["rate"], listed["items"], chat.messages


def _until_quiet(chat: Receiver) -> None:
    """Wait until nothing has been said for 3 s."""
    end_s = time.monotonic() + _CALM_WITHIN_S
    seen, since_s = -1, time.monotonic()
    while time.monotonic() < end_s and time.monotonic() - since_s < _QUIET_S:
        if len(chat.received) != seen:
            seen, since_s = len(chat.received), time.monotonic()
        time.sleep(0.1)


def _read(engine: places.Engine, path: str) -> dict[str, Any]:
    asked = Request(f"http://127.0.0.1:{engine.port}{path}", headers={"authorization": f"Bearer {engine.token('VIEWER')}"})
    with _direct.open(asked, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found
