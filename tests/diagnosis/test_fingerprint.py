"""Two occurrences of one problem share a fingerprint, two problems never do."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.records import Failure
from prunella.diagnosis import classify, fingerprint, mask, operation_of


def print_of(**fields: Any) -> str:
    """Fingerprint a failure of an invented service."""
    failure = Failure(**{"service": "acme", "operation": "POST /orders", "message": "Order was refused", **fields})
    return fingerprint(failure, classify(failure))


def test_fingerprint_names_its_algorithm() -> None:
    """The version stands in front of 16 bytes in hexadecimal."""
    version, _, digest = print_of().partition(":")
    assert version == "1"
    assert len(bytes.fromhex(digest)) == 16


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 5521 failed", "order 77 failed"),
        ("order ORD-5521 failed", "order ORD-77 failed"),
        ("customer cus_9s6XKz not there", "customer cus_1abQ not there"),
        ("took 30 s", "took 2.5 s"),
        ("took 1200ms", "took 15ms"),
        ("at 2026-03-01T10:00:00Z", "at 2026-04-12T23:59:59.123+02:00"),
        ("at 01/03/2026 10:00", "at 31/12/2025 23:59"),
        ("on Sun, 06 Nov 1994 08:49:37 GMT", "on Mon, 07 Nov 1994 18:00:00 GMT"),
        ("amount 12.50 EUR", "amount 1,200.00 EUR"),
        ("share 5% of it", "share 17.5% of it"),
        ("to 10.0.0.1:443", "to 192.168.7.9:8443"),
        ("to fe80::1ff:fe23:4567:890a", "to 2001:db8::1"),
        ("resolve api.acme.test", "resolve db-7.eu.acme.test"),
        ("call https://a.test/x?y=1", "call https://b.test/z/5"),
        ("mail bob@acme.test bounced", "mail alice.x@mail.test bounced"),
        ("id 8f14e45f-ceea-467f-a0e6-1234567890ab", "id 00000000-ceea-467f-a0e6-ffffffffffff"),
        ("object at 0x7f3a2b", "object at 0x1c"),
        ("hash 9b2e3f4a1c", "hash 00ff00ff00"),
        ('product "Blue Shoe 12" unknown', 'product "Red Hat" unknown'),
        ("first  line\nsecond 1", "first line second 2"),
        ("token=abcdef123456 refused", "token=zzzzzz999999 refused"),
    ],
)
def test_fingerprint_is_shared_where_only_values_differ(one: str, other: str) -> None:
    """Ids, times, amounts, hosts and secrets do not tell problems apart."""
    assert print_of(message=one) == print_of(message=other)


@pytest.mark.parametrize(
    "fields",
    [
        {"service": "other"},
        {"operation": "GET /orders"},
        {"status": 503},
        {"code": "E7"},
        {"exc_type": "ValueError"},
        {"message": "Order was accepted"},
    ],
)
def test_fingerprint_differs_with_each_part(fields: dict[str, Any]) -> None:
    """Service, operation, kind, code, exception class and words each tell problems apart."""
    assert print_of(**fields) != print_of()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('null value in column "sku"', 'null value in column "price"'),
        ("HTTP 503 from upstream", "HTTP 404 from upstream"),
        ("status code 401", "status code 500"),
        ("not valid utf-8", "not valid base64"),
        ('{"error":"channel_not_found"}', '{"error":"user_not_found"}'),
        ('{"message": "Name is taken"}', '{"message": "Name is blank"}'),
    ],
)
def test_mask_keeps_words_that_matter(one: str, other: str) -> None:
    """Names of columns, statuses, codecs and the prose inside JSON stay apart."""
    assert mask(one) != mask(other)


def test_mask_shows_what_it_replaced() -> None:
    """The masked message reads as a template."""
    text = "order ORD-1 of bob@x.test at 10.0.0.1 took 30 ms on 2026-03-01, 5 left"
    assert mask(text) == "order <id> of <email> at <ip> took <duration> on <time>, <number> left"


def test_mask_reads_a_bounded_part() -> None:
    """Only the first 1,000 characters count, and the word torn by the cut does not."""
    assert mask("word " * 500) == mask("word " * 600)


@pytest.mark.parametrize(
    "piece", ["a", "1", "1.", "a-", "a.", "'", "ab:", "a@", "0:", "-", "a1", "1,", "x:/", "[REDACTED:"]
)
def test_mask_stays_quick_on_hostile_text(piece: str) -> None:
    """No text can make the masks slow."""
    text = piece * (1_000_000 // len(piece))
    started = time.thread_time()
    mask(text)
    assert time.thread_time() - started < 0.1  # of processor time: linear, not quadratic


@given(st.text(alphabet=st.sampled_from("aZ09 :='\"-_@/.%<>[]\n") | st.characters(), max_size=200))
def test_mask_settles(text: str) -> None:
    """A template is its own template."""
    template = mask(text)
    assert mask(template) == template


@pytest.mark.parametrize(
    ("method", "endpoint", "expected"),
    [
        ("post", "/crm/contacts/123?x=1", "POST /crm/contacts/{id}"),
        (
            "GET",
            "https://u:p@shop.test:8443/admin/api/2024-01/orders/55.json#a",
            "GET /admin/api/2024-01/orders/{id}.json",
        ),
        ("GET", "/v3/customers/cus_9s6XKz/cards", "GET /v3/customers/{id}/cards"),
        ("PUT", "/a/8f14e45f-ceea-467f-a0e6-1234567890ab/b", "PUT /a/{id}/b"),
        ("GET", "/oauth2/token", "GET /oauth2/token"),
        ("GET", "contacts/bob@acme.test/", "GET /contacts/{id}"),
        ("GET", "/files/" + "x" * 60, "GET /files/{id}"),
        ("DELETE", "http://[bad/x", "DELETE /x"),
        ("GET", "", "GET /"),
    ],
)
def test_operation_of_keeps_the_route_only(method: str, endpoint: str, expected: str) -> None:
    """Method and path stay, versions included; host, user, query and ids do not."""
    assert operation_of(method, endpoint) == expected
