"""Read an answer before it is trusted: what it says where it is good, what went wrong where it is not.

It takes what an HTTP client returned, a body, or data that was parsed already. It never raises on any of them, and
never consumes a body that the caller still has to read. Must never show a body beyond its scrubbed beginning.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from prunella.core import shapes
from prunella.core.clock import HOST
from prunella.core.errors import BadResponse
from prunella.core.redact import scrub

FAILURE_WAIT_S: Final = 2.0
"""Document E: a failure that asks for no wait is worth another look after two seconds."""

_EXCERPT_MAX, _ERROR_MAX, _TEXT_MAX, _DEPTH_MAX = 200, 200, 65536, 5
_BODYLESS = frozenset({204, 205, 304})
_UNREAD: Final = object()
_SAYS_WHAT = ("error", "message", "error_description", "detail", "title", "reason", "errors")
_ASKS_FOR = ("retryAfter", "retry_after")
_PAGE: Final = re.compile(r"\s{0,1000}(?:<!doctype html|<html|<head|<body|<title|<h1)", re.IGNORECASE)
_HEADLINES: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"<title\b[^>]{0,200}>(.{0,1000}?)</title",
        r"<h1\b[^>]{0,200}>(.{0,1000}?)</h1",
        r"Error:[ \t]{0,20}([^\n<]{1,500})",
    )
)
_TAG: Final = re.compile(r"<[^<>]{0,500}>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an answer says.

    Args:
        ok: it is what was promised.
        data: the JSON in it, or what was parsed already; None where there is none.
        error: what went wrong, in the service's own words where it has some; scrubbed, "" where all is well.
        status: HTTP status, None where there was none.
        excerpt: the first 200 characters of a body that is not as promised, scrubbed.
        retry_after_s: seconds to wait before another try; None where all is well.
    """

    ok: bool
    data: Any = field(default=None, repr=False)
    error: str = ""
    status: int | None = None
    excerpt: str = ""
    retry_after_s: float | None = None


def read_response(result: object) -> Reading:
    """Say what an answer holds, whatever it is; never raises.

    Args:
        result: a response of httpx2, httpx, requests, aiohttp (once its body was read) or what looks like one; a
            body as str or bytes; data that was parsed already.
    """
    reading = _judged(result)
    if reading.ok or reading.retry_after_s is not None:
        return reading
    return replace(reading, retry_after_s=FAILURE_WAIT_S)


def json_response(result: object) -> None:
    """Refuse an answer that is not the JSON it should be: `policy(validate=pr.json_response)`.

    Raises:
        BadResponse: an error status, an HTML page, another content type, an empty or torn body, `ok: false`, or
            GraphQL errors without data.
    """
    reading = _judged(result)
    if not reading.ok:
        raise BadResponse(
            reading.error, status=reading.status, excerpt=reading.excerpt, retry_after_s=reading.retry_after_s
        )


def attribute(thing: object, name: str) -> Any:
    """Return an attribute; None where there is none, or where it can't be read."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def _judged(result: object) -> Reading:
    """Read an answer; `retry_after_s` is set only where it was asked for."""
    try:
        if result is None:
            return Reading(ok=False, error="nothing came back")
        if isinstance(result, BaseException):
            return _of_exception(result)
        if isinstance(result, str | bytes | bytearray | memoryview):
            return _of_body(result if isinstance(result, str) else bytes(result), _Envelope())
        if isinstance(result, Mapping) or not _is_response(result):
            return _of_data(result, _Envelope())
        return _of_response(result)
    except Exception as error:  # an object that answers every question with another error
        return Reading(ok=False, error=f"the answer can't be read: {type(error).__name__}")


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What stands around a body."""

    status: int | None = None
    kind: str = ""
    asked_s: float | None = None


def _is_response(result: object) -> bool:
    return shapes.status_of(result) is not None and attribute(result, "headers") is not None


def _of_response(response: object) -> Reading:
    status = shapes.status_of(response)
    kind = shapes.headers_of(response).get("content-type", "").partition(";")[0].strip().lower()
    envelope = _Envelope(status, kind, shapes.asked_wait_s(response, HOST.now()))
    body = _body_of(response)
    if status in _BODYLESS or (_is_good(status) and _asked_for_no_body(response)):
        return Reading(ok=True, status=status)
    if body is not _UNREAD:
        return _of_body(body, envelope)
    if not _is_good(status):
        return _failed(f"HTTP {status}", "", envelope)
    return Reading(ok=True, status=status) if _is_json(kind) else _wrong_type("", envelope)


def _of_exception(error: BaseException) -> Reading:
    response = attribute(error, "response")
    if response is not None and _is_response(response):
        return replace(_of_response(response), ok=False, error=_told(f"{type(error).__name__}: {error}"))
    asked_s = shapes.asked_wait_s(error, HOST.now())
    envelope = _Envelope(shapes.status_of(error), "", asked_s)
    return _failed(f"{type(error).__name__}: {error}", "", envelope)


def _of_body(body: str | bytes, envelope: _Envelope) -> Reading:
    if not body.strip():
        return _failed("the body is empty" if _is_good(envelope.status) else f"HTTP {envelope.status}", "", envelope)
    text = _text(body)
    if _is_good(envelope.status) and not _is_json(envelope.kind):
        return _wrong_type(text, envelope)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        if _is_good(envelope.status) and not _PAGE.match(text):
            return _failed(f"the JSON can't be read: {_first_line(text)}", text, envelope)
        return _failed(_headline(text) or f"HTTP {envelope.status}", text, envelope)
    return _of_data(data, envelope, text)


def _of_data(data: Any, envelope: _Envelope, text: str = "") -> Reading:
    wrong = "" if _is_good(envelope.status) else _words(data) or f"HTTP {envelope.status}"
    if not wrong and isinstance(data, Mapping):
        wrong = _refusal_in(data)
    if not wrong:
        return Reading(ok=True, data=data, status=envelope.status)
    asked_s = envelope.asked_s if envelope.asked_s is not None else _asked_in(data)
    return replace(_failed(wrong, text or str(data), replace(envelope, asked_s=asked_s)), data=data)


def _refusal_in(data: Mapping[Any, Any]) -> str:
    """Return what is wrong in a body that came as a success; "" where nothing is."""
    if data.get("ok") is False or data.get("success") is False:  # Slack; documents B, D and E
        return _words(data) or "the service says that it failed"
    if isinstance(data.get("errors"), list | tuple) and data["errors"] and data.get("data") is None:
        return _words(data["errors"]) or "the service reports errors"  # GraphQL without data; with data it is partial
    return ""


def _words(data: Any, depth: int = 0) -> str:
    """Return the service's own words for what is wrong."""
    if isinstance(data, str):
        return data.strip()
    if depth == _DEPTH_MAX:
        return ""
    if isinstance(data, list | tuple):
        return next(filter(None, (_words(one, depth + 1) for one in data[:10])), "")
    if isinstance(data, Mapping):
        return next(filter(None, (_words(data.get(name), depth + 1) for name in _SAYS_WHAT)), "")
    return ""


def _asked_in(data: Any) -> float | None:
    if not isinstance(data, Mapping):
        return None
    for holder in (data, data.get("error")):
        for name in _ASKS_FOR:
            wait_s = _seconds(holder.get(name)) if isinstance(holder, Mapping) else None
            if wait_s is not None:
                return wait_s
    return None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0.0 <= seconds < float("inf") else None


def _wrong_type(text: str, envelope: _Envelope) -> Reading:
    headline = f": {found}" if (found := _headline(text)) else ""
    return _failed(f"not JSON but {envelope.kind}{headline}", text, envelope)


def _failed(error: str, text: str, envelope: _Envelope) -> Reading:
    return Reading(
        ok=False,
        error=_told(error),
        status=envelope.status,
        excerpt=scrub(text)[:_EXCERPT_MAX],
        retry_after_s=envelope.asked_s,
    )


def _told(text: str) -> str:
    return scrub(text)[:_ERROR_MAX]


def _headline(text: str) -> str:
    """Return what a page says about itself, or a text's first line."""
    for pattern in _HEADLINES:
        match = pattern.search(text)
        words = " ".join(html.unescape(_TAG.sub(" ", match[1])).split()) if match else ""
        if words:
            return words
    return "" if _PAGE.match(text) else _first_line(text)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:_ERROR_MAX]


def _is_good(status: int | None) -> bool:
    return status is None or 200 <= status < 300


def _is_json(kind: str) -> bool:
    """Tell whether a media type is JSON; one that is not named is judged by the body."""
    return not kind or kind in ("application/json", "text/json") or kind.endswith("+json")


def _asked_for_no_body(response: object) -> bool:
    return "HEAD" in (attribute(response, "method"), attribute(attribute(response, "request"), "method"))


def _body_of(response: object) -> Any:
    """Return a body that is there already: reading one from here would take it from the caller."""
    if attribute(response, "_content_consumed") is False:  # requests with stream=True
        return _UNREAD
    for name in ("content", "_body", "body", "text"):  # `_body` is where aiohttp and urllib3 keep what was read
        body = attribute(response, name)
        if isinstance(body, str | bytes):
            return body
    return _UNREAD


def _text(body: str | bytes) -> str:
    return body[:_TEXT_MAX] if isinstance(body, str) else body[:_TEXT_MAX].decode("utf-8", "replace")
