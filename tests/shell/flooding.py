"""A flood from one source beside a trickle from another: what was refused, what was lost, how long the other waited.

`make flood` floods a server of its own with 50,000 events, with the limits that come along.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flows.running import INGEST, Up, running
from prunella.core.clock import SystemClock
from prunella.testing import FaultyServer

_CLOCK = SystemClock()
_LINES = 4


@dataclass
class Told:
    """What one source was answered."""

    accepted: set[str] = field(default_factory=set)
    refused: int = 0
    other: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    @property
    def p95_s(self) -> float:
        """Return how long 95 of 100 waited at most."""
        return sorted(self.waits_s)[int(len(self.waits_s) * 0.95)]


def tell(
    up: Up, service: str, source: str, count: int, told: Told, *, token: str, first: int = 0, pause_s: float = 0.0
) -> None:
    """Report events one after the other, from an address of this host."""
    host = urlsplit(up.url).netloc
    headers = {"authorization": f"Bearer {token}", "prefer": "respond-async", "content-type": "application/json"}
    with closing(http.client.HTTPConnection(host, timeout=60, source_address=(source, 0))) as line:
        for number in range(first, first + count):
            name = f"{service}-flood-{number}"
            event = {"event_id": name, "service_name": service, "http_status": 422, "error_message": "no such sku"}
            began_s = _CLOCK.monotonic()
            line.request("POST", "/integration-self-heal", json.dumps(event), headers)
            answer = line.getresponse()
            answer.read()
            told.waits_s.append(_CLOCK.monotonic() - began_s)
            if answer.status == 202:
                told.accepted.add(name)
            elif answer.status == 429 and int(answer.headers["retry-after"]) >= 1:
                told.refused += 1
            else:
                told.other.append(answer.status)
            threading.Event().wait(pause_s)


def flood(up: Up, events: int, others: int, token: str = INGEST) -> tuple[Told, Told, Told]:
    """Return what the flood was told, and what the other source was told alone and beside it."""
    noisy, alone, beside = Told(), Told(), Told()
    tell(up, "quiet", "127.0.0.9", others, alone, token=token, pause_s=0.05)
    each = events // _LINES
    threads = [
        threading.Thread(
            target=tell, args=(up, "noisy", "127.0.0.1", each, noisy), kwargs={"first": each * number, "token": token}
        )
        for number in range(_LINES)
    ]
    for one in threads:
        one.start()
    tell(up, "quiet", "127.0.0.9", others, beside, token=token, first=others, pause_s=0.05)
    for one in threads:
        one.join()
    return noisy, alone, beside


def lost(up: Up, *told: Told) -> set[str]:
    """Return what was accepted and is not there."""
    kept = {event_id for (event_id,) in up.rows("SELECT event_id FROM signals WHERE event_id LIKE '%-flood-%'")}
    return {name for one in told for name in one.accepted} - kept


def main() -> None:
    """Flood a server of its own and say what came of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=50_000)
    options.add_argument("--others", type=int, default=100)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, FaultyServer() as world:
        services = f"services: {{quiet: {{base_url: '{world.url}'}}, noisy: {{base_url: '{world.url}'}}}}\n"
        config = (
            f'service: {{listen: "${{LISTEN}}", environment: development}}\negress: {{allow_http: true}}\n{services}'
        )
        with running(Path(folder), world, f"sqlite:///{folder}/own.db", config) as up:
            noisy, alone, beside = flood(up, chosen.events, chosen.others)
            missing = lost(up, noisy, alone, beside)
    print(f"flood: {len(noisy.accepted)} accepted, {noisy.refused} refused with 429, other answers {noisy.other[:5]}")
    print(f"the other source: {len(beside.accepted)} of {chosen.others} accepted, {beside.refused} refused")
    print(f"accepted and lost: {len(missing)}")
    print(
        f"p95 of the other: {alone.p95_s * 1000:.1f} ms alone, {beside.p95_s * 1000:.1f} ms beside ({beside.p95_s / alone.p95_s:.2f}x)"
    )


if __name__ == "__main__":
    main()
