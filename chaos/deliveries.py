"""Signed deliveries, three copies of each in any order, some of them forged; whoever takes them dies behind its answer.

The first part comes at a steady pace and nobody dies: how long an answer takes is measured from the moment at which the
delivery was due, so that a queue before the door counts.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

from chaos.book import Book
from chaos.crew import Crew, Zygote
from chaos.stories import Shop, free_address, with_schema
from chaos.storm import places
from chaos.world import environment

SECRET = "whsec_" + base64.b64encode(b"deliveries".ljust(32, b".")).decode()
_COPIES = 3
_PER_S = 200.0
_P99_MS_MAX = 50.0
_SENDERS = 16
_FORGED_SHARE = 0.02
_AGAIN_AFTER_S = 0.1
_CALM_SHARE = 0.7
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy on its way.

    Args:
        due_s: when it is to leave, from the beginning; 0: as soon as somebody is free.
        forged: its body was changed behind its signature.
    """

    number: int
    forged: bool = False
    due_s: float = 0.0


@dataclass
class Post:
    """Who delivers, and what was answered.

    Args:
        kills: how often the receiver is killed right behind an answer.
    """

    address: tuple[str, int]
    crew: Crew
    kills: int
    accepted: set[int] = field(default_factory=set)
    waits_ms: list[float] = field(default_factory=list)
    forged_in: int = 0
    sent: int = 0
    other: Counter[int] = field(default_factory=Counter)
    killed: int = 0
    _kill_at: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def deliver(self, deliveries: Sequence[Delivery], kill_at: Sequence[int] = ()) -> None:
        """Deliver everything, whoever dies; kill the receiver once so many were answered."""
        self._kill_at = sorted(kill_at, reverse=True)
        began_s, left = time.monotonic(), iter(deliveries)
        with ThreadPoolExecutor(_SENDERS) as threads:
            for sending in [threads.submit(self._some, left, began_s) for _ in range(_SENDERS)]:
                sending.result()

    def _some(self, left: object, began_s: float) -> None:
        line = http.client.HTTPConnection(*self.address, timeout=_TIMEOUT_S)
        while True:
            with self._lock:
                one = next(left, None)  # type: ignore[call-overload]
            if one is None:
                break
            time.sleep(max(began_s + one.due_s - time.monotonic(), 0.0))
            due_s = began_s + one.due_s if one.due_s else time.monotonic()
            self._until_answered(one, line)
            if one.due_s:
                self.waits_ms.append((time.monotonic() - due_s) * 1000)
        line.close()

    def _until_answered(self, one: Delivery, line: http.client.HTTPConnection) -> None:
        """Deliver one copy until somebody says yes or no, as senders of webhooks do."""
        while True:
            body = json.dumps(_told(one.number)).encode()
            headers = {**_signed(one.number, body), "content-type": "application/json"}
            sent = body.replace(b"HTTP", b"http") if one.forged else body
            try:
                line.request("POST", "/api/v1/inbound/partner", sent, headers)
                answer = line.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                line.close()
                time.sleep(_AGAIN_AFTER_S)
                continue
            if self._is_final(one, answer.status):
                return
            time.sleep(_AGAIN_AFTER_S)

    def _is_final(self, one: Delivery, status: int) -> bool:
        with self._lock:
            self.sent += 1
            if one.forged:
                self.forged_in += status in (200, 202)
                return status < 500
            if status in (200, 202):
                self.accepted.add(one.number)
                if self._kill_at and len(self.accepted) >= self._kill_at[-1]:
                    self._kill_at.pop()
                    self.killed += self.crew.kill("up") is not None
                return True
            self.other[status] += status not in (429, 503)
            return status not in (429, 500, 502, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How much comes.

    Args:
        events: each in three copies.
        kills: of the receiver, right behind an answer.
        per_s: deliveries per second in the part that is measured.
    """

    events: int = 10_000
    kills: int = 50
    per_s: float = _PER_S
    seed: int = 1
    plant: Sequence[str] = ()


def chosen(options: argparse.Namespace) -> tuple[str, Book]:
    """Deliver what the command line asks for, on each kind of database."""
    book = Book()
    mail = Mail(events=options.events, kills=options.delivery_kills, seed=options.seed, plant=options.plant)
    with places() as (folder, server, forks):
        for kind, url in (("SQLite", f"sqlite:///{folder / 'deliveries.db'}"), ("PostgreSQL", server.migrated())):
            book.add(play(mail, folder, url, forks), f"{kind}: ")
    return f"deliveries, {mail.events:,} events in {_COPIES} copies, seed {mail.seed}", book


def play(mail: Mail, folder: Path, url: str, forks: Zygote) -> Book:
    """Deliver, kill, and count what was kept."""
    here, address, began_s = Path(tempfile.mkdtemp(prefix="deliveries-", dir=folder)), free_address(), time.monotonic()
    (here / "prunella.yaml").write_text(_CONFIGURATION)
    environ = {**environment(url, f"{address[0]}:{address[1]}"), "PARTNER_SECRET": SECRET}
    crew = Crew(forks, here / "prunella.yaml", here / "up.log", environ, mail.plant)
    calm, rough = shuffled(mail)
    try:
        crew.start("up", "up")
        post = Post(address, crew, mail.kills)
        _until_up(address)
        post.deliver(calm)
        first = len(post.accepted)
        each = max(mail.events - first, mail.kills) / (mail.kills + 1)
        post.deliver(rough, [first + round(each * number) for number in range(1, mail.kills + 1)])
    finally:
        crew.close()
    book = _book(mail, post, with_schema(url))
    book.count("seconds", time.monotonic() - began_s)
    return book


def shuffled(mail: Mail) -> tuple[list[Delivery], list[Delivery]]:
    """Return the copies in an order that the seed decides: those at a steady pace, and those of the part with kills."""
    rng = random.Random(f"{mail.seed}/deliveries")
    copies = [Delivery(number) for number in range(mail.events) for _ in range(_COPIES)]
    copies += [Delivery(number, forged=True) for number in range(0, mail.events, round(1 / _FORGED_SHARE))]
    steady = [one for one in copies if one.number < mail.events * _CALM_SHARE]
    rest = [one for one in copies if one.number >= mail.events * _CALM_SHARE]
    rng.shuffle(steady)
    rng.shuffle(rest)
    paced = [Delivery(one.number, one.forged, (at + 1) / mail.per_s) for at, one in enumerate(steady)]
    return paced, rest


def _book(mail: Mail, post: Post, url: str) -> Book:
    """Read from the tables what was kept."""
    book, store = Book(), Shop(url)
    kept = [str(row[0]) for row in store.rows("SELECT event_id FROM signals")]
    counted = store.rows("SELECT coalesce(sum(count), 0) FROM incidents")[0][0]
    store.close()
    lost = {_name(number) for number in post.accepted} - {one.partition(":")[0] for one in kept}
    book.count("deliveries answered", post.sent)
    book.count("events accepted", len(post.accepted), must_be=mail.events)
    book.count("events kept", len(kept), must_be=mail.events)
    book.count("failures counted by incidents", int(counted), must_be=mail.events)
    book.count("lost", len(lost), must_be=0)
    book.count("kills behind an answer", post.killed, must_be=mail.kills)
    book.count("forged deliveries taken", post.forged_in, must_be=0)
    book.blame("refused although genuine", [f"HTTP {status}" for status in sorted(post.other.elements())])
    waits = sorted(post.waits_ms)
    for share in (50, 99):
        book.count(f"p{share} at {mail.per_s:g}/s, ms", waits[len(waits) * share // 100])
    p99_ms = waits[len(waits) * 99 // 100]
    book.count("load of the machine", os.getloadavg()[0])
    book.figures["p99 is to stay below, ms"] = f"{_P99_MS_MAX:g}{'' if p99_ms < _P99_MS_MAX else ', and did not'}"
    return book


def _name(number: int) -> str:
    return f"msg-{number}"


def _told(number: int) -> dict[str, object]:
    facts = {"http_status": 422, "error_message": "HTTP 422: no such sku", "order": f"order-{number}"}
    return {"type": "sync.failed", "timestamp": "2026-01-01T00:00:00Z", "data": facts}


def _signed(number: int, body: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    made = Webhook(SECRET).sign(_name(number), now, body.decode())
    return {"webhook-id": _name(number), "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": made}


def _until_up(address: tuple[str, int]) -> None:
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        line = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
        try:
            line.request("GET", "/readyz")
            if line.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            line.close()
    raise RuntimeError("prunella did not come up")


_CONFIGURATION = """\
service: {listen: "${LISTEN}", environment: development, requests_per_s: 100000, events_per_s: 100000}
services:
  crm: {base_url: "https://crm.invalid"}
inbound:
  partner: {kind: standard_webhooks, secrets: ["${PARTNER_SECRET}"], service: crm}
"""
