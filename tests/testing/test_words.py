"""Each word of a script arrives at a real client as what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import httpx2
import pytest

from prunella.testing import FaultyServer, words
from prunella.testing.words import Form, Word

MANGLED: dict[str, type[Exception] | tuple[type[Exception], ...]] = {
    "reset": httpx2.ReadError,
    "lost_reply": httpx2.ReadError,
    "cut": httpx2.RemoteProtocolError,
    "garbage": httpx2.RemoteProtocolError,
    "bad_gzip": httpx2.DecodingError,
}


@pytest.mark.parametrize("word", MANGLED)
def test_mangled_replies_raise_in_the_client(word: str, server: FaultyServer, client: httpx2.Client) -> None:
    """A reply that is no reply is an error of its own kind."""
    server.script("/x", [word, "ok"])
    with pytest.raises(MANGLED[word]):
        client.get("/x")
    assert client.get("/x").json() == {"ok": True}


def test_reset_is_a_true_reset(server: FaultyServer, client: httpx2.Client) -> None:
    """`reset` sends RST: the client sees ECONNRESET, not a polite end."""
    server.script("/x", ["reset"])
    with pytest.raises(httpx2.ReadError, match=r"\[Errno 104\]|reset"):
        client.post("/x", content=b"x")


@pytest.mark.parametrize("code", [200, 201, 204, 400, 404, 429, 500, 503, 599])
def test_status_arrives(code: int, server: FaultyServer, client: httpx2.Client) -> None:
    """A bare number is that status, in a script and in text."""
    server.script("/x", [code, str(code)])
    assert [client.get("/x").status_code, client.get("/x").status_code] == [code, code]


@pytest.mark.parametrize("word", ["empty", "wrong_type", "bad_json", "bad_utf8", words.html(), words.deep(100_000)])
def test_spoilt_bodies_are_not_json(word: Word | str, server: FaultyServer, client: httpx2.Client) -> None:
    """A 200 with a spoilt body is received whole and is no JSON to be had."""
    server.script("/x", [word])
    reply = client.get("/x")
    assert reply.status_code == 200
    with pytest.raises((ValueError, RecursionError)):
        json.loads(reply.content)


def test_html_is_a_page_with_its_title(server: FaultyServer, client: httpx2.Client) -> None:
    """`html` brings status, type and an escaped title."""
    server.script("/x", [words.html(502, "<Bad gateway>")])
    reply = client.get("/x")
    assert (reply.status_code, reply.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert "<title>&lt;Bad gateway&gt;</title>" in reply.text


def test_json_brings_status_body_and_headers(server: FaultyServer, client: httpx2.Client) -> None:
    """`json` sends what it is given."""
    server.script("/x", [words.json(409, {"code": "taken"}, {"X-Request-Id": "r1"})])
    reply = client.get("/x")
    assert (reply.status_code, reply.json(), reply.headers["x-request-id"]) == (409, {"code": "taken"}, "r1")


def test_redirect_points_elsewhere(server: FaultyServer, client: httpx2.Client) -> None:
    """`redirect` sends 302 and a Location."""
    server.script("/x", [words.redirect("http://127.0.0.2/canary")])
    reply = client.get("/x", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (302, "http://127.0.0.2/canary")


@pytest.mark.parametrize("size", [2, 1_000_001, 3_000_000])
def test_bomb_is_small_outside_and_large_inside(size: int, server: FaultyServer, client: httpx2.Client) -> None:
    """`bomb` unpacks to exactly its size, as valid JSON, from a fraction of it."""
    server.script("/x", [words.bomb(size)])
    reply = client.get("/x")
    assert len(reply.content) == size
    assert len(json.loads(reply.content)) == size - 2
    assert int(reply.headers["content-length"]) < 100 + size / 500


def test_hang_outlasts_a_timeout_and_ends_without_reply(server: FaultyServer, client: httpx2.Client) -> None:
    """`hang` is silent; who waits it out gets nothing."""
    server.script("/x", [words.hang(30), words.hang(0.05)])
    with pytest.raises(httpx2.ReadTimeout):
        client.get("/x", timeout=0.1)
    with pytest.raises(httpx2.RemoteProtocolError):
        client.get("/x")


def test_drip_outlasts_a_read_timeout(server: FaultyServer, client: httpx2.Client) -> None:
    """`drip` takes its time although no single read waits for long; the deed is done."""
    server.script("/x", [words.drip(0.6)])
    started_s = time.monotonic()
    reply = client.post("/x", timeout=0.4)
    assert time.monotonic() - started_s >= 0.55
    assert reply.json() == {"ok": True}
    assert server.ledger.effects == 1


def test_delayed_answers_late(server: FaultyServer, client: httpx2.Client) -> None:
    """`delayed` answers as the inner word does, only later."""
    server.script("/x", [words.delayed(0.1, 418)])
    started_s = time.monotonic()
    assert client.get("/x").status_code == 418
    assert time.monotonic() - started_s >= 0.1


def test_times_repeats_and_the_last_word_stays(server: FaultyServer, client: httpx2.Client) -> None:
    """A script plays its words in order; the last repeats."""
    server.script("/x", [words.times(2, 503), "ok", words.throttled(0)])
    assert [client.get("/x").status_code for _ in range(6)] == [503, 503, 200, 429, 429, 429]


READ_HINT: dict[Form, Callable[[httpx2.Headers], float]] = {
    "seconds": lambda headers: float(headers["retry-after"]),
    "date": lambda headers: parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(),
    "epoch": lambda headers: float(headers["x-ratelimit-reset"]) - time.time(),
    "delta": lambda headers: float(headers["ratelimit-reset"]),
    "ratelimit": lambda headers: float(headers["ratelimit"].rpartition("t=")[2]),
}


@pytest.mark.parametrize("form", READ_HINT)
def test_throttled_asks_for_the_wait_in_every_form(form: Form, server: FaultyServer, client: httpx2.Client) -> None:
    """Each form, read as its specification says, asks for the wait (dates in whole seconds, upward)."""
    server.script("/x", [words.throttled(7, form)])
    reply = client.get("/x")
    assert reply.status_code == 429
    assert 6.9 <= READ_HINT[form](reply.headers) <= 8


@pytest.mark.parametrize(
    ("form", "sent"), [("absurd", "31536000000"), ("negative", "-7"), ("junk", "soon"), ("past", "GMT"), ("none", "")]
)
def test_throttled_can_ask_for_nonsense(form: Form, sent: str, server: FaultyServer, client: httpx2.Client) -> None:
    """Nonsense is sent as it is, and nobody is blamed for not following it."""
    server.script("/x", [words.throttled(7, form, status=503)])
    replies = [client.get("/x"), client.get("/x")]
    assert replies[0].status_code == 503
    assert sent in replies[0].headers.get("retry-after", "")
    assert server.ledger.early == []


def test_unknown_word_is_refused_with_the_list() -> None:
    """A mistyped word is an error at once, naming what is allowed."""
    with pytest.raises(ValueError, match="'rest' is unknown; allowed: a status, ok, reset, cut"):
        words.parse("rest")


def test_empty_script_is_refused() -> None:
    """A script without words is a mistake."""
    with pytest.raises(ValueError, match="at least one word"):
        words.parse_script([])
