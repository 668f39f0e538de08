"""What an integration may send, and the signal that comes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prunella.core.clock import Ids, ManualClock, Rng
from prunella.core.records import Signal
from prunella.core.services import OAuth, Service
from prunella.diagnosis.classify import classify
from prunella.web.api.events import FORCED, FailureEvent, ScanRequest, echo_of, to_signal

CLOCK = ManualClock()
CRM = Service(name="crm", base_url="https://crm.example.com")
PER_USER = Service(name="crm", oauth=OAuth(token_url="https://t", client_id="c", per_user=True))


def event(**changed: Any) -> FailureEvent:
    """Return document B's event, changed; None takes a field away."""
    fields: dict[str, Any] = {
        "mode": "webhook",
        "event_id": "7d0c1f3e-0000-4000-8000-000000000001",
        "service_name": "crm",
        "http_status": 503,
        "error_code": "service_unavailable",
        "error_message": "Service temporarily unavailable",
        "payload": {"order": 7},
        "endpoint": "/orders/7",
        "retry_count": 0,
        "user_id": "ada",
    }
    return FailureEvent.model_validate({name: value for name, value in {**fields, **changed}.items() if value != "-"})


def signal(service: Service | None = CRM, forced: str | None = None, **changed: Any) -> Signal:
    return to_signal(event(**changed), service, Ids(CLOCK, Rng(1)), CLOCK, forced)


def wrong_fields(**changed: Any) -> set[str]:
    """Return the names of the fields that are refused."""
    try:
        event(**changed)
    except ValidationError as error:
        return {str(one["loc"][0]) for one in error.errors()}
    return set()


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, set()),
        ({"mode": "-", "error_code": "-", "payload": "-", "endpoint": "-", "user_id": "-", "retry_count": "-"}, set()),
        ({"http_status": "-", "error_message": "-"}, set()),
        ({"http_status": None}, set()),
        ({"http_status": 0}, set()),
        ({"http_status": 599}, set()),
        ({"http_status": 600}, {"http_status"}),
        ({"http_status": 99}, {"http_status"}),
        ({"http_status": -1}, {"http_status"}),
        ({"http_status": False}, {"http_status"}),
        ({"http_status": "503"}, set()),
        ({"event_id": "-"}, {"event_id"}),
        ({"event_id": ""}, {"event_id"}),
        ({"event_id": "x" * 200}, set()),
        ({"event_id": "x" * 201}, {"event_id"}),
        ({"event_id": "a b"}, {"event_id"}),
        ({"event_id": "ü"}, {"event_id"}),
        ({"event_id": "a\x00b"}, {"event_id"}),
        ({"service_name": "-"}, {"service_name"}),
        ({"service_name": "Salesforce (EU)"}, {"service_name"}),
        ({"service_name": "x" * 101}, {"service_name"}),
        ({"service_name": "a/b:c@d.e+f-g h"}, set()),
        ({"error_code": "x" * 201}, {"error_code"}),
        ({"error_code": None}, set()),
        ({"error_message": "x" * 100_000}, set()),
        ({"payload": []}, {"payload"}),
        ({"payload": None}, set()),
        ({"endpoint": None}, set()),
        ({"endpoint": "x" * 2049}, {"endpoint"}),
        ({"retry_count": -1}, {"retry_count"}),
        ({"retry_count": 1.5}, {"retry_count"}),
        ({"method": "put"}, set()),
        ({"method": "CONNECT"}, {"method"}),
        ({"outcome": "success"}, set()),
        ({"outcome": "maybe"}, {"outcome"}),
        ({"occurred_at": "2026-01-01T00:00:00Z"}, set()),
        ({"occurred_at": "2026-01-01T01:00:00+01:00"}, set()),
        ({"occurred_at": "2026-01-01T00:00:00"}, {"occurred_at"}),
        ({"headers": {"Retry-After": "7"}}, set()),
        ({"headers": {"Retry-After": 7}}, {"headers"}),
        ({"surprise": 1}, {"surprise"}),
        ({"event_id": "", "http_status": 7, "surprise": 1}, {"event_id", "http_status", "surprise"}),
    ],
)
def test_fields_are_those_of_document_b_and_the_decisions(changed: dict[str, Any], wrong: set[str]) -> None:
    """Every field with its limits; what is unknown is named, not ignored; all mistakes at once."""
    assert wrong_fields(**changed) == wrong


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ({}, True),
        ({"mode": "scan", "window_minutes": 15, "limit": 50}, True),
        ({"window_minutes": 0.5}, True),
        ({"window_minutes": 0}, False),
        ({"window_minutes": 44_641}, False),
        ({"limit": 0}, False),
        ({"limit": 501}, False),
        ({"mode": "webhook"}, False),
        ({"event_id": "x"}, False),
    ],
)
def test_scan_takes_window_and_limit(fields: dict[str, Any], ok: bool) -> None:
    """Defaults are document B's 15 minutes and 50; a month and 500 at the most."""
    if ok:
        scan = ScanRequest.model_validate(fields)
        assert fields or (scan.window_minutes, scan.limit) == (15, 50)
        return
    with pytest.raises(ValidationError):
        ScanRequest.model_validate(fields)


def test_event_becomes_a_signal() -> None:
    """Every field finds its place, the operation has no ids, times are ours."""
    made = signal()
    assert (made.source, made.event_id, made.service) == ("webhook", "7d0c1f3e-0000-4000-8000-000000000001", "crm")
    assert (made.occurred_at, made.received_at, made.forced) == (CLOCK.now(), CLOCK.now(), False)
    assert made.failure is not None
    assert (made.failure.status, made.failure.code) == (503, "service_unavailable")
    assert made.failure.operation == "POST /orders/{id}"
    assert made.request is not None
    assert (made.request.method, made.request.endpoint, made.request.payload) == ("POST", "/orders/7", {"order": 7})


def test_success_has_no_failure() -> None:
    """A success signal carries its operation and nothing that could be diagnosed."""
    made = signal(outcome="success")
    assert (made.outcome, made.failure) == ("success", None)
    assert made.request is not None


def test_event_without_an_endpoint_has_nothing_to_replay() -> None:
    """No endpoint: no request and no operation."""
    made = signal(endpoint="-")
    assert made.request is None
    assert made.failure is not None
    assert made.failure.operation == ""


@pytest.mark.parametrize("status", [None, 0])
def test_no_status_is_none(status: int | None) -> None:
    """Decision 8: absent, null and 0 all mean that there was none."""
    made = signal(http_status=status)
    assert made.failure is not None
    assert made.failure.status is None


@pytest.mark.parametrize(
    ("service", "changed", "account"),
    [
        (PER_USER, {"user_id": "ada"}, "ada"),
        (PER_USER, {"user_id": "-", "account": "bob"}, "bob"),
        (PER_USER, {"user_id": "ada", "account": "bob"}, "ada"),
        (PER_USER, {"user_id": "-"}, ""),
        (CRM, {"user_id": "ada"}, ""),
        (None, {"user_id": "ada"}, ""),
    ],
)
def test_account_is_the_user_where_tokens_are_per_user(
    service: Service | None, changed: dict[str, Any], account: str
) -> None:
    """`account` is another name for `user_id`; where a service has one account the user does not matter."""
    assert signal(service, **changed).account == account


@pytest.mark.parametrize(("offset_s", "kept"), [(-60, True), (0, True), (60, False), (10**6, False)])
def test_event_of_the_future_happened_now(offset_s: int, kept: bool) -> None:
    """A sender's clock may be ahead; nothing has happened that has not."""
    moment = CLOCK.now() + timedelta(seconds=offset_s)
    assert signal(occurred_at=moment).occurred_at == (moment if kept else CLOCK.now())


@given(st.datetimes(timezones=st.just(UTC)))
def test_no_event_is_later_than_its_arrival(moment: datetime) -> None:
    """Whatever time is sent, occurred is never after received."""
    made = signal(occurred_at=moment)
    assert made.occurred_at <= made.received_at


# Forced failures ------------------------------------------------------------------------------------------------------


def test_forced_failures_are_document_bs() -> None:
    """Status, code and message of the four kinds, word for word."""
    assert {kind: tuple(fields.values()) for kind, fields in FORCED.items()} == {
        "auth": (401, "invalid_token", "Token expired"),
        "rate_limit": (429, "rate_limit_exceeded", "Too many requests"),
        "network": (503, "service_unavailable", "Service temporarily unavailable"),
        "data": (400, "validation_error", "Invalid payload structure"),
    }


@pytest.mark.parametrize("kind", FORCED)
def test_forced_failure_pretends_its_category_and_is_marked(kind: str) -> None:
    """Whatever the event said: it is diagnosed as what was forced, and marked so that it stays out of the KPIs."""
    made = signal(forced=kind, http_status=200, error_code="ok", error_message="fine")
    assert made.failure is not None
    assert made.forced
    assert classify(made.failure).category.value == kind


# Echoes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "header", "found"),
    [
        ({}, None, None),
        ({}, "i-1", "i-1"),
        ({"headers": {"X-Prunella-Recovery": "i-2"}}, None, "i-2"),
        ({"headers": {"x-prunella-recovery": "i-2"}}, None, "i-2"),
        ({"payload": {"recovery_of": "i-3"}}, None, "i-3"),
        ({"payload": {"recovery_of": 7}}, None, None),
        ({"payload": {"recovery_of": ["i-3"]}}, None, None),
        ({"payload": None}, None, None),
        ({"headers": {"x-prunella-recovery": "i-2"}, "payload": {"recovery_of": "i-3"}}, "i-1", "i-1"),
        ({"headers": {"x-prunella-recovery": "i-2"}, "payload": {"recovery_of": "i-3"}}, None, "i-2"),
        ({"headers": {"x-prunella-recovery": ""}}, "", None),
    ],
)
def test_echo_is_known_by_header_by_headers_or_by_payload(
    changed: dict[str, Any], header: str | None, found: str | None
) -> None:
    """Decision 10: the header of the post, then the event's headers, then its payload."""
    assert (echo_of(event(**changed), header) or None) == found


def test_signal_is_scrubbed() -> None:
    """A token in message or headers does not reach the record; the hints that count do."""
    made = signal(
        error_message="bad xoxb-1234567890-abcdefghijklmnop",
        headers={"Retry-After": "7", "Authorization": "Bearer xoxb-1234567890-abcdefghijklmnop"},
    )
    assert "xoxb-1234567890" not in repr(made.failure)
    assert made.failure is not None
    assert made.failure.headers == {"retry-after": "7"}
