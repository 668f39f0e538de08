"""A flood of one cause: how many incidents and messages it becomes, whether every event is counted, and how fast."""

from __future__ import annotations

import time
from typing import Any

from bench import places
from bench.harness import Options, Report, Row, Spread
from bench.places import Places
from prunella.testing import FaultyServer
from prunella.testing.places import Receiver

_EVENTS = 10_000
_QUIET_S = 3.0
_QUIET_WITHIN_S = 60.0
_CONFIG = """\
services:
  crm:
    base_url: ${BENCH_WORLD}/crm
notify:
  channels:
    chat: {slack: "${BENCH_WORLD}/chat"}
"""


def run(options: Options) -> Report:
    """Let the flood come once per database: what it promises is exact, only its rate varies."""
    events = options.amount(_EVENTS)
    rows: list[Row] = []
    notes: list[str] = []
    with places.places() as place:
        for kind in ("sqlite", "postgresql"):
            rate, incidents, messages = _flood(place, kind, events)
            counted = sum(incident["count"] for incident in incidents)
            single = [one for one in messages if "Digest" not in one]
            rows += [
                Row(what=f"{kind}, accepted", unit="events/s", ours=Spread.of([rate])),
                _row(f"{kind}, incidents", len(incidents), "exactly 1", len(incidents) == 1),
                _row(f"{kind}, events counted", counted, f"exactly {events:,}", counted == events),
                _row(f"{kind}, messages, digests apart", len(single), "at most 2", len(single) <= 2),
            ]
            notes += [f"{kind} said: {one}" for one in messages]
    return Report(f"flood: {events:,} events of one cause, from a service that is down", rows, notes)


def _row(what: str, value: float, target: str, met: bool) -> Row:
    return Row(what=what, unit="", ours=Spread.of([value]), target=target, met=met)


def _flood(place: Places, kind: str, events: int) -> tuple[float, list[dict[str, Any]], list[str]]:
    """Return the rate, the incidents and the headings of the messages."""
    with FaultyServer() as world:
        world.script("/crm", [503])
        chat = world.chat("/chat")
        with places.prunella(place, place.database(kind), _CONFIG, BENCH_WORLD=world.url) as engine:
            figures = places.load(engine, "--requests", str(events), "--warm-up", "0")
            _until_quiet(chat)
            incidents = engine.call("GET", "/api/v1/incidents?limit=500", "VIEWER")["items"]
        return figures["rate"], incidents, [str(message["text"])[:90] for message in chat.messages]


def _until_quiet(chat: Receiver) -> None:
    """Wait until nobody has said anything for 3 s."""
    end_s = time.monotonic() + _QUIET_WITHIN_S
    seen, since_s = -1, time.monotonic()
    while time.monotonic() < min(end_s, since_s + _QUIET_S):
        if len(chat.received) != seen:
            seen, since_s = len(chat.received), time.monotonic()
        time.sleep(0.1)
