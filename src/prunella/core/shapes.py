"""Read status, headers and code from exceptions and responses by their shape: no client library is imported.

Works for httpx, httpx2, requests, aiohttp, urllib, botocore, psycopg and what looks like them. It never raises: an
attribute that can't be read is not there.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prunella.core.retry_after import WAIT_MAX_S, retry_after_s

_CAUSES_MAX = 8
_UNSENT_NAMES = frozenset({
    "ConnectError", "ConnectTimeout", "PoolTimeout",  # httpx, httpx2, httpcore
    "ConnectTimeoutError", "NewConnectionError", "NameResolutionError",  # urllib3
    "ClientConnectorError", "ClientConnectorDNSError", "ConnectionTimeoutError",  # aiohttp
    "EndpointConnectionError",  # botocore
})  # fmt: skip
_OTHER_NUMBERS = frozenset({"SSLError", "herror"})  # their errno is a number of another list
_UNSENT_ERRNOS = frozenset({errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH})


def status_of(thing: object) -> int | None:
    """Return the HTTP status that an exception or a response carries."""
    for holder in _holders(thing):
        for name in ("status_code", "status", "code", "http_status"):
            value = _get(holder, name)
            if isinstance(value, int) and 100 <= value <= 599:
                return int(value)  # http.HTTPStatus is an int of its own kind
    return None


def headers_of(thing: object) -> Mapping[str, str]:
    """Return the headers of a response, or of the one that an exception carries, in lower case."""
    for holder in _holders(thing):
        for name in ("headers", "response_headers", "hdrs"):
            found = _mapping(_get(holder, name))
            if found:
                return found
    return {}


def asked_wait_s(thing: object, now: datetime | None) -> float | None:
    """Return the seconds that a service asked to wait, in headers or as an attribute; None where it said nothing."""
    by_headers = retry_after_s(headers_of(thing), now)
    if by_headers is not None:
        return by_headers
    value = _get(thing, "retry_after_s")
    if value is None:
        value = _get(thing, "retry_after")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(min(value, WAIT_MAX_S))
    return None


def code_of(thing: object) -> str | None:
    """Return the service's own word for what is wrong: SQLSTATE, a name of errno, a code of its SDK."""
    for one in causes(thing):
        for name in ("sqlstate", "pgcode", "code"):
            value = _get(one, name)
            if isinstance(value, str) and 0 < len(value) <= 100:
                return value
        if isinstance(one, socket.gaierror):
            return _gai_name(one)
        if isinstance(one, OSError) and not _is_named(one, _OTHER_NUMBERS) and one.errno in errno.errorcode:
            return errno.errorcode[one.errno or 0]
    return None


def is_name_resolution(error: BaseException) -> bool:
    """Tell whether a name could not be resolved for the moment (`EAI_AGAIN`)."""
    return code_of(error) == "EAI_AGAIN"


def nothing_was_sent(error: BaseException) -> bool:
    """Tell whether it is proven that no byte of the request left: the connection was never made.

    What was merely being handled when the error was raised proves nothing: a second host may have been asked.
    """
    for one in causes(error, proven=True):
        if _get(one, "sent") is False or isinstance(one, socket.gaierror):
            return True
        if _is_named(one, _UNSENT_NAMES) and _get(one, "code") is None:  # connectrpc's ConnectError is any answer
            return True
        if isinstance(one, OSError) and one.errno in _UNSENT_ERRNOS:
            return True
    return False


def causes(thing: object, *, proven: bool = False) -> Iterator[object]:
    """Yield an exception and what it was raised from, nearest first.

    Args:
        proven: leave out what was only being handled when it was raised.
    """
    seen: list[object] = []
    while thing is not None and len(seen) < _CAUSES_MAX and all(thing is not one for one in seen):
        seen.append(thing)
        yield thing
        if not isinstance(thing, BaseException):
            return
        handled = None if proven or thing.__suppress_context__ else thing.__context__
        thing = thing.__cause__ or _wrapped(thing) or handled


def _wrapped(error: BaseException) -> BaseException | None:
    """Return the error that another carries: urllib and urllib3 as its reason, requests as its argument."""
    carried = (_get(error, "reason"), *error.args[:1])
    return next((one for one in carried if isinstance(one, BaseException)), None)


def _holders(thing: object) -> Iterator[object]:
    for one in causes(thing):
        yield one
        response = _get(one, "response")
        if response is not None:
            yield response.get("ResponseMetadata", response) if isinstance(response, dict) else response


def _get(thing: object, name: str) -> Any:
    try:
        if isinstance(thing, dict):
            return thing.get({"status": "HTTPStatusCode", "headers": "HTTPHeaders"}.get(name, name))
        return getattr(thing, name, None)
    except Exception:
        return None


def _mapping(value: object) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        items = value if isinstance(value, list | tuple) else value.items()  # type: ignore[attr-defined]
        for name, content in items:
            key, text = _text(name).lower(), _text(content)
            found[key] = f"{found[key]}, {text}" if key in found else text
    except Exception:
        return {}
    return found


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _is_named(thing: object, names: frozenset[str]) -> bool:
    return any(kind.__name__ in names for kind in type(thing).__mro__)


def _gai_name(error: socket.gaierror) -> str:
    names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
    return names.get(error.errno or 0, "EAI_FAIL")


def text_of(response: object) -> str:
    """Return the body of a response as text; empty where it can't be read without waiting."""
    for name in ("text", "content", "body", "data"):
        value = _get(response, name)
        if isinstance(value, str):
            return value
        if isinstance(value, bytes | bytearray):
            return bytes(value).decode("utf-8", "replace")
    return ""
