"""How soon recovery begins: expired tokens, for which no wait is due, from the report to the refresh.

Inside: from the event's `received_at` to the run's `started_at`, both in prunella's tables. Outside: from the moment
the report is sent to the moment the token endpoint is asked. Floor: a route that commits one row and then posts to
the token endpoint by hand.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import psycopg

from bench import places
from bench.events import TOKEN, expired
from bench.harness import Options, Report, Row, Spread, percentile
from bench.places import Places, Server
from prunella.testing import FaultyServer

_EVENTS = 200
_EVERY_S = 0.1
_BACKGROUND_PER_S = 100
_SETTLED_WITHIN_S = 30.0
_TARGET_MS = 10.0
_CONFIG = """\
services:
  crm:
    base_url: ${BENCH_WORLD}/crm
    oauth: {token_url: "${BENCH_WORLD}/token", client_id: bench, per_user: true}
  other:
    base_url: ${BENCH_WORLD}/other
"""
_TIMES = (
    "SELECT first_seen, min(started_at) FROM {0}incidents JOIN {0}runs ON runs.incident_id = incidents.id "
    "WHERE remedy = 'refresh_token' GROUP BY incidents.id, first_seen"
)

Delays = dict[str, list[float]]
"""Milliseconds by viewpoint, one per event."""


def run(options: Options) -> Report:
    """Measure each database, alone and under background load, floor and ours in turn."""
    events = options.amount(_EVENTS)
    rows: list[Row] = []
    with places.places() as place:
        for kind in ("sqlite", "postgresql"):
            for background in (0, _BACKGROUND_PER_S):
                rows += _rows(place, kind, background, events, max(options.rounds // 2, 1))
    notes = [f"{events} events per round, one every {_EVERY_S * 1000:.0f} ms, each of an account of its own"]
    return Report("begin: from the report of an expired token to the beginning of its recovery", rows, notes)


def _rows(place: Places, kind: str, background: int, events: int, rounds: int) -> Iterator[Row]:
    floors, ours = [], []
    for _ in range(rounds):
        floors.append(_floor(place, kind, background, events))
        ours.append(_ours(place, kind, background, events))
    where = f"{kind}, {background} events/s beside" if background else f"{kind}, alone"
    for view, share in (("inside", 0.5), ("inside", 0.95), ("outside", 0.5), ("outside", 0.95)):
        own = [percentile(one[view], share) for one in ours]
        base = [percentile(one[view], share) for one in floors if view in one]
        aimed = (kind, background, share) == ("sqlite", 0, 0.5)
        yield Row(
            what=f"{where}, {view}, {'median' if share == 0.5 else '95 %'}",
            unit="ms",
            ours=Spread.of(own),
            floor=Spread.of(base) if base else None,
            ratio=Spread.of([mine / theirs for mine, theirs in zip(own, base, strict=True)]) if base else None,
            target=f"at most {_TARGET_MS:.0f}" if aimed else "",
            met=Spread.of(own).median <= _TARGET_MS if aimed else None,
        )


def _floor(place: Places, kind: str, background: int, events: int) -> Delays:
    with FaultyServer() as world, places.floor(place, kind, f"{world.url}/token") as server:
        accounts = [f"account-{number}" for number in range(events)]
        sent_s = _report(server, accounts, background)
        return {"outside": _outside(world, dict(zip(accounts, sent_s, strict=True)))}


def _ours(place: Places, kind: str, background: int, events: int) -> Delays:
    database = place.database(kind)
    with FaultyServer() as world:
        oauth = world.oauth("/token", client_id="bench")
        world.protect("/crm", oauth)
        pairs = [oauth.grant() for _ in range(events)]
        oauth.expire()
        with places.prunella(place, database, _CONFIG, BENCH_WORLD=world.url) as engine:
            accounts = [f"account-{number}" for number in range(events)]
            for account, pair in zip(accounts, pairs, strict=True):
                tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
                engine.call("PUT", "/api/v1/services/crm/credentials", "ADMIN", {**tokens, "account": account})
            sent_s = _report(engine, accounts, background)
            refreshes = {pair.refresh_token: at_s for pair, at_s in zip(pairs, sent_s, strict=True)}
            outside = _outside(world, refreshes)
        return {"inside": [_milliseconds(*row) for row in _times(database)], "outside": outside}


def _report(server: Server, accounts: Sequence[str], background: int) -> list[float]:
    """Report one event per account, evenly spaced; return when each was sent."""
    with ExitStack() as beside:
        if background:
            amount = ("--requests", "20000", "--warm-up", "0", "--connections", "8", "--rate", str(background))
            beside.enter_context(places.loading(server, "--mix", "background", *amount))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        beside.callback(connection.close)
        return [_post(connection, expired(number, "begin", account)) for number, account in enumerate(accounts)]


def _post(connection: http.client.HTTPConnection, event: Mapping[str, Any]) -> float:
    """Report `event` and wait for the rest of its interval; return when it was sent."""
    sent = {"authorization": f"Bearer {TOKEN}", "prefer": "respond-async", "content-type": "application/json"}
    body = json.dumps(event)
    begun_s = time.monotonic()
    connection.request("POST", "/integration-self-heal", body, sent)
    reply = connection.getresponse()
    reply.read()
    if reply.status != 202:
        raise RuntimeError(f"begin: every event must be accepted with 202, got {reply.status}")
    time.sleep(max(_EVERY_S - (time.monotonic() - begun_s), 0.0))
    return begun_s


def _outside(world: FaultyServer, sent_s: Mapping[str, float]) -> list[float]:
    """Return the time from each report to its refresh; refreshes are told apart by their first refresh token."""
    asked_s: dict[str, float] = {}

    def all_asked() -> bool:
        for request in world.ledger.requests:
            token = parse_qs(request.body.decode()).get("refresh_token", [""])[0]
            if request.path == "/token" and token in sent_s:
                asked_s.setdefault(token, request.at_s)
        return len(asked_s) == len(sent_s)

    world.wait_for(all_asked, _SETTLED_WITHIN_S)
    return [(asked_s[token] - at_s) * 1000 for token, at_s in sent_s.items()]


def _times(database: str) -> list[tuple[Any, Any]]:
    """Read when each event was received and when its recovery began."""
    if database.startswith("sqlite"):
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as file:
            return file.execute(_TIMES.format("")).fetchall()
    with psycopg.connect(database) as connection:
        return connection.execute(_TIMES.format("prunella.").encode()).fetchall()


def _milliseconds(received: datetime | str, begun: datetime | str) -> float:
    first, last = (datetime.fromisoformat(at) if isinstance(at, str) else at for at in (received, begun))
    return (last - first).total_seconds() * 1000
