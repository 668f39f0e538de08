"""Everything that reads what strangers write, as functions of some bytes: none may raise, none may be slow.

`make fuzz` drives them with atheris, guided by coverage; the tests replay what was ever found and draw a few hundred
inputs with hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from prunella.core import redact
from prunella.core.records import Failure
from prunella.core.retry_after import retry_after_s
from prunella.diagnosis import classify
from prunella.diagnosis.fingerprint import fingerprint, mask, operation_of
from prunella.diagnosis.pasted import failure_of
from prunella.diagnosis.safety import refusal

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOW_S = 0.2
"""No input may hold a worker up for longer."""


def _texts(data: bytes, count: int) -> list[str]:
    """Cut bytes into texts at NUL; what is missing is empty."""
    parts = data.decode("utf-8", "surrogateescape").split("\0", count - 1)
    return parts + [""] * (count - len(parts))


def diagnose(data: bytes) -> None:
    """Classify, group and explain one failure."""
    message, code, exc_type, service, header = _texts(data, 5)
    name, _, value = header.partition(":")
    failure = Failure(
        service=service[:200] or "acme",
        status=100 + data[0] * 2 if data else None,
        code=code or None,
        exc_type=exc_type or None,
        message=message,
        headers={name.lower(): value} if name else {},
    )
    fingerprint(failure, classify(failure, now=NOW))


def scrub(data: bytes) -> None:
    """Take secrets out, twice: the second time there is nothing left to do."""
    text = data.decode("utf-8", "surrogateescape")
    redact.scrub(text)
    redact.scrub_tree({"body": [text, {text[:50]: text}]})


def masking(data: bytes) -> None:
    """Mask a message and an address."""
    first, second = _texts(data, 2)
    mask(first)
    operation_of("POST", second)


def waits(data: bytes) -> None:
    """Read how long to wait, in headers of any shape."""
    name, value, date = _texts(data, 3)
    headers = {name.lower() or "retry-after": value, "date": date}
    wait_s = retry_after_s(headers, NOW)
    assert wait_s is None or wait_s >= 0


def pasted(data: bytes) -> None:
    """Read what somebody pasted."""
    failure_of(data.decode("utf-8", "surrogateescape"), service="acme")


def expressions(data: bytes) -> None:
    """Judge an expression, of a length that is accepted at all."""
    refusal(data.decode("utf-8", "surrogateescape"))


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {one.__name__: one for one in (diagnose, scrub, masking, waits, pasted, expressions)}
)
