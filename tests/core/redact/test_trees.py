"""Payloads, settings and headers: secrets go by the name they stand under, and no tree is followed for ever."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from prunella.core.redact import evidence_headers, has_marks, scrub_tree, shape

VALUE = "s3cr3tV4lue-9xQz"


def leaks(text: str, secret: str = VALUE) -> bool:
    """Tell whether eight characters in a row of `secret` survive in `text`."""
    return any(secret[at : at + 8] in text for at in range(len(secret) - 7))


def test_scrub_tree_replaces_values_under_denied_names() -> None:
    """Whatever stands under the name of a secret goes, whole trees included; the rest is scrubbed as text."""
    scrubbed = scrub_tree(
        {
            "user": "joe",
            "apiKey": 123456,
            "credentials": {"a": VALUE},
            "list": [{"x_secret_key": VALUE}, f"token={VALUE}"],
        }
    )
    assert scrubbed["user"] == "joe"
    assert not leaks(json.dumps(scrubbed))
    assert "123456" not in json.dumps(scrubbed)
    assert scrubbed["credentials"].startswith("[REDACTED:")


def test_scrub_tree_keeps_what_is_no_secret() -> None:
    """Empty values, flags, counters and plain values keep their types."""
    tree = {"token": None, "password": "", "pin": True, "max_tokens": 5, "price": 1.5, "list": [1, "two", None]}
    assert scrub_tree(tree) == tree


def test_scrub_tree_is_limited_in_depth_and_width() -> None:
    """A tree that is too deep or too wide is cut with a mark instead of being followed."""
    deep: Any = VALUE
    for _ in range(5000):
        deep = [deep]
    assert "[CUT:" in json.dumps(scrub_tree(deep))
    assert scrub_tree(list(range(1005)))[-1] == "[CUT:5]"
    assert len(scrub_tree({str(number): number for number in range(1005)})) == 1001


@pytest.mark.parametrize(
    "payload",
    [
        {"a": [{"b": "[REDACTED:named:ab12]"}]},
        "***",
        ["[Filtered]"],
        {"a": "<redacted>"},
        {"[REDACTED:url:0000]": 1},
        scrub_tree({"password": VALUE}),
        scrub_tree(list(range(2000))),
    ],
)
def test_has_marks_sees_that_something_was_taken_out(payload: Any) -> None:
    """A payload that anybody redacted or cut cannot be sent again, and says so."""
    assert has_marks(payload)


@pytest.mark.parametrize("payload", [None, 5, "secret santa", {"a": ["b", {"c": None}]}, "**bold**", "[removal]"])
def test_has_marks_passes_whole_payloads(payload: Any) -> None:
    """Ordinary payloads carry no marks."""
    assert not has_marks(payload)


def test_shape_shows_names_and_types_only() -> None:
    """The structure of a payload is there, its values are not, and a secret in a name goes, too."""
    payload = {
        "email": "joe@example.test",
        "lines": [{"qty": 1}, {"qty": 2}, "x"],
        "vip": True,
        "note": None,
        "sum": 1.5,
    }
    expected = {
        "email": "string",
        "lines": [{"qty": "integer"}, "string"],
        "vip": "boolean",
        "note": "null",
        "sum": "number",
    }
    assert shape(payload) == expected
    assert not leaks(json.dumps(shape({f"token={VALUE}": 1})))


def test_evidence_headers_keep_evidence_only() -> None:
    """Only headers that say something about a failure stay: lower-case, cut, scrubbed, the challenge readable."""
    challenge = 'Bearer realm="api", error="invalid_token", error_description="The token expired"'
    kept = evidence_headers(
        {
            "WWW-Authenticate": challenge,
            "Retry-After": "5",
            "X-RateLimit-Remaining": "0",
            "RateLimit": "r=0",
            "X-Request-Id": f"token={VALUE}",
            "CF-Ray": "x" * 2000,
            "Set-Cookie": "a=b",
            "Authorization": VALUE,
        }
    )
    assert kept.pop("www-authenticate") == challenge
    assert len(kept.pop("cf-ray")) <= 512
    assert not leaks(kept.pop("x-request-id"))
    assert kept == {"retry-after": "5", "x-ratelimit-remaining": "0", "ratelimit": "r=0"}


@pytest.mark.parametrize(
    "tree",
    [
        {"name": "DB_PASSWORD", "value": VALUE},
        [{"key": "api_key", "value": VALUE, "secure": True}],
        [("authorization", VALUE), ("accept", "*/*")],
        {"headers": [["x-api-key", VALUE]]},
        {"auths": {"registry.test": {"auth": "c3ZjOmExYjJjM2Q0ZTVmNmc3"}}},
    ],
)
def test_scrub_tree_reads_names_that_stand_beside_values(tree: Any) -> None:
    """Names and values in pairs or entries of their own, and names that only sometimes hold a secret."""
    scrubbed = json.dumps(scrub_tree(tree))
    assert not leaks(scrubbed)
    assert "c3ZjOmEx" not in scrubbed
    assert "[REDACTED:named:" in scrubbed


def test_scrub_tree_keeps_words_under_names_that_often_hold_some() -> None:
    """How somebody signs in is no secret, nor is what stands beside an ordinary name."""
    tree = {"auth": "basic", "pair": ["region", "eu"], "named": {"name": "region", "value": "eu"}}
    assert scrub_tree(tree) == tree


@pytest.mark.parametrize(
    "tree",
    [
        [[0] * 1000] * 300,
        ["a"] * 250_000,
        [{f"k{number}": 0 for number in range(1000)}] * 80,
        [[{f"k{number}": 0} for number in range(1000)]] * 80,
        ["x y=z token " * 1300] * 64,
    ],
    ids=["numbers", "strings", "names", "shapes", "texts"],
)
def test_large_trees_are_read_quickly(tree: Any) -> None:
    """A payload of 1 MB costs no more than 200 ms of processor time, whatever it is made of."""
    for read in (scrub_tree, shape, has_marks):
        started = time.thread_time()
        read(tree)
        assert time.thread_time() - started < 0.2


def test_scrub_tree_reads_so_much_text_and_says_where_it_stopped() -> None:
    """Text beyond 256 kB is left out with a mark, never passed on unread."""
    scrubbed = scrub_tree([f"token={VALUE} " + "x " * 8000] * 40)
    assert scrubbed[0].startswith("token=[REDACTED:")
    assert scrubbed[-1].startswith("[CUT:")
    assert not leaks(json.dumps(scrubbed))
