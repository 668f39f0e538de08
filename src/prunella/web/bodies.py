"""How bodies are read: JSON objects in UTF-8, each name once, not nested without end, and text that can be stored."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi import Request

from prunella.web.problems import Problem

DEPTH_MAX = 128
"""Far deeper than people mean; guards hand over arguments of a hundred levels (guard/durable.py)."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_OPENS = ord("(")
_ROUND = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_KINDS = ("application/json", "text/json")


class _Twice(ValueError):
    """A name stands twice in an object; readers disagree which one counts (RFC 8259 section 4)."""


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object; an empty body is an empty object."""
    raw = await request.body()
    if not raw.strip():
        return {}
    _must_be_plain(request.headers.get("content-encoding", ""))
    _must_be_json(request.headers.get("content-type", ""))
    body = loaded(raw)
    if not isinstance(body, dict):
        raise Problem(422, "The body must be a JSON object", errors=[{"pointer": "", "detail": "an object is needed"}])
    if _ESCAPED.search(raw):
        _must_be_storable(body)
    return body


def _must_be_json(said: str) -> None:
    """Refuse what says that it is something else; who says nothing is believed."""
    kind, _, options = said.lower().partition(";")
    kind = kind.strip()
    if kind and kind not in _KINDS and not (kind.startswith("application/") and kind.endswith("+json")):
        words = f"got {kind[:100]!r}; send application/json"
        raise Problem(415, "The body must be JSON", words, headers={"accept": "application/json"})
    charset = dict(part.strip().split("=", 1) for part in options.split(";") if "=" in part).get("charset", "utf-8")
    if charset.strip('" ') not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(415, "The body must be UTF-8", f"got charset {charset[:50]!r}; JSON is UTF-8 (RFC 8259)")


def _must_be_plain(said: str) -> None:
    """Refuse what is packed: a stranger's kilobyte may unpack to a gigabyte (RFC 9110 section 8.4)."""
    if said.strip().lower() not in ("", "identity"):
        words = f"got content-encoding {said[:50]!r}; send it as it is"
        raise Problem(415, "The body must not be packed", words, headers={"accept-encoding": "identity"})


def loaded(raw: bytes) -> Any:
    """Read any JSON, in the one way that it can be understood, or answer 400."""
    if _depth(raw) > DEPTH_MAX:
        raise Problem(400, "The body is no JSON", f"it is nested too deeply; at most {DEPTH_MAX} levels are taken")
    try:
        return json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refused)
    except _Twice as error:
        raise Problem(400, "The body is no JSON", f"the name {str(error)[:100]!r} stands twice in one object") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise Problem(400, "The body is no JSON", where) from None
    except UnicodeDecodeError:
        raise Problem(400, "The body is no JSON", "it is not UTF-8") from None
    except ValueError as error:  # a number with thousands of digits, or none at all
        raise Problem(400, "The body is no JSON", str(error)[:200]) from None


def mended(raw: bytes) -> Any:
    """Read any JSON of somebody who cuts texts without looking: half of a character becomes a question mark."""
    body = loaded(raw)
    if not _ESCAPED.search(raw):
        return body
    return json.loads(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))


def _depth(raw: bytes) -> int:
    """Return how deeply a text of JSON is nested, without parsing it; nothing is looked at behind what is too deep."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return 0
    depth = deepest = 0
    for sign in _STRING.sub(b"", raw).translate(_ROUND, _NO_BRACKETS):
        depth += 1 if sign == _OPENS else -1
        deepest = max(deepest, depth)
        if depth > DEPTH_MAX:
            break
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _must_be_storable(body: object) -> None:
    """Refuse half of a character, which no text can hold; null characters are left to who takes them."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Problem(422, "No text may hold half a character", "send \\ud800 to \\udfff in pairs only") from None
