"""The load generator, a process of its own: raw sockets, requests made beforehand, one in flight per connection.

`python -m bench.load PORT --requests N` sends warm-up requests first, then N that count, and prints its figures as
JSON. It must stay far quicker than what it measures; `bench/intake.py` prints by how much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from bench.events import MIXES, background, request
from bench.harness import percentile

_EVENTS = {**MIXES, "background": background}


@dataclass(slots=True)
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    times_s: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next request when the answer to the last is complete.

    Args:
        waiting: requests that all connections share.
        pace_s: seconds from one request of this connection to the next; 0 sends as fast as answers come.
    """

    def __init__(self, waiting: deque[bytes], tally: Tally, pace_s: float) -> None:
        self._waiting = waiting
        self._tally = tally
        self._pace_s = pace_s
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._sent_s = 0.0
        self.transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def send(self) -> None:
        """Send the next request, or be done when none waits."""
        assert self.transport is not None
        if not self._waiting:
            if not self.done.done():
                self.done.set_result(None)
            return
        self._sent_s = time.perf_counter()
        self.transport.write(self._waiting.popleft())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < _content_length(head):
            return
        self._buffer = b""
        self._tally.statuses[int(head[9:12])] += 1
        took_s = time.perf_counter() - self._sent_s
        self._tally.times_s.append(took_s)
        if self._pace_s > took_s:
            self._loop.call_later(self._pace_s - took_s, self.send)
        else:
            self.send()


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def drive(port: int, requests: list[bytes], connections: int, pace_s: float = 0.0) -> tuple[Tally, float]:
    """Send every request over `connections` connections; return what came back and how long it took."""
    tally, waiting = Tally(), deque(requests)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(waiting, tally, pace_s), "127.0.0.1", port)
        for _ in range(connections)
    ]
    begun_s = time.perf_counter()
    for _, connection in made:
        connection.send()
    await asyncio.gather(*(connection.done for _, connection in made))
    took_s = time.perf_counter() - begun_s
    for transport, _ in made:
        transport.close()
    return tally, took_s


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Warm up, then measure."""
    event = _EVENTS[options.mix]
    warm = [request(event(number, f"warm-{options.stamp}")) for number in range(options.warm_up)]
    counted = [request(event(number, options.stamp)) for number in range(options.requests)]
    pace_s = options.connections / options.rate if options.rate else 0.0
    await drive(options.port, warm, options.connections)
    tally, took_s = await drive(options.port, counted, options.connections, pace_s)
    return {
        "rate": len(tally.times_s) / took_s,
        "median_ms": percentile(tally.times_s, 0.5) * 1000,
        "p95_ms": percentile(tally.times_s, 0.95) * 1000,
        "statuses": {str(status): count for status, count in tally.statuses.items()},
    }


def main() -> None:
    """Run the generator from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--mix", choices=list(_EVENTS), default="one cause")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--warm-up", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--stamp", default="counted", help="begins the event ids, which have to be new to the server")
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; 0 sends as fast as answers come")
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
