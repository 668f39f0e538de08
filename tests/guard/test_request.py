"""A request is read before it is sent, in every form that clients take, and never used up."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from prunella.guard.request import key_of, reads_twice, shorter

KEY = {"Idempotency-Key": "order-7"}


@pytest.mark.parametrize("headers", [KEY, {b"idempotency-key": b"order-7"}, list(KEY.items()), httpx2.Headers(KEY)])
def test_key_is_found_in_any_spelling(headers: Any) -> None:
    """Mappings and pairs, texts and bytes, upper and lower case."""
    assert key_of(headers) == "order-7"


@pytest.mark.parametrize("headers", [None, {}, [], {"Idempotency-Key": ""}, {"X-Request-ID": "order-7"}, "text"])
def test_no_key_is_none(headers: Any) -> None:
    """An empty one makes nothing repeatable either."""
    assert key_of(headers) is None


class Upload:
    """A body that is not known to be readable twice."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"rows"


@pytest.mark.parametrize(
    "body", [None, "text", b"rows", {"rows": 2}, {"rows": ("rows.csv", b"1,2")}, [("kind", "csv")]]
)
def test_body_in_memory_reads_twice(body: Any) -> None:
    """Texts, bytes and numbers are the same each time, also within fields and files."""
    assert reads_twice(body)


@pytest.mark.parametrize("once", [iter([b"rows"]), io.BytesIO(b"rows"), Upload()])
def test_body_that_is_used_up_reads_once(once: Any) -> None:
    """Generators, files and what nobody knows; wherever they are hidden."""
    assert not any(map(reads_twice, (once, {"rows": once}, [("rows", ("rows.csv", once))])))


class Total:
    """A timeout as aiohttp's ClientTimeout is shaped."""

    def __init__(self, total: float | None = None, connect: float | None = None) -> None:
        self.total = total
        self.connect = connect


def test_shorter_of_two_times_is_taken() -> None:
    """Whatever form the client's timeouts have, no part of them is longer than what is left; shorter ones stay."""
    assert [shorter(given, 9, 3.0) for given in (1, 9, None, (1, 30))] == [1, 3.0, 3.0, (1, 3.0)]
    parts = shorter(httpx2.Timeout(30, connect=1), None, 3.0)
    assert isinstance(parts, httpx2.Timeout)
    assert (parts.connect, parts.read) == (1, 3.0)
    assert [shorter(Total(total, 1.0), None, 3.0).total for total in (300.0, None, 2.0)] == [3.0, 3.0, 2.0]
    assert shorter(Total(300.0, 1.0), None, 3.0).connect == 1.0


def test_sign_for_the_clients_own_time_is_read_as_that() -> None:
    """httpx's USE_CLIENT_DEFAULT and the like; where that can't be read either, what is left is taken."""
    assert shorter(httpx2.USE_CLIENT_DEFAULT, httpx2.Timeout(2), 3.0).read == 2
    assert shorter(object(), object(), 3.0) == 3.0
    own = object()
    assert shorter(own, own, 3.0) == 3.0


def test_no_time_is_told_as_hardly_any() -> None:
    """requests takes 0 for a mistake."""
    assert shorter(None, None, 0.0) > 0.0
