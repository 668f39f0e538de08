"""Read a request before it is sent: may it be sent again, under which key, and how long may it take.

Bodies, headers and timeouts are known by their shape, in every form that HTTP clients take. Must never use a body up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""Methods that may be sent again without harm (RFC 9110 section 9.2.2)."""
_HTTPX_PARTS = ("connect", "read", "write", "pool")
_AIOHTTP_PARTS = ("connect", "sock_read", "sock_connect", "ceil_threshold")
_TIMEOUT_MIN_S = 0.001
"""requests refuses a timeout of 0."""


def key_of(headers: Any) -> str | None:
    """Return the idempotency key among the headers of a request; None where there is none, or an empty one."""
    pairs = headers.items() if hasattr(headers, "items") else headers if isinstance(headers, list | tuple) else ()
    for name, value in pairs:
        if _plain(name).lower() == "idempotency-key":
            return _plain(value) or None
    return None


def _plain(text: Any) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else str(text)


def reads_twice(body: Any) -> bool:
    """Tell whether a body is the same when it is sent again: files, generators and forms are used up by sending."""
    if isinstance(body, Mapping):
        return all(map(reads_twice, body.values()))
    if isinstance(body, list | tuple):
        return all(map(reads_twice, body))
    return body is None or isinstance(body, str | bytes | bytearray | memoryview | int | float)


def shorter(timeout: Any, clients_own: Any, left_s: float) -> Any:
    """Return a timeout in its own form, with nothing in it longer than what is left.

    Args:
        clients_own: the timeout that the client was made with, for a timeout that only stands for it.
    """
    left_s = max(left_s, _TIMEOUT_MIN_S)
    if timeout is None or isinstance(timeout, int | float):
        return _least(timeout, left_s)
    if isinstance(timeout, tuple):
        return tuple(_least(part, left_s) for part in timeout)
    if hasattr(timeout, "total"):
        kept = {name: getattr(timeout, name) for name in _AIOHTTP_PARTS if hasattr(timeout, name)}
        return type(timeout)(total=_least(timeout.total, left_s), **kept)
    if all(hasattr(timeout, name) for name in _HTTPX_PARTS):
        return type(timeout)(**{name: _least(getattr(timeout, name), left_s) for name in _HTTPX_PARTS})
    return shorter(clients_own if clients_own is not timeout else None, None, left_s)


def _least(part: Any, left_s: float) -> float:
    return min(part, left_s) if isinstance(part, int | float) else left_s
