"""What third parties are made of: moods, accounts with rotating tokens, requests under way, and the answers they give."""

from __future__ import annotations

import asyncio
import json as json_format
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunella.core.clock import Rng
from prunella.core.errors import EgressFailed
from prunella.core.services import Service
from prunella.egress import Reply

MOODS: Mapping[str, Mapping[str, int]] = {
    "well": {"ok": 1},
    "flaky": {"ok": 8, "503": 2, "lost": 2, "timeout": 1, "refused": 1, "html": 1, "429": 1},
    "down": {"503": 4, "timeout": 2, "refused": 3, "dns": 1},
    "lossy": {"lost": 3, "ok": 1, "timeout_after": 2},
    "busy": {"429_2": 3, "429_30": 2, "429": 1, "ok": 1},
    "strange": {"422": 2, "html": 2, "ok_false": 2, "500": 1, "ok": 3},
}
PROVIDER_MOODS: Mapping[str, Mapping[str, int]] = {
    "well": {"ok": 1},
    "flaky": {"ok": 8, "503": 2, "timeout": 1, "refused": 1, "odd": 1},
    "lossy": {"ok": 8, "lost": 1},
    "down": {"503": 2, "timeout": 1, "refused": 1},
}
EFFECTS = frozenset({"ok", "lost", "timeout_after"})
BROKEN: Mapping[str, tuple[str, str, bool]] = {
    "lost": ("ConnectionResetError", "ECONNRESET", True),
    "refused": ("ConnectionRefusedError", "ECONNREFUSED", False),
    "dns": ("gaierror", "EAI_AGAIN", False),
}


@dataclass(eq=False)
class Flight:
    """One request under way; `process` is who sent it."""

    process: str
    service: str
    method: str
    path: str
    key: str
    headers: Mapping[str, str]
    body: Any
    form: Mapping[str, str] | None
    deadline_s: float
    reply: asyncio.Future[Reply]
    arrived: bool = False


class Moods:
    """How somebody feels, changing every so often; from `well_from_s` on it stays well."""

    def __init__(self, rng: Rng, kinds: Mapping[str, Mapping[str, int]], mean_s: float, well_from_s: float) -> None:
        self._rng, self._kinds, self._mean_s, self._well_from_s = rng, kinds, mean_s, well_from_s
        self._until_s, self._mood = 0.0, "well"

    def draw(self, now_s: float) -> str:
        """Return the answer that the mood of the moment gives."""
        while self._until_s <= now_s < self._well_from_s:
            self._mood = self._rng.choice(sorted(self._kinds.keys() - {"well"}))
            self._until_s += self._rng.expovariate(1 / self._mean_s) + 1.0
        chances = self._kinds["well" if now_s >= self._well_from_s else self._mood]
        return self._rng.choices(list(chances), list(chances.values()))[0]


@dataclass
class Account:
    """One account at a token provider: refresh tokens rotate, a second use of one revokes them all."""

    access: str
    refresh: str
    since_s: float = 0.0
    used: set[str] = field(default_factory=set)
    revoked: bool = False
    held_by: str | None = None  # the process that holds the new pair and has not saved it yet
    known: bool = False  # a new pair of it was saved, so that it rotates stands in the tables


@dataclass
class Place:
    """One third party: its service as configured, its moods and its ledger."""

    service: Service
    moods: Moods
    provider_moods: Moods
    accounts: dict[str, Account] = field(default_factory=dict)
    memory: dict[str, bytes] = field(default_factory=dict)
    effects: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def land(flight: Flight, kind: str, reply: Reply) -> None:
    """Bring an answer, or the break that came instead, to who waits for it."""
    if flight.reply.done():
        return
    if kind in BROKEN:
        exc_type, errno_name, sent = BROKEN[kind]
        flight.reply.set_exception(
            EgressFailed(f"{flight.service}: {errno_name}", exc_type=exc_type, errno_name=errno_name, sent=sent)
        )
    else:
        flight.reply.set_result(reply)


def answer(status: int, body: Any, **headers: str) -> Reply:
    """Answer in JSON."""
    return Reply(status, {"content-type": "application/json", **headers}, json_format.dumps(body).encode(), 0.1)


def other_answer(kind: str, flight: Flight) -> Reply:
    """Answer without an effect; some echo what they were sent, as real ones do."""
    match kind:
        case "html":
            return Reply(200, {"content-type": "text/html"}, b"<!doctype html><p>Our app is better than ever</p>", 0.1)
        case "ok_false":
            return answer(200, {"ok": False, "error": f"cannot use {flight.headers.get('authorization', 'that')}"})
        case "422":
            return answer(422, {"code": "validation_error", "received": flight.body})
        case "429" | "429_2" | "429_30":
            wait = kind[4:]
            return answer(429, {"code": "rate_limit_exceeded"}, **({"retry-after": wait} if wait else {}))
        case "odd":
            return answer(400, {"error": {"message": f"we do not like {(flight.form or {}).get('refresh_token')}"}})
    return answer(int(kind) if kind.isdigit() else 503, {"error": "unavailable"})
