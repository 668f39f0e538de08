"""A receiver on loopback for the channels' tests, and the notification that they send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from loopback import serving
from prunella.core.records import Notification, Severity
from prunella.core.redact import Secret
from prunella.egress import Egress, EgressPolicy

NOTIFICATION = Notification(
    id="0197-n1",
    key="incident-1/detected",
    channel="ops",
    kind="detected",
    severity=Severity.HIGH,
    title="Integration Failure Detected",
    facts=(("Service", "stripe"), ("Error", "card <declined> & refused")),
    incident_id="incident-1",
    link="https://prunella.example/incidents/incident-1?a=1&b=2",
    next_at=None,
    created_at=datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC),
)


@dataclass
class Heard:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answer every request with the same reply, set by the test, and keep what was heard."""

    status: str = "200 OK"
    body: bytes = b"ok"
    headers: tuple[str, ...] = ()
    requests: list[Heard] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> Secret:
        return Secret(f"http://127.0.0.1:{self.port}/services/T0/B0/Zx9secret?sig=Zx9secret")

    def answer(self, status: str, body: bytes = b"", *headers: str) -> None:
        self.status, self.body, self.headers = status, body, headers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Heard(start.split()[1], headers, body))
        head = [f"HTTP/1.1 {self.status}", f"Content-Length: {len(self.body)}", "Connection: close", *self.headers]
        writer.write("\r\n".join([*head, "", ""]).encode() + self.body)


@pytest.fixture
async def receiver(anyio_backend: str) -> AsyncIterator[Receiver]:
    """Listen on loopback; says `ok` until the test sets another answer."""
    ear = Receiver()
    async with serving(ear.serve) as ear.port:
        yield ear


@pytest.fixture
async def caller(anyio_backend: str) -> AsyncIterator[Egress]:
    """Call out for real, loopback allowed."""
    egress = Egress(EgressPolicy(allow_hosts=frozenset({"127.0.0.1"}), allow_http=True))
    yield egress
    await egress.close()


@pytest.fixture
def notification() -> Notification:
    """Return a notice of a failure, with text in it that chats would read as markup."""
    return NOTIFICATION


@pytest.fixture
def hostile() -> Notification:
    """Return a notification whose every text tries to mention, to link, or to be very long."""
    injected = "<!channel> <@U123> @everyone <https://evil.test|click> [click](https://evil.test) {{7*7}} {0.__class__}"
    facts = (("Error", injected), (injected, "x"), ("Long", "€" * 100_000), ("Empty", ""))
    return replace(NOTIFICATION, title=injected, facts=facts)
