"""How bytes become what a target reads: texts, headers, a request; and what the targets share."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import Request

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
R = TypeVar("R")


def texts(data: bytes, count: int) -> list[str]:
    """Cut bytes into texts at NUL; what is missing is empty."""
    parts = data.decode("utf-8", "surrogateescape").split("\0", count - 1)
    return parts + [""] * (count - len(parts))


def stored(data: bytes, count: int) -> list[str]:
    """Cut bytes into texts as a database holds them: no half characters."""
    return [text.encode("utf-8", "replace").decode() for text in texts(data, count)]


def delivered(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Cut bytes into a choice (the first byte), headers (lines up to NUL) and a body."""
    head, _, body = data[1:].partition(b"\0")
    lines = (line.partition(":") for line in head[:8192].decode("latin-1").split("\n") if ":" in line)
    return data[0] if data else 0, {name.strip().lower(): value.strip() for name, _, value in lines}, body


def request(headers: dict[str, str], body: bytes) -> Request:
    """Return a request as the server hands it over."""
    listed = [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers.items()
    ]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": listed}, receive)


def finished(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run what never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something outside")
