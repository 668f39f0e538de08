"""The words of a script: what one request gets from a FaultyServer.

A word only describes; `wire` sends it. A word that is no success leaves the world as it was, however the reply looks:
wrap it in `after_effect` where the deed is to be done and only the reply goes wrong.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import lru_cache
from html import escape
from http.client import responses
from json import dumps
from typing import Literal

JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and body; Content-Length is added when it is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Put `body` into a JSON reply."""
    return Reply(status, {"Content-Type": JSON, **(headers or {})}, dumps(body).encode())


Form = Literal["seconds", "date", "epoch", "delta", "ratelimit", "none", "absurd", "negative", "past", "junk"]


@dataclass(frozen=True, slots=True)
class Hint:
    """How a reply asks for a wait, and how long that wait really is (None: it asks for nothing usable)."""

    form: Form
    seconds: float

    def headers(self, now_epoch_s: float) -> dict[str, str]:
        """Spell the wait out; a date and an epoch are whole seconds, rounded up."""
        until = math.ceil(now_epoch_s + self.seconds)
        spent = {"X-RateLimit-Remaining": "0"}
        spelling: dict[Form, dict[str, str]] = {
            "seconds": {"Retry-After": f"{self.seconds:g}"},  # RFC 9110 section 10.2.3
            "date": {"Retry-After": formatdate(until, usegmt=True)},
            "epoch": {"X-RateLimit-Reset": str(until), **spent},
            "delta": {"RateLimit-Reset": f"{self.seconds:g}", "RateLimit-Remaining": "0"},
            "ratelimit": {"RateLimit": f'"default";r=0;t={self.seconds:g}'},  # draft-ietf-httpapi-ratelimit-headers
            "none": {},
            "absurd": {"Retry-After": "31536000000"},
            "negative": {"Retry-After": "-7"},
            "past": {"Retry-After": formatdate(now_epoch_s - 3600, usegmt=True)},
            "junk": {"Retry-After": "soon"},
        }
        return spelling[self.form]

    def wait_s(self, now_epoch_s: float) -> float | None:
        """Return how long a careful client waits from now, None where the hint cannot be followed."""
        if self.form in ("date", "epoch"):
            return math.ceil(now_epoch_s + self.seconds) - now_epoch_s
        return self.seconds if self.form in ("seconds", "delta", "ratelimit") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What one request gets.

    Args:
        reply: what is sent; None sends the place's own answer (the API's, the token endpoint's ...).
        effect: `none` leaves the world as it was; `told` does the deed and `reply` says so; `hidden` does the deed
            and `reply` is something else.
        delivery: how the reply travels. `silent` and `reset` bring none at all, `raw` is the body without HTTP.
        wait_s: seconds of silence before the reply.
        over_s: seconds over which a `drip` is spread.
    """

    name: str
    reply: Reply | None = None
    effect: Literal["none", "told", "hidden"] = "none"
    delivery: Literal["whole", "cut", "drip", "reset", "silent", "raw"] = "whole"
    wait_s: float = 0.0
    over_s: float = 0.0
    hint: Hint | None = None


_TRUE = json_reply(200, {"ok": True})

ok = Word(name="ok", effect="told")
"""The deed is done and the place says so."""
reset = Word(name="reset", delivery="reset")
"""The connection is reset (RST) without a reply."""
cut = Word(name="cut", reply=_TRUE, delivery="cut")
"""Half of the promised body, then the connection closes."""
empty = Word(name="empty", reply=Reply(200, {"Content-Type": JSON}))
"""200 without a body."""
wrong_type = Word(name="wrong_type", reply=Reply(200, {"Content-Type": "text/plain"}, b"everything is fine"))
"""200 with text where JSON was expected."""
bad_json = Word(name="bad_json", reply=Reply(200, {"Content-Type": JSON}, b'{"ok": tru'))
"""200 with JSON that breaks off."""
bad_utf8 = Word(name="bad_utf8", reply=Reply(200, {"Content-Type": JSON}, b'{"ok": "\xff\xfe"}'))
"""200 with bytes that are no UTF-8."""
bad_gzip = Word(name="bad_gzip", reply=Reply(200, {"Content-Type": JSON, "Content-Encoding": "gzip"}, b"no gzip"))
"""200 that says gzip and is not."""
garbage = Word(name="garbage", reply=Reply(200, {}, b"\x16\x03\x01 this is no HTTP\r\n\r\n"), delivery="raw")
"""Bytes that are no HTTP."""
lost_reply = Word(name="lost_reply", effect="hidden", delivery="reset")
"""The deed is done, then the connection is reset: what separates exactly-once from luck."""
teams_trap = Word(
    name="teams_trap",
    reply=Reply(200, {"Content-Type": "text/plain"}, b"Webhook message delivery failed with error: HTTP error 429"),
)
"""200 whose text says that nothing was delivered, as Teams connectors do."""

_BY_NAME = {
    word.name: word
    for word in (
        ok, reset, cut, empty, wrong_type, bad_json, bad_utf8, bad_gzip, garbage, lost_reply, teams_trap
    )
}  # fmt: skip


def status(code: int) -> Word:
    """Answer with a bare status; 2xx does the deed."""
    if 200 <= code < 300:
        return json(code, {"ok": True})
    return json(code, {"error": {"status": code, "message": responses.get(code, "Unknown")}})


def json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Word:
    """Answer with this JSON; 2xx does the deed."""
    effect: Literal["told", "none"] = "told" if 200 <= status < 300 else "none"
    return Word(name=f"json({status})", reply=json_reply(status, body, headers), effect=effect)


def html(status: int = 200, title: str = "Sign in") -> Word:
    """Answer with an HTML page: the sign-in or maintenance page of whoever stands in front of the API."""
    page = (
        f"<!doctype html><html><head><title>{escape(title)}</title></head><body><h1>{escape(title)}</h1></body></html>"
    )
    return Word(name=f"html({status})", reply=Reply(status, {"Content-Type": HTML}, page.encode()))


def throttled(seconds: float = 0.0, form: Form = "seconds", *, status: int = 429) -> Word:
    """Ask for a wait of `seconds`.

    Args:
        seconds: fractions are sent as they are; RFC 9110 wants whole seconds, not every API cares.
        form: how it is asked for. `seconds`, `date`: Retry-After; `epoch`: X-RateLimit-Reset; `delta`:
            RateLimit-Reset; `ratelimit`: the RateLimit field of the IETF draft. `none`, `absurd` (a thousand years),
            `negative`, `past` and `junk` ask for nothing that can be followed; `seconds` then has no meaning.
        status: 429, or 503 for a service that is down for that long.
    """
    reply = json_reply(status, {"error": {"status": status, "message": "slow down"}})
    return Word(name=f"throttled({seconds:g}, {form})", reply=reply, hint=Hint(form, seconds))


def hang(seconds: float) -> Word:
    """Say nothing for `seconds`, then close."""
    return Word(name=f"hang({seconds:g})", delivery="silent", wait_s=seconds)


def delayed(seconds: float, word: Word | str | int = ok) -> Word:
    """Do as `word` says, with the reply `seconds` late."""
    inner = parse(word)
    return replace(inner, name=f"delayed({seconds:g}, {inner.name})", wait_s=seconds)


def drip(seconds: float) -> Word:
    """Do the deed and send the answer bit by bit over `seconds`, never silent for long."""
    return Word(name=f"drip({seconds:g})", effect="told", delivery="drip", over_s=seconds)


def redirect(url: str, status: int = 302) -> Word:
    """Send the client elsewhere."""
    return Word(name=f"redirect({url})", reply=Reply(status, {"Location": url}))


def deep(levels: int = 100_000) -> Word:
    """Answer 200 with arrays nested `levels` deep."""
    return Word(name=f"deep({levels})", reply=Reply(200, {"Content-Type": JSON}, b"[" * levels + b"]" * levels))


def bomb(bytes_unpacked: int = 200_000_000) -> Word:
    """Answer 200 with a JSON string of this size, about a thousand times smaller on the wire (gzip)."""
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    return Word(name=f"bomb({bytes_unpacked})", reply=Reply(200, headers, _packed(bytes_unpacked)))


@lru_cache(maxsize=4)
def _packed(bytes_unpacked: int) -> bytes:
    gzip = zlib.compressobj(level=9, wbits=31)
    block = b"0" * 1_000_000
    middle = max(bytes_unpacked - 2, 0)
    parts = [gzip.compress(b'"')]
    parts += [gzip.compress(block) for _ in range(middle // len(block))]
    parts += [gzip.compress(block[: middle % len(block)] + b'"'), gzip.flush()]
    return b"".join(parts)


def after_effect(word: Word | str | int) -> Word:
    """Do the deed, then answer as `word` says: the client cannot know that it worked."""
    inner = parse(word)
    return replace(inner, name=f"after_effect({inner.name})", effect="hidden")


def times(count: int, word: Word | str | int) -> list[Word]:
    """Repeat `word` in a script."""
    return [parse(word)] * count


def parse(word: Word | str | int) -> Word:
    """Turn the short spellings (`503`, `"ok"`, `"reset"`) into words."""
    if isinstance(word, Word):
        return word
    if isinstance(word, int):
        return status(word)
    if word.isdecimal():
        return status(int(word))
    if word not in _BY_NAME:
        raise ValueError(f"script word {word!r} is unknown; allowed: a status, {', '.join(_BY_NAME)}, or a Word")
    return _BY_NAME[word]


Script = Iterable["Word | str | int | list[Word]"]


def parse_script(words: Script) -> list[Word]:
    """Flatten a script into its words; the last one repeats for ever, so there must be one."""
    flat = [parse(inner) for word in words for inner in (word if isinstance(word, list) else [word])]
    if not flat:
        raise ValueError("a script needs at least one word; use ['ok'] for a server that just works")
    return flat
