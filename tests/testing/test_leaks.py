"""A secret is found in every spelling and nothing else is."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.testing import FaultyServer, find_secrets

SECRET = "sk/live+7Hq ?ÿ~~"

secrets = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=6, max_size=40)


@given(secrets, st.binary(max_size=9), st.binary(max_size=9))
def test_base64_is_found_at_every_offset(secret: str, before: bytes, after: bytes) -> None:
    """Whatever stands before and behind it in the blob, in both alphabets."""
    blob = before + secret.encode() + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert "base64" in {leak.spelling for leak in find_secrets(b"x=" + encode(blob), [secret])}


@given(secrets, st.text(max_size=9), st.text(max_size=9))
def test_plain_and_hex_are_found(secret: str, before: str, after: str) -> None:
    """As text, in a JSON string, and as hex in either case."""
    assert "plain" in {leak.spelling for leak in find_secrets(before + secret + after, [secret])}
    assert "plain" in {leak.spelling for leak in find_secrets(json.dumps({"key": secret}), [secret])}
    assert "hex" in {leak.spelling for leak in find_secrets("a" + secret.encode().hex().upper(), [secret])}


@pytest.mark.parametrize(
    "text",
    [
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower().replace("7hq", "7Hq"),
        quote(SECRET, safe="/ +").replace(" ", "%20"),
        quote(quote(SECRET, safe=""), safe=""),
        "".join(f"%{byte:02x}" for byte in SECRET.encode()),
    ],
)
def test_percent_encoding_is_found_however_much_is_encoded(text: str) -> None:
    """All, some, in lower case or twice."""
    assert [leak.spelling for leak in find_secrets(f"?token={text}&x=1", [SECRET])] == ["percent"]


def test_form_encoding_is_found() -> None:
    """A form spells a blank as a plus."""
    assert [leak.spelling for leak in find_secrets("t=my+secret+words", ["my secret words"])] == ["percent"]


def test_base64_is_found_in_json_and_urls() -> None:
    """Escaped slashes and percent-encoded padding hide nothing."""
    blob = base64.b64encode(b"user:" + SECRET.encode()).decode()
    assert "/" in blob or "+" in blob
    assert find_secrets(json.dumps({"k": blob}).replace("/", "\\/"), [SECRET])
    assert find_secrets(f"?k={quote(blob, safe='')}", [SECRET])


@given(st.binary(max_size=300))
def test_other_text_is_no_leak(text: bytes) -> None:
    """What does not hold the secret is not accused."""
    assert find_secrets(text, ["Vq8-unlikely-9f3K"]) == []


def test_a_leak_does_not_leak() -> None:
    """A finding names the place and the spelling, not the secret."""
    leak = find_secrets(f"log line with {SECRET}", [SECRET], where="server.log")[0]
    assert (leak.where, leak.spelling) == ("server.log", "plain")
    assert SECRET not in repr(leak)


def test_short_secrets_are_refused() -> None:
    """Too short to search for without false alarms: said, not skipped."""
    with pytest.raises(ValueError, match="of 3 characters"):
        find_secrets("text", ["abc"])


@pytest.mark.parametrize("place", ["path", "query", "header x-debug", "body"])
def test_server_finds_leaks_wherever_they_arrive(place: str, server: FaultyServer) -> None:
    """A careless client is caught at each place of a request."""
    secret = "canary-1234567"
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        client.post(
            f"/a/{secret}" if place == "path" else "/a",
            params={"t": secret} if place == "query" else {},
            headers={"X-Debug": secret} if place == "header x-debug" else {},
            content=secret if place == "body" else "",
        )
    assert [leak.where.rpartition(": ")[2] for leak in server.leaks([secret])] == [place]
