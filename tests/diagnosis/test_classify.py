"""What a failure is, how sure that is, and which evidence decided."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunella.core.records import KINDS, Actor, Failure
from prunella.diagnosis import classify
from prunella.diagnosis.knowledge import knowledge

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def failure(**fields: Any) -> Failure:
    """Build a failure of an invented service."""
    return Failure(**{"service": "acme", **fields})


@pytest.mark.parametrize(
    ("statuses", "category", "confidence"),
    [
        ((401, 403), "auth", 0.95),
        ((429,), "rate_limit", 0.95),
        ((408, 500, 502, 503, 504), "network", 0.90),
        ((400, 422), "data", 0.85),
        ((None, 418, 200, 555), "unknown", 0.50),
    ],
)
def test_classify_knows_the_plain_statuses(statuses: tuple[int | None, ...], category: str, confidence: float) -> None:
    """A status alone gives the category and the confidence that document B lists."""
    for status in statuses:
        diagnosis = classify(failure(status=status))
        assert (diagnosis.category, diagnosis.confidence) == (category, confidence)


@pytest.mark.parametrize(
    ("code", "category"),
    [
        *((code, "auth") for code in ("invalid_grant", "invalid_token", "token_expired", "unauthorized")),
        *((code, "rate_limit") for code in ("rate_limit_exceeded", "too_many_requests")),
        *(
            (code, "network")
            for code in ("ENOTFOUND", "ECONNRESET", "ETIMEDOUT", "network_error", "service_unavailable")
        ),
        *((code, "data") for code in ("validation_error", "invalid_request", "schema_mismatch")),
    ],
)
def test_classify_knows_the_listed_codes(code: str, category: str) -> None:
    """The codes that document B lists decide with or without a status."""
    assert classify(failure(code=code)).category == category
    assert classify(failure(code=code, status=418)).category == category


@pytest.mark.parametrize(
    ("message", "category", "confidence"),
    [
        ("Rate limit reached, calm down", "rate_limit", 0.95),
        ("Too many requests", "rate_limit", 0.95),
        ("getaddrinfo ENOTFOUND api.acme.test", "network", 0.90),
        ("read ECONNRESET", "network", 0.90),
        ("connect ETIMEDOUT 10.0.0.1:443", "network", 0.90),
        ("a network problem", "network", 0.90),
        ("price is required", "data", 0.85),
        ("schema does not fit", "data", 0.85),
        ("something odd", "unknown", 0.50),
    ],
)
def test_classify_reads_words_last(message: str, category: str, confidence: float) -> None:
    """Where nothing else speaks, the words of document B decide, with its confidences."""
    diagnosis = classify(failure(message=message))
    assert (diagnosis.category, diagnosis.confidence) == (category, confidence)


def test_classify_lets_the_code_beat_the_status() -> None:
    """A service's own code is stronger than its status; the contradiction costs confidence."""
    diagnosis = classify(failure(status=401, code="rate_limit_exceeded"))
    assert diagnosis.kind == "rate_limit.window"
    assert diagnosis.because == "code rate_limit_exceeded"
    assert diagnosis.confidence < classify(failure(status=429, code="rate_limit_exceeded")).confidence


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "too many requests were never the problem", "auth.expired"),
        (422, "timeout_seconds must be between 1 and 60", "data.validation"),
        (500, "Unauthorized access while validating the required schema", "network.server"),
        (429, "invalid pace", "rate_limit.window"),
    ],
)
def test_classify_lets_the_status_beat_words(status: int, message: str, kind: str) -> None:
    """Words do not overrule a status that has one meaning."""
    assert classify(failure(status=status, message=message)).kind == kind


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (
            {"status": 403, "message": "API rate limit exceeded", "headers": {"x-ratelimit-remaining": "0"}},
            "rate_limit.window",
        ),
        ({"status": 403, "headers": {"retry-after": "90"}}, "rate_limit.window"),
        ({"status": 503, "headers": {"ratelimit": "limit=100, remaining=0, reset=12"}}, "rate_limit.window"),
        ({"status": 503, "headers": {"retry-after": "90"}}, "network.server"),
        ({"status": 403, "message": "Access denied", "headers": {"x-ratelimit-remaining": "40"}}, "auth.permission"),
        ({"status": 403, "message": "Daily quota used up"}, "rate_limit.quota"),
        ({"status": 403, "message": "<title>Attention Required!</title> you have been blocked"}, "policy"),
        ({"status": 401, "headers": {"www-authenticate": 'Bearer error="invalid_token"'}}, "auth.expired"),
        ({"status": 403, "headers": {"www-authenticate": 'Bearer error="insufficient_scope"'}}, "auth.permission"),
        ({"status": 401, "message": "Bad credentials"}, "auth.invalid"),
        ({"status": 429, "message": "daily limit reached"}, "rate_limit.quota"),
        ({"status": 429, "headers": {"retry-after": "40000"}}, "rate_limit.quota"),
        ({"status": 400, "source": "oauth", "message": '{"error":"invalid_grant"}'}, "auth.invalid"),
        ({"status": 400, "source": "oauth", "code": "unsupported_grant_type"}, "config"),
        ({"status": 400, "code": "ThrottlingException"}, "rate_limit.window"),
        ({"status": 402, "service": "stripe", "code": "card_declined"}, "data.business"),
        ({"status": 402}, "billing"),
        ({"status": 409}, "data.conflict"),
        ({"status": 409, "message": "another request is in progress"}, "network.contention"),
        ({"status": 502, "message": "DNS resolution failed"}, "network.dns"),
        ({"status": 403, "message": "error code: 1020", "headers": {"cf-ray": "8e-FRA"}}, "policy"),
    ],
)
def test_classify_tells_the_meanings_of_a_status_apart(fields: Mapping[str, Any], kind: str) -> None:
    """Headers, codes and words choose where one status is used for several things."""
    assert classify(failure(**fields)).kind == kind


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"message": '{"ok":false,"error":"channel_not_found"}', "service": "slack"}, "data.not_found"),
        ({"message": "{'ok': False, 'error': 'invalid_auth'}", "service": "slack"}, "auth.invalid"),
        ({"message": '{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}]}'}, "rate_limit.window"),
        ({"message": '{"status":"error","code":503,"message":"no luck"}'}, "network.server"),
        ({"message": '{"success": false, "errors":[{"field":"vat"}]}'}, "data.validation"),
        ({"message": "<!doctype html><title>Scheduled maintenance</title>"}, "network.server"),
        ({"message": '<html><form action="/login"><input type="password"></form></html>'}, "auth.invalid"),
        ({"message": "<html><body>Welcome</body></html>"}, "data.bad_response"),
    ],
)
def test_classify_finds_a_failure_inside_a_success(fields: Mapping[str, Any], kind: str) -> None:
    """A success status with an error, a refusal or a page inside is that failure."""
    assert classify(failure(status=200, **fields)).kind == kind


def test_classify_prefers_the_exact_key_of_a_body() -> None:
    """In one body, `code` says more than `type`."""
    message = '{"error":{"type":"invalid_request_error","code":"rate_limit_exceeded"}}'
    assert classify(failure(status=400, message=message)).kind == "rate_limit.window"


def test_classify_keeps_a_sure_status_against_codes_found_in_text() -> None:
    """A code that only stands somewhere in the text does not overrule a 401."""
    message = '{"error":{"type":"invalid_request_error","message":"no"}}'
    assert classify(failure(status=401, message=message)).category == "auth"


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("23505", "data.conflict"),
        ("23502", "data.validation"),
        ("42501", "auth.permission"),
        ("42P01", "config"),
        ("40P01", "network.contention"),
        ("53300", "network.contention"),
        ("57P03", "network.server"),
        ("08006", "network.connection"),
        ("28P01", "auth.invalid"),
        ("53100", "resource"),
    ],
)
def test_classify_reads_sqlstates(state: str, kind: str) -> None:
    """A SQLSTATE decides by itself or by its class, also where it comes over HTTP with a status of its own."""
    assert classify(failure(source="db", code=state)).kind == kind
    assert classify(failure(source="http", status=500, code=state)).kind == kind


@pytest.mark.parametrize(
    ("exc_type", "message", "kind"),
    [
        ("httpx.ReadError", "", "network.connection"),
        ("httpx.ConnectError", "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "network.tls"),
        ("httpx.PoolTimeout", "", "network.contention"),
        ("asyncio.TimeoutError", "", "network.timeout"),
        ("sqlalchemy.exc.TimeoutError", "", "network.contention"),
        ("socket.gaierror", "[Errno -2] Name or service not known", "network.dns"),
        ("requests.exceptions.ConnectionError", "(Caused by NameResolutionError('x'))", "network.dns"),
        ("sqlalchemy.exc.IntegrityError", "(psycopg.errors.NotNullViolation) null value", "data.validation"),
        ("sqlite3.OperationalError", "database is locked", "network.contention"),
        ("OSError", "[Errno 28] No space left on device", "resource"),
        ("KeyError", "'line_items'", "bug"),
        ("TypeError", "fetch failed", "network.connection"),
        ("json.decoder.JSONDecodeError", "Expecting value: line 1 column 1 (char 0)", "data.bad_response"),
        ("asyncio.CancelledError", "", "cancelled"),
        ("MemoryError", "", "resource"),
    ],
)
def test_classify_reads_exceptions(exc_type: str, message: str, kind: str) -> None:
    """The class decides, even without any text, and a wrapper gives way to the cause that its text names."""
    assert classify(failure(source="python", exc_type=exc_type, message=message)).kind == kind


@pytest.mark.parametrize("wanted", ["httpx.ReadTimeout", "readtimeout", ["KeyError", "ReadTimeout"]])
def test_users_rule_names_a_class_with_or_without_its_package(wanted: Any) -> None:
    """People write what they see in their code."""
    rules = [{"when": {"exc_type": wanted}, "kind": "config"}]
    assert classify(failure(exc_type="httpx.ReadTimeout"), rules=rules).kind == "config"
    assert classify(failure(exc_type="httpx.ReadError"), rules=rules).kind != "config"


def test_classify_separates_what_refreshing_heals() -> None:
    """An expired token is the machine's to refresh; a revoked grant and a missing right are a person's."""
    expired, invalid, denied = (
        classify(failure(code=code)) for code in ("token_expired", "invalid_grant", "forbidden")
    )
    assert (expired.retryable, expired.actor) == (True, Actor.SYSTEM)
    assert (invalid.retryable, invalid.actor) == (False, Actor.OWNER)
    assert (denied.retryable, denied.actor) == (False, Actor.OWNER)


def test_classify_passes_the_asked_wait_on() -> None:
    """The wait that the service asks for is part of the diagnosis, and a moment needs a clock to be one."""
    assert classify(failure(status=429, headers={"retry-after": "30"})).retry_after_s == 30.0
    dated = failure(status=429, headers={"retry-after": "Sun, 01 Mar 2026 12:01:30 GMT"})
    assert classify(dated, now=NOW).retry_after_s == 90.0
    assert classify(dated).retry_after_s is None


def test_classify_tells_its_reasons() -> None:
    """Everything that was seen stands in the signals, each once, the deciding evidence in `because`."""
    seen = failure(status=503, code="E77", exc_type="HttpError", headers={"retry-after": "5"})
    diagnosis = classify(seen)
    assert diagnosis.because == "HTTP 503"
    assert diagnosis.signals == ("HTTP 503", "code E77", "exception HttpError", "wait 5 s")
    assert diagnosis.advice


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({"status": 477}, True),
        ({"status": [400, 477]}, True),
        ({"code": "moving"}, True),
        ({"message": "IN PROGRESS"}, True),
        ({"status": 477, "message": "in progress"}, True),
        ({"status": 477, "message": "something else"}, False),
        ({"status": 400}, False),
        ({"colour": "red"}, False),
        ({}, False),
    ],
)
def test_classify_asks_the_users_rules_first(when: Mapping[str, Any], fits: bool) -> None:
    """A rule wins where all its conditions fit; one without conditions, or with unknown ones, never does."""
    rules = [{"when": when, "kind": "network.server", "retry_after": 86400}]
    diagnosis = classify(failure(status=477, code="MOVING", message="Migration in progress"), rules=rules)
    assert (diagnosis.retry_after_s == 86400.0) is fits
    assert diagnosis.because.startswith("rule ") is fits


def test_classify_never_reads_the_middle_of_a_long_text() -> None:
    """Only both ends of a long text count, so that an echoed payload decides nothing."""
    assert classify(failure(message="x " * 1500 + "rate limit" + " y" * 1500)).kind == "unclassified"
    assert classify(failure(message="x " * 3000 + "rate limit")).kind == "rate_limit.window"


TEXTS = st.one_of(
    st.text(max_size=200), st.sampled_from(["", "Errno", "[Errno 999]", "Caused by x(", "error=", '"code":5'])
)


@given(
    status=st.none() | st.integers(-1, 1000),
    code=st.none() | TEXTS,
    exc_type=st.none() | TEXTS,
    message=TEXTS,
    headers=st.dictionaries(st.sampled_from(["retry-after", "www-authenticate", "ratelimit", "date"]), TEXTS),
)
def test_classify_never_raises(
    status: int | None, code: str | None, exc_type: str | None, message: str, headers: dict[str, str]
) -> None:
    """Whatever evidence comes in, there is one diagnosis of a known kind, and it is the same the next time."""
    seen = failure(status=status, code=code, exc_type=exc_type, message=message, headers=headers)
    diagnosis = classify(seen, now=NOW)
    assert diagnosis.kind in KINDS
    assert classify(seen, now=NOW) == diagnosis


@pytest.mark.parametrize(
    "piece", ["a", "'", '"code":', '"error":"a', "[Errno ", "Caused by ", "E", "ERR_", "error code: 1"]
)
def test_classify_stays_quick_on_hostile_text(piece: str) -> None:
    """No text can hold a worker up for more than 50 ms."""
    knowledge()  # is read once, before the clock runs
    seen = failure(message=piece * (16000 // len(piece)), code=piece * 1000, exc_type=piece * 1000)
    started = time.thread_time()
    classify(seen)
    assert time.thread_time() - started < 0.05  # of processor time: linear, not quadratic


def test_what_is_no_failure_is_refused_by_name() -> None:
    """An exception itself is what people try first: they are told how to make a failure of it."""
    with pytest.raises(TypeError, match=r"got ValueError; make one with Failure\.from_exception"):
        classify(ValueError("no"))  # type: ignore[arg-type]
