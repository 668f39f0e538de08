"""The third parties: some honour idempotency keys, some do not; both count every deed by the order it was done for.

Both lose connections and fail now and then. Replies are lost after the deed only where keys are honoured: elsewhere
nobody could tell such a loss from a kill, and kills are what this is about.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.parse import urlsplit

from prunella.testing import FaultyServer, delayed
from prunella.testing.ledger import Request
from prunella.testing.words import Reply, Word, lost_reply, ok, reset, status

_TOKEN = "chaos-ingest-token-0123456789"
_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
WORKER = "x-chaos-worker"
"""The header by which a third party knows which process calls."""


@dataclass(frozen=True, slots=True)
class Call:
    """A deed that was asked for; the reply has not left yet."""

    worker: str
    order: str


class Witness(FaultyServer):
    """Tell who calls while the call is still under way."""

    def __init__(self, *, honour_keys: bool) -> None:
        super().__init__(honour_keys=honour_keys, identity=order_of)
        self.calls: SimpleQueue[Call] | None = None

    def answer(self, request: Request) -> tuple[Word, Reply]:
        """Decide, do the deed, and tell before the reply leaves."""
        decided = super().answer(request)
        if self.calls is not None and request.method == "POST":
            self.calls.put(Call(request.headers.get(WORKER, ""), order_of(request)))
        return decided


def order_of(request: Request) -> str:
    """Name the deed: the order's number, whatever key a try carries."""
    body = request.json()
    return str(body["order"]) if isinstance(body, dict) and "order" in body else request.content


@dataclass
class World:
    """Two servers with many services.

    Args:
        keyed, keyless: how many services each of them plays.
    """

    seed: int
    keyed: int = 16
    keyless: int = 8
    calls: SimpleQueue[Call] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        self.honest = Witness(honour_keys=True)
        self.forgetful = Witness(honour_keys=False)
        self.honest.calls = self.forgetful.calls = self.calls

    def __enter__(self) -> Self:
        self.honest.start()
        self.forgetful.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.honest.stop()
        self.forgetful.stop()

    @property
    def services(self) -> list[str]:
        """Return the names of all services."""
        return [f"keyed{n}" for n in range(self.keyed)] + [f"keyless{n}" for n in range(self.keyless)]

    def play(self, calls: int, slow_s: float) -> None:
        """Script every service for so many calls; afterwards everything is well.

        Args:
            slow_s: a reply takes up to so long, so that a kill can fall between deed and reply.
        """
        for name in self.services:
            rng = random.Random(f"{self.seed}/{name}")
            server = self.honest if has_keys(name) else self.forgetful
            server.script(f"/{name}", [*(_word(rng, name, slow_s) for _ in range(calls)), ok])

    def next_call(self, within_s: float) -> Call | None:
        """Wait for a call that begins from now on."""
        while not self.calls.empty():
            self.calls.get()
        try:
            return self.calls.get(timeout=within_s)
        except Empty:
            return None

    def configuration(self) -> str:
        """Return the prunella.yaml of this world."""
        hosts = ", ".join(f'"{urlsplit(one.url).netloc}"' for one in (self.honest, self.forgetful))
        services = "".join(
            f"""
  {name}:
    base_url: {(self.honest if has_keys(name) else self.forgetful).url}/{name}
    timeout: 2s
    honours_idempotency_key: {str(has_keys(name)).lower()}
    headers: {{{WORKER}: "${{CHAOS_WORKER}}"}}
    gate: {{failures: 20, successes: 1, open: 1s}}
    disable_after: {{auth: never, network: never, data: never, unknown: never}}"""
            for name in self.services
        )
        return (
            'service: {listen: "${LISTEN}", environment: development, requests_per_s: 10000, events_per_s: 100000}\n'
            f"egress: {{allow_http: true, allow_hosts: [{hosts}]}}\nservices:{services}\n"
        )


def has_keys(service: str) -> bool:
    """Tell whether a service honours idempotency keys."""
    return service.startswith("keyed")


def _word(rng: random.Random, name: str, slow_s: float) -> Word:
    dice = rng.random()
    if dice < 0.04:
        return status(503)
    if dice < 0.06:
        return reset
    if dice < 0.12 and has_keys(name):
        return lost_reply
    return delayed(rng.random() * slow_s, ok)


def environment(database_url: str, listen: str) -> dict[str, str]:
    """Return what a worker finds in its environment."""
    return {
        "PRUNELLA_DATABASE_URL": database_url,
        "PRUNELLA_SECRET_KEY": _KEY,
        "PRUNELLA_INGEST_TOKEN": _TOKEN,
        "LISTEN": listen,
    }


def event(number: int, services: list[str], seed: int) -> dict[str, Any]:
    """Return an event: one order that did not go through, and may be sent again."""
    rng = random.Random(f"{seed}/event/{number}")
    failure = rng.choice(
        [{"http_status": 503, "error_message": "Service temporarily unavailable"}]
        + [{"http_status": 429, "error_message": "slow down", "error_code": "rate_limit_exceeded"}] * 2
    )
    return {
        "event_id": event_id(number),
        "service_name": rng.choice(services),
        "endpoint": f"/orders/{rng.choice('abcd')}",
        "payload": {"order": f"order-{number}"},
        "retry_count": 0,
        **failure,
    }


def event_id(number: int) -> str:
    """Name an event."""
    return f"event-{number}"


def ingest_headers() -> dict[str, str]:
    """Return what an integration sends along; it does not wait for the recovery."""
    return {"authorization": f"Bearer {_TOKEN}", "content-type": "application/json", "prefer": "respond-async"}
