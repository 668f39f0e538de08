"""Messages as one problem writes them again and again: the same words around other values.

The values are drawn, and found in given messages, without any help of the masks that are tested with them.
"""

from __future__ import annotations

import random
import re
import string
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Draw = Callable[[random.Random], str]
_LETTERS = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_NAMES = ("alice", "bob.smith", "carol_x", "d.o-brien", "eve+shop", "frank99", "grace")
_WORDS = ("orders", "billing", "eu-west", "primary", "replica", "payments", "cache", "search")
_ENDINGS = ("com", "net", "io", "test", "example", "internal", "de", "co.uk", "cloud", "dev")


def _moment(rng: random.Random) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=rng.randrange(10**11))


def _of(rng: random.Random, alphabet: str, length: int) -> str:
    return "".join(rng.choices(alphabet, k=length))


def _host(rng: random.Random) -> str:
    return f"{rng.choice(_WORDS)}-{rng.randrange(30)}.{rng.choice(_WORDS)}.acme.{rng.choice(_ENDINGS)}"


def _ipv4(rng: random.Random) -> str:
    return ".".join(str(rng.randrange(256)) for _ in range(4))


KINDS: dict[str, Draw] = {
    "number": lambda rng: str(rng.randrange(10 ** rng.randrange(4, 10))),
    "amount": lambda rng: f"{rng.uniform(0, 99999):,.2f}",
    "price": lambda rng: f"{rng.uniform(0, 9999):.2f} EUR",
    "dollars": lambda rng: f"${rng.uniform(0, 9999):.2f}",
    "share": lambda rng: f"{rng.uniform(0, 100):.1f}%",
    "iso": lambda rng: _moment(rng).isoformat(),
    "zulu": lambda rng: _moment(rng).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "stamp": lambda rng: _moment(rng).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3],
    "mail date": lambda rng: _moment(rng).strftime("%a, %d %b %Y %H:%M:%S GMT"),
    "day": lambda rng: _moment(rng).strftime("%Y-%m-%d"),
    "clock": lambda rng: _moment(rng).strftime("%H:%M:%S"),
    "epoch": lambda rng: str(int(_moment(rng).timestamp() * rng.choice((1, 1000)))),
    "duration": lambda rng: f"{rng.uniform(0, 60):.2f}s",
    "milliseconds": lambda rng: f"{rng.randrange(90000)}ms",
    "seconds": lambda rng: f"{rng.randrange(2, 600)} seconds",
    "ip": _ipv4,
    "ip and port": lambda rng: f"{_ipv4(rng)}:{rng.randrange(1, 65536)}",
    "ipv6": lambda rng: f"2001:db8::{_of(rng, _HEX, 4)}:{_of(rng, _HEX, 3)}",
    "host": _host,
    "host and port": lambda rng: f"{_host(rng)}:{rng.randrange(1, 65536)}",
    "url": lambda rng: f"https://{_host(rng)}/v1/{rng.choice(_WORDS)}/{rng.randrange(10**6)}?page={rng.randrange(99)}",
    "email": lambda rng: f"{rng.choice(_NAMES)}@{rng.choice(_WORDS)}.{rng.choice(_ENDINGS)}",
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128))),
    "loud uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128))).upper(),
    "hash": lambda rng: _of(rng, _HEX, 40),
    "hex": lambda rng: _of(rng, _HEX, 32),
    "address": lambda rng: f"0x{_of(rng, _HEX, 12)}",
    "order id": lambda rng: f"ORD-{rng.randrange(10**6)}",
    "stripe id": lambda rng: f"{rng.choice(('cus', 'pi', 'ch'))}_{_of(rng, _LETTERS, 14)}",
    "request id": lambda rng: f"req_{_of(rng, _LETTERS, 24)}",
    "record id": lambda rng: f"0015g00000{_of(rng, _LETTERS, 5)}",
    "trace": lambda rng: f"00-{_of(rng, _HEX, 32)}-{_of(rng, _HEX, 16)}-01",
    "job": lambda rng: f"{rng.choice(_WORDS)}-{_of(rng, _HEX, 10)}-{_of(rng, string.ascii_lowercase + '0123456789', 5)}",
    "token": lambda rng: f"sk_live_{_of(rng, _LETTERS, 24)}",
    "jwt": lambda rng: f"eyJhbGciOiJIUzI1NiJ9.eyJ{_of(rng, _LETTERS, 30)}.{_of(rng, _LETTERS, 43)}",
    "file": lambda rng: f"/var/spool/{rng.choice(_WORDS)}_{_moment(rng):%Y-%m-%d}.csv",
    "path": lambda rng: f"/orders/{rng.randrange(10**6)}/items/{rng.randrange(99)}",
}  # fmt: skip
"""What varies between two occurrences of one problem, by the name of its form."""

FRAMES = (
    "{message} ({value})",
    "{message}, got {value}.",
    "{value}: {message}",
    "[{value}] {message}",
    "{message} for id={value}",
    "{message} while handling '{value}'",
    '{{"message": "{message}", "ref": "{value}"}}',
    "{message} ref {value} of {value} rows",
)
"""Where values stand in the messages of services."""

_FOUND: tuple[tuple[re.Pattern[str], Draw], ...] = (
    (re.compile(r"https?://[^\s'\"]+"), KINDS["url"]),
    (re.compile(r"\b[\w.]+@[\w.]+\.\w+"), KINDS["email"]),
    (re.compile(r"\b\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\b"), lambda rng: _moment(rng).strftime("%d/%m/%Y %H:%M:%S")),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), KINDS["day"]),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), _ipv4),
    (re.compile(r"\b(?:api|erp)\.(?:acme|shop)\.test\b"), _host),
    (re.compile(r"\b\d{5,}\b(?! origin)"), lambda rng: str(rng.randrange(10**4, 10**8))),
    (re.compile(r"(?<=timeout=)\d+|(?<=ID )\d+|(?<=ID: )\d+|(?<=order )\d+|(?<=Process )\d+|(?<=process )\d+"), KINDS["number"]),
    (re.compile(r"(?<=expected )\d+|(?<=got )\d+|(?<=line )\d+|(?<=column )\d+|(?<=char )\d+|(?<=position )\d+"), KINDS["number"]),
    (re.compile(r"\b\d+\.\d+(?=s\b| sec\b)"), lambda rng: f"{rng.uniform(0, 90):.2f}"),
    (re.compile(r"\b\d{3,}(?=ms\b)"), lambda rng: str(rng.randrange(100, 90000))),
    (re.compile(r"(?<=sku )[A-Z]-\d+"), lambda rng: f"{rng.choice('ABC')}-{rng.randrange(1000)}"),
)  # fmt: skip


def render(message: str, rng: random.Random, frame: str = "{message}", kind: str = "number") -> str:
    """Return `message` with other values in place of its own, within a frame that holds a value of this kind."""
    for pattern, draw in _FOUND:
        message = pattern.sub(lambda _, draw=draw: draw(rng), message)  # type: ignore[misc]
    while "{value}" in frame:
        frame = frame.replace("{value}", KINDS[kind](rng).replace("{", ""), 1)
    return frame.replace("{message}", message).replace("{{", "{").replace("}}", "}")
