"""Answers are read whatever they are: never a raise, never a body that is not the promised one taken for good."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prunella as pr
from prunella.core.errors import BadResponse
from prunella.guard.response import Reading, json_response, read_response

JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html; charset=utf-8"}
TOKEN = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"


def answer(status: int = 200, body: bytes | str = b"{}", headers: dict[str, str] | None = None) -> httpx2.Response:
    """Return a response as a real client makes it."""
    content = body.encode() if isinstance(body, str) else body
    return httpx2.Response(status, content=content, headers=JSON if headers is None else headers)


# Good answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "data"),
    [
        (answer(200, '{"id": 7}'), {"id": 7}),
        (answer(201, "[1, 2]", {"content-type": "application/vnd.api+json; charset=utf-8"}), [1, 2]),
        (answer(200, b"\xef\xbb\xbf{}"), {}),
        (answer(200, "7", {}), 7),
        ({"ok": True}, {"ok": True}),
        ('{"a": null}', {"a": None}),
        (b"[]", []),
        (bytearray(b"true"), True),
        ([{"id": 1}], [{"id": 1}]),
        (7, 7),
    ],
)
def test_promised_json_is_good(result: object, data: object) -> None:
    """JSON of any media type that says so, with a byte order mark, without a type, as text, or parsed already."""
    reading = read_response(result)
    assert (reading.ok, reading.data, reading.error, reading.retry_after_s) == (True, data, "", None)
    json_response(result)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_no_body_where_none_belongs_is_good(status: int) -> None:
    """204, 205 and 304 have no body by definition (RFC 9110)."""
    assert read_response(answer(status, b"", {})) == Reading(ok=True, status=status)
    json_response(answer(status, b"", {}))


def test_head_has_no_body_to_judge() -> None:
    """An answer to HEAD names the type and the length of a body that never comes; an error status stays one."""
    head = httpx2.Request("HEAD", "http://crm.example/")
    assert read_response(httpx2.Response(200, headers=JSON, request=head)).ok
    assert not read_response(httpx2.Response(503, headers=JSON, request=head)).ok


def test_body_not_read_yet_is_left_to_the_caller() -> None:
    """A stream is judged by status and type alone; what it holds is still there afterwards."""
    stream = httpx2.Response(200, headers=JSON, stream=httpx2.ByteStream(b'{"torn": '))
    assert read_response(stream).ok
    assert stream.read() == b'{"torn": '
    page = httpx2.Response(200, headers=HTML, stream=httpx2.ByteStream(b"<html>"))
    assert read_response(page).error == "not JSON but text/html"
    down = httpx2.Response(503, headers=JSON, stream=httpx2.ByteStream(b"{}"))
    assert (read_response(down).ok, read_response(down).error) == (False, "HTTP 503")


def test_streaming_session_of_requests_is_not_drained() -> None:
    """requests reads the whole stream when `content` is touched; it is not touched before the caller did."""

    class Streaming:
        status_code = 200
        headers = JSON
        _content_consumed = False

        drained = False

        @property
        def content(self) -> bytes:
            self.drained = True
            return b"{}"

    streaming = Streaming()
    assert read_response(streaming).ok
    assert not streaming.drained


def test_body_that_aiohttp_has_read_is_judged() -> None:
    """aiohttp keeps what was read in `_body`; its `content` is a stream and its `text` a function."""

    class Read:
        status = 200
        headers = JSON
        content = object()
        _body = b'{"torn": '

        def text(self) -> None:
            raise AssertionError("not to be called")

    assert not read_response(Read()).ok


# Failures, in the service's own words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        ('{"error": "no such contact"}', JSON, "no such contact"),
        ('{"message": "slow down"}', JSON, "slow down"),
        ('{"error": {"code": 7, "message": "nested"}}', JSON, "nested"),
        ('{"errors": [{"detail": "in a list"}]}', JSON, "in a list"),
        ('{"error": null, "message": "second"}', JSON, "second"),
        ('{"error": "", "detail": "third"}', JSON, "third"),
        ('{"title": "Not Found", "status": 404}', {"content-type": "application/problem+json"}, "Not Found"),
        ('{"code": 7}', JSON, "HTTP 500"),
        ('{"torn": ', JSON, '{"torn":'),
        ("<html><title>Bad &amp; gone</title></html>", HTML, "Bad & gone"),
        ("<html><title> </title><h1>No <b>way</b></h1></html>", HTML, "No way"),
        ("<!DOCTYPE html><body>Error: disk full\nmore</body>", HTML, "disk full"),
        ("<html><body>nothing is said</body></html>", HTML, "HTTP 500"),
        ("\n upstream connect error\nsecond line", {"content-type": "text/plain"}, "upstream connect error"),
        ("", JSON, "HTTP 500"),
    ],
)
def test_error_is_told_in_the_services_words(body: str, headers: dict[str, str], error: str) -> None:
    """JSON `error` or `message` (nested too), an HTML title, a headline, `Error: …`, a first line, or the status."""
    reading = read_response(answer(500, body, headers))
    assert (reading.ok, reading.error, reading.status) == (False, error, 500)
    assert body.startswith(reading.excerpt.rstrip("�")) or reading.excerpt == ""


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (answer(200, "<title>Sign in</title>", HTML), "not JSON but text/html: Sign in"),
        (
            answer(200, "everything is fine", {"content-type": "text/plain"}),
            "not JSON but text/plain: everything is fine",
        ),
        (answer(200, '{"ok": 1}', {"content-type": "text/plain"}), 'not JSON but text/plain: {"ok": 1}'),
        (answer(200, '{"ok": tru'), 'the JSON can\'t be read: {"ok": tru'),
        (answer(200, b'{"a": "\xff\xfe"}'), "the JSON can't be read"),
        (answer(200, b""), "the body is empty"),
        (answer(200, b"  \n"), "the body is empty"),
        (answer(302, b"", {"location": "/login"}), "HTTP 302"),
        (answer(200, '{"ok": false, "error": "invalid_auth"}'), "invalid_auth"),
        ({"ok": False, "error": "channel_not_found"}, "channel_not_found"),
        ({"success": False}, "the service says that it failed"),
        (answer(200, '{"data": null, "errors": [{"message": "no field x"}]}'), "no field x"),
        ({"errors": [{"extensions": {"code": 1}}]}, "the service reports errors"),
        ("<html><title>Sign in</title></html>", "Sign in"),
        ("", "the body is empty"),
        (None, "nothing came back"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_success_that_is_none_is_a_failure(result: object, error: str) -> None:
    """A 200 with a page, another type, torn or no JSON, Slack's `ok: false`, GraphQL errors without data."""
    reading = read_response(result)
    assert not reading.ok
    assert reading.error.startswith(error)
    with pytest.raises(BadResponse) as caught:
        json_response(result)
    assert str(caught.value) == reading.error


def test_graphql_errors_beside_data_are_partial() -> None:
    """A partial answer is still an answer (GraphQL specification, section 7.1)."""
    partial = {"data": {"user": None}, "errors": [{"message": "no access"}]}
    assert read_response(partial).ok


def test_exception_with_a_response_is_read_like_one() -> None:
    """`raise_for_status` of a client hands over status, waits and words."""
    request = httpx2.Request("GET", "http://crm.example/")
    response = httpx2.Response(503, headers={"retry-after": "7"}, content=b"busy", request=request)
    reading = read_response(httpx2.HTTPStatusError("down", request=request, response=response))
    assert (reading.ok, reading.status, reading.retry_after_s, reading.excerpt) == (False, 503, 7.0, "busy")
    assert reading.error == "HTTPStatusError: down"


# Waits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        ("{}", {"retry-after": "7"}, 7.0),
        ("{}", {"retry-after-ms": "250"}, 0.25),
        ('{"retryAfter": 30}', {}, 30.0),
        ('{"retry_after": "1.5"}', {}, 1.5),
        ('{"error": {"retry_after": 4}}', {}, 4.0),
        ('{"retry_after": 4}', {"retry-after": "9"}, 9.0),
    ],
)
def test_wait_is_read_from_header_or_body(body: str, headers: dict[str, str], wait_s: float) -> None:
    """The header counts first; both reach the exception."""
    result = answer(429, body, {**JSON, **headers})
    assert read_response(result).retry_after_s == wait_s
    with pytest.raises(BadResponse) as caught:
        json_response(result)
    assert (caught.value.retry_after_s, caught.value.status) == (wait_s, 429)


@pytest.mark.parametrize("body", ["{}", '{"retryAfter": true}', '{"retryAfter": -1}', '{"retry_after": "soon"}',
                                  '{"retry_after": 1e999}', '{"retry_after": NaN}', '{"retry_after": []}'])  # fmt: skip
def test_unasked_wait_is_two_seconds_and_never_passed_off_as_asked(body: str) -> None:
    """Document E's default is for the reader; a guard hears of a wait only where the service asked for one."""
    result = answer(503, body)
    assert read_response(result).retry_after_s == 2.0
    with pytest.raises(BadResponse) as caught:
        json_response(result)
    assert caught.value.retry_after_s is None


# What is kept ---------------------------------------------------------------------------------------------------------


def test_excerpt_is_the_first_200_characters_without_secrets() -> None:
    """The beginning is kept for a look, secrets are not; neither is the rest of the body."""
    body = f"token={TOKEN} " + "x" * 500 + "the end"
    reading = read_response(answer(500, body, {"content-type": "text/plain"}))
    assert len(reading.excerpt) == 200
    assert len(reading.error) <= 200
    assert TOKEN not in reading.excerpt + reading.error
    assert "REDACTED" in reading.excerpt
    with pytest.raises(BadResponse) as caught:
        json_response(answer(500, body, {"content-type": "text/plain"}))
    assert TOKEN not in f"{caught.value} {caught.value.excerpt}"


def test_secret_across_the_200th_character_is_taken_out() -> None:
    """It is scrubbed before it is cut: half a secret would not be known for one."""
    reading = read_response(answer(500, "x" * 180 + " " + TOKEN, {"content-type": "text/plain"}))
    assert TOKEN[:10] not in reading.excerpt


def test_reading_does_not_print_data() -> None:
    """What a service sent stays out of logs that print the reading."""
    assert "4711" not in repr(read_response({"ok": True, "pin": 4711}))


# Never a raise --------------------------------------------------------------------------------------------------------


class Hostile:
    """Answers every question with an error."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is not for you")


class HostileMapping(dict[str, object]):
    """A mapping that can't be asked."""

    def get(self, *args: object) -> Any:
        raise RuntimeError("no")


def hostile_response() -> object:
    """Return a response whose every part raises but its status."""

    class Response:
        status_code = 200

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        @property
        def headers(self) -> Any:
            return Hostile()

        @property
        def content(self) -> bytes:
            raise OSError("torn")

    return Response()


DEEP = "[" * 200_000


HOSTILE: list[Callable[[], object]] = [
    Hostile,
    HostileMapping,
    hostile_response,
    lambda: DEEP,
    DEEP.encode,
    lambda: answer(200, DEEP),
    lambda: answer(500, DEEP),
    lambda: '{"n": ' + "9" * 5000 + "}",
]


def test_body_deeper_than_the_stack_is_torn_json() -> None:
    """It is told as what it is, with its beginning."""
    reading = read_response(answer(200, DEEP))
    assert reading.error.startswith("the JSON can't be read: [[[")
    assert reading.excerpt == "[" * 200


@pytest.mark.parametrize("make", HOSTILE)
def test_nothing_makes_it_raise(make: Callable[[], object]) -> None:
    """Objects that raise on every touch, bodies deeper than the interpreter's stack, numbers too long to read."""
    assert type(read_response(make())) is Reading


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "errors", "data", "ok"]), inner)
    ),
)


@given(
    status=st.integers(100, 599),
    body=st.binary() | st.text().map(str.encode) | _json.map(lambda data: json.dumps(data).encode()),
    kind=st.sampled_from(["application/json", "text/html", "", ";", "a/b+json"]),
    wait=st.text("0123456789.-e,GMT ", max_size=12),
)
def test_any_answer_is_read(status: int, body: bytes, kind: str, wait: str) -> None:
    """Any status, body, type and wait: a reading comes back, bounded, and the validator agrees with it."""
    response = httpx2.Response(status, content=body, headers={"content-type": kind, "retry-after": wait})
    reading = read_response(response)
    assert len(reading.excerpt) <= 200
    assert len(reading.error) <= 200
    assert reading.ok is (reading.error == "")
    assert (reading.retry_after_s is None) is reading.ok
    with contextlib.nullcontext() if reading.ok else pytest.raises(BadResponse):
        json_response(response)


@given(st.one_of(_json, st.binary(), st.text()))
def test_any_value_is_read(value: object) -> None:
    """What functions return that were promised to return JSON: anything."""
    assert isinstance(read_response(value), Reading)


# In a policy ----------------------------------------------------------------------------------------------------------


def test_policy_repeats_an_answer_that_is_no_json() -> None:
    """The validator makes a failure of a page, and the next answer is taken."""
    answers = [answer(200, "<title>Sign in</title>", HTML), answer(200, '{"id": 1}')]
    crm = pr.policy("crm", retry=pr.Retry(attempts=2, base_s=0), validate=json_response)
    assert crm.call(lambda: answers.pop(0)).json() == {"id": 1}


def test_page_in_a_200_counts_against_the_service() -> None:
    """A breaker sees what a status hides: a 200 with a page in it is no success."""
    crm = pr.policy("crm", breaker=pr.Breaker(failures=2), validate=json_response)
    for _ in range(2):
        with pytest.raises(BadResponse):
            crm.call(lambda: answer(200, "<title>Sign in</title>", HTML))
    assert crm.breaker.state.value == "open"
