"""Two occurrences of one problem share a fingerprint, two problems never do."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.renderings import FRAMES, KINDS, render
from prunella.core.records import Failure
from prunella.diagnosis import classify, fingerprint, mask, operation_of
from prunella.diagnosis.fingerprint import ALGORITHM

CORPUS = Path(__file__).parents[1] / "data" / "failures.jsonl"
SHOWN = ("service", "source", "status", "code", "exc_type", "message", "headers")


def print_of(**fields: Any) -> str:
    """Fingerprint a failure of an invented service."""
    failure = Failure(**{"service": "acme", "operation": "POST /orders", "message": "Order was refused", **fields})
    return fingerprint(failure, classify(failure))


def test_fingerprint_names_its_algorithm() -> None:
    """The version stands in front of 16 bytes in hexadecimal."""
    version, _, digest = print_of().partition(":")
    assert version == ALGORITHM == "2"
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
        {"frames": ("send", "main")},
    ],
)
def test_fingerprint_differs_with_each_part(fields: dict[str, Any]) -> None:
    """Service, operation, kind, code, exception class, words and place each tell problems apart."""
    assert print_of(**fields) != print_of()


def fail(number: int) -> None:
    """Fail in a function of our own."""
    if number:
        raise ValueError(f"order {number} refused")
    raise ValueError("order 0 refused")


def test_place_is_told_without_its_line() -> None:
    """Two lines of one function are one place, another caller's are not; a release that moves lines changes nothing."""

    def of(act: Any) -> str:
        with pytest.raises(ValueError, match="refused") as caught:
            act()
        failure = Failure.from_exception(caught.value, service="acme")
        return fingerprint(failure, classify(failure))

    def elsewhere() -> None:
        raise ValueError("order 3 refused")

    def one_more() -> None:
        fail(2)

    assert of(lambda: fail(0)) == of(lambda: fail(1))
    assert len({of(elsewhere), of(one_more), of(lambda: fail(1))}) == 3


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    """Return the failures of the corpus."""
    return [json.loads(line) for line in CORPUS.read_text().splitlines()]


def of_case(case: dict[str, Any], **changed: Any) -> Failure:
    """Return a case as a failure."""
    return Failure(**{**{name: case[name] for name in SHOWN}, **changed})


def test_renderings_of_one_template_share_a_fingerprint(cases: list[dict[str, Any]]) -> None:
    """Ids, times, amounts, hosts, addresses and tokens are drawn anew: at least 98 of 100 pairs stay together."""
    rng = random.Random(7)
    drawn, shared = Counter[str](), Counter[str]()
    for case in cases:
        frames = [("{message}", "number"), *((rng.choice(FRAMES), kind) for kind in rng.sample(sorted(KINDS), 6))]
        for frame, kind in frames if case["message"] else ():
            failures = [of_case(case, message=render(case["message"], rng, frame, kind)) for _ in range(2)]
            drawn[kind] += 1
            shared[kind] += len({fingerprint(one, classify(one)) for one in failures}) == 1
    shares = {kind: shared[kind] / drawn[kind] for kind in drawn}
    print(
        f"{shared.total()} of {drawn.total()} pairs share a fingerprint; worst: {sorted(shares.items(), key=lambda one: one[1])[:3]}"
    )
    assert drawn.total() > 2000
    assert shared.total() / drawn.total() >= 0.98
    assert min(shares.values()) >= 0.75  # no form of values is unknown


def test_renderings_do_vary(cases: list[dict[str, Any]]) -> None:
    """The judge is no rubber stamp: the messages themselves hardly ever agree."""
    rng = random.Random(7)
    pairs = [[render(case["message"], rng, FRAMES[0], "uuid") for _ in range(2)] for case in cases]
    assert sum(one == other for one, other in pairs) == 0


def test_cases_of_different_kinds_never_share_a_fingerprint(cases: list[dict[str, Any]]) -> None:
    """A group of two problems costs a wrong repair."""
    groups = defaultdict(set)
    for failure, case in ((of_case(case), case) for case in cases):
        groups[fingerprint(failure, classify(failure))].add(case["kind"])
    assert len(groups) > 0.9 * len(cases)
    assert [kinds for kinds in groups.values() if len(kinds) > 1] == []


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


@given(st.text(max_size=60), st.text(max_size=300), st.lists(st.text(max_size=20), max_size=5))
def test_any_failure_has_a_fingerprint(name: str, message: str, frames: list[str]) -> None:
    """Whatever stands in a failure: the same one twice, and again after it was stored and read."""
    failure = Failure(service=name, operation=name, code=name, exc_type=name, message=message, frames=tuple(frames))
    diagnosis = classify(failure)
    again = Failure(**{field: getattr(failure, field) for field in failure.__dataclass_fields__})
    assert fingerprint(again, diagnosis) == fingerprint(failure, diagnosis)


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
