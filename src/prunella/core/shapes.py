"""Read status, headers, code and text from exceptions and responses by their shape: no client library is imported.

Works for httpx, httpx2, requests, aiohttp, urllib, botocore, grpc, psycopg, asyncpg, SQLAlchemy and what looks like
them. It never raises: an attribute that can't be read is not there.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prunella.core.retry_after import WAIT_MAX_S, retry_after_s

_CAUSES_MAX = 8
_CARRIED_MAX = 3
_UNSENT_NAMES = frozenset({
    "ConnectError", "ConnectTimeout", "PoolTimeout",  # httpx, httpx2, httpcore
    "ConnectTimeoutError", "NewConnectionError", "NameResolutionError",  # urllib3
    "ClientConnectorError", "ClientConnectorDNSError", "ConnectionTimeoutError",  # aiohttp
    "EndpointConnectionError",  # botocore
})  # fmt: skip
_OF_TLS = frozenset({"SSLError"})
_OTHER_NUMBERS = frozenset({"herror"})  # its errno is a number of another list
_OTHER_CODES = frozenset({"SQLAlchemyError"})  # its code is the address of a page of its manual
_CALLS = frozenset({"RpcError"})
_CODE_MAX = 100
_SLIPS = (
    AttributeError,
    NameError,
    SyntaxError,
)  # nobody raises them to say what else went wrong: they are new trouble
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
    return next((code for one in causes(thing) if (code := _own_code(one)) is not None), None)


def _own_code(one: object) -> str | None:
    return _spelled_code(one) or _code_in_reply(one) or _code_of_call(one) or _code_of_system(one)


def _spelled_code(one: object) -> str | None:
    names = ("sqlstate", "pgcode", "sqlite_errorname", "code")
    for name in names[:-1] if _is_named(one, _OTHER_CODES) else names:
        value = _get(one, name)
        if _is_code(value):
            return str(value)
    number = _get(one, "smtp_code")
    return str(number) if isinstance(number, int) and 200 <= number <= 599 else None


def _is_code(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _CODE_MAX


def _code_in_reply(one: object) -> str | None:
    """Read the code in a reply that was parsed already, as botocore carries it."""
    reply = _get(one, "response")
    error = reply.get("Error") if isinstance(reply, dict) else None
    code = error.get("Code") if isinstance(error, dict) else None
    return str(code) if _is_code(code) else None


def _code_of_call(one: object) -> str | None:
    """Ask an error of gRPC for its status: there the code is a method that returns a member of an enumeration."""
    ask = _get(one, "code")
    if not callable(ask) or not _is_named(one, _CALLS):
        return None
    try:
        name = _get(ask(), "name")
    except Exception:
        return None
    return name if isinstance(name, str) and name != "OK" else None


def _code_of_system(one: object) -> str | None:
    if isinstance(one, socket.gaierror):
        return _gai_name(one)
    if isinstance(one, OSError) and _is_named(one, _OF_TLS):  # OpenSSL has a list of its own, and names for it
        reason = _get(one, "reason")
        return str(reason) if _is_code(reason) else None
    if isinstance(one, OSError) and not _is_named(one, _OTHER_NUMBERS):
        return errno.errorcode.get(one.errno or 0)
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
    """Yield an exception and what it was raised from, nearest first; of a group, one member after the other.

    Args:
        proven: leave out what was only being handled when it was raised, and what only a part of a group says.
    """
    seen: list[object] = []
    waiting = [thing]
    while waiting and len(seen) < _CAUSES_MAX:
        one = waiting.pop(0)
        if one is None or any(one is earlier for earlier in seen):
            continue
        seen.append(one)
        yield one
        if isinstance(one, BaseException):
            waiting[:0] = _behind(one, proven)


def _behind(error: BaseException, proven: bool) -> Sequence[BaseException | None]:
    if isinstance(error, BaseExceptionGroup):
        return () if proven else error.exceptions[:_CAUSES_MAX]
    apart = proven or error.__suppress_context__ or isinstance(error, _SLIPS)
    handled = None if apart else error.__context__
    return (error.__cause__ or _wrapped(error) or handled,)


def _wrapped(error: BaseException) -> BaseException | None:
    """Return the error that another carries: as its reason (urllib), its original or among its arguments (requests)."""
    carried = (_get(error, "reason"), _get(error, "orig"), *error.args[:_CARRIED_MAX])
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
    if _get(response, "_content") is False:  # of requests: the body is still on its way
        return ""
    for name in ("text", "content", "body", "data"):
        value = _get(response, name)
        if isinstance(value, str):
            return value
        if isinstance(value, bytes | bytearray):
            return bytes(value).decode("utf-8", "replace")
    return ""


def message_of(error: BaseException) -> str:
    """Return what an exception says: the body it was answered with, its own text, or that of the first cause with one.

    The body comes first, because it is the service's own word; the text of the exception follows where it adds to it.
    """
    own, body = _words(error), text_of(_get(error, "response"))
    if body and own and body not in own:
        return f"{body}\n{own}"
    return own or body or next(filter(None, map(_words, causes(error))), "")


def _words(thing: object) -> str:
    try:
        return str(thing)
    except Exception:
        return ""
