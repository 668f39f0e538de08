"""Document B's five categories, end to end: a real process, a real database, real HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

import pytest

from flows.running import Up, event
from prunella.testing import Request, html, throttled, times, words

pytestmark = pytest.mark.slow


def calls(up: Up, service: str, path: str = "/orders") -> list[Request]:
    """Return what a service's address has seen."""
    return [request for request in up.shop.ledger.requests if request.path == f"/{service}{path}"]


def expired(service: str, number: object = 1, **fields: object) -> dict[str, object]:
    return event(service, number, http_status=401, error_code="invalid_token", error_message="Token expired", **fields)


def test_expired_token_is_refreshed_and_the_request_replayed(up: Up, service: str) -> None:
    """Given an expired token: one refresh, the rotated pair stored sealed, the request sent once with the new token."""
    provider = up.connect(service)
    provider.expire()
    answer = up.heal(expired(service))
    assert (answer["status"], answer["category"], answer["success"]) == ("resolved", "auth", True)
    assert provider.refreshes == 1
    assert provider.reuses == 0
    (call,) = calls(up, service)
    assert call.headers["x-prunella-recovery"] == answer["recovery_id"]
    assert call.json() == {"order": 1}
    assert provider.accepts(call.headers["authorization"].removeprefix("Bearer "))
    sealed = up.rows(f"SELECT access_sealed, refresh_sealed, version FROM credentials WHERE service = '{service}'")
    assert all(b"access" not in bytes(value) and b"refresh" not in bytes(value) for value in sealed[0][:2])
    assert sealed[0][2] == 2


def test_forbidden_is_settled_by_one_refresh_too(up: Up, service: str) -> None:
    """Given a bare 403, one refresh tells whether it was the token (document B: 401 and 403)."""
    provider = up.connect(service)
    provider.expire()
    answer = up.heal(event(service, http_status=403, error_message="Forbidden"))
    assert (answer["status"], provider.refreshes) == ("resolved", 1)


def test_token_is_refreshed_once_for_forty_callers(up: Up, service: str) -> None:
    """Given 40 concurrent callers with one expired token, the provider sees exactly one refresh."""
    provider = up.connect(service)
    provider.expire()
    provider.delay_s = 0.2
    events = [expired(service, number, endpoint=f"/orders/{number}/lines") for number in range(40)]
    with ThreadPoolExecutor(40) as callers:
        answers = list(callers.map(up.heal, events))
    assert {answer["status"] for answer in answers} <= {"resolved", "pending"}  # pending: not within its 8 s
    up.shop.wait_for(lambda: all(calls(up, service, str(one["endpoint"])) for one in events), timeout_s=30)
    assert (provider.refreshes, provider.reuses, provider.broken) == (1, 0, False)


def test_dead_refresh_token_asks_a_person_and_disables_at_three(up: Up, service: str) -> None:
    """Given a revoked refresh token: one try, then none; the third failed event disables; new tokens heal it all."""
    provider = up.connect(service)
    provider.revoke()
    first = up.heal(expired(service, 1))
    assert (first["status"], first["category"], first["retry_scheduled"]) == ("pending", "auth", False)
    attempts = len(calls(up, f"{service}-oauth", "/token"))
    assert attempts == 1
    assert up.heal(expired(service, 2))["status"] == "pending"
    third = up.heal(expired(service, 3))
    assert third["status"] == "disabled"
    assert len(calls(up, f"{service}-oauth", "/token")) == attempts
    tokens = provider.grant()
    body = {"access_token": tokens.access_token, "refresh_token": tokens.refresh_token}
    assert up.act("PUT", f"/api/v1/services/{service}/credentials", body).status_code == 200
    assert up.act("POST", f"/api/v1/services/{service}/enable", {}).json()["gate"]["state"] == "closed"
    up.shop.wait_for(lambda: len(calls(up, service)) == 3, timeout_s=10)


@pytest.mark.parametrize("form", ["seconds", "date", "epoch"])
def test_short_rate_limit_is_waited_for(up: Up, service: str, form: Literal["seconds", "date", "epoch"]) -> None:
    """Given a 429 that asks for 2 seconds, in any spelling, the replay comes after them and not before."""
    up.shop.script(f"/{service}/orders", [throttled(2, form=form), "ok"])
    reply = up.client.post(f"{up.shop.url}/{service}/orders", json={"order": 1})
    answer = up.heal(event(service, http_status=429, error_message="slow down", headers=dict(reply.headers)))
    assert (answer["status"], answer["category"]) == ("resolved", "rate_limit")
    assert up.shop.ledger.early == [one for one in up.shop.ledger.early if one.path != f"/{service}/orders"]


def test_long_rate_limit_becomes_a_durable_due_time(up: Up, service: str) -> None:
    """Given Retry-After 120, nothing is sent now: pending, with the due time in the answer."""
    before = datetime.now(UTC)
    answer = up.heal(event(service, http_status=429, error_message="slow", headers={"Retry-After": "120"}))
    assert (answer["status"], answer["retry_scheduled"]) == ("pending", True)
    due = datetime.fromisoformat(answer["next_retry_at"])
    assert timedelta(seconds=119) < due - before < timedelta(seconds=125)
    assert calls(up, service) == []


def test_rate_limit_date_is_measured_against_its_own_clock(up: Up, service: str) -> None:
    """Given a Retry-After date from a server whose clock is an hour off, the wait is still right."""
    theirs = datetime.now(UTC) + timedelta(hours=1)
    headers = {
        "Date": format_datetime(theirs, usegmt=True),
        "Retry-After": format_datetime(theirs + timedelta(seconds=60), usegmt=True),
    }
    answer = up.heal(event(service, http_status=429, error_message="slow", headers=headers))
    wait = datetime.fromisoformat(answer["next_retry_at"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < wait < timedelta(seconds=61)


def test_rate_limit_never_disables(up: Up, service: str) -> None:
    """Given 30 rate limits, the service is still in use."""
    for number in range(30):
        answer = up.heal(event(service, number, http_status=429, error_message="slow", headers={"Retry-After": "60"}))
    assert answer["status"] == "pending"


def test_network_failure_is_replayed_three_times_then_healed_by_scan(up: Up, service: str) -> None:
    """Given an outage: three replays at 0.5, 1 and 2 s with jitter, then pending; the scan heals it once it is over."""
    up.shop.script(f"/{service}/orders", [times(3, html(503, "Maintenance")), "ok"])
    answer = up.heal(event(service, error_code="ECONNRESET"))
    assert (answer["status"], answer["category"], answer["retry_scheduled"]) == ("pending", "network", False)
    seen = calls(up, service)
    assert len(seen) == 3
    assert 0.5 <= seen[1].at_s - seen[0].at_s <= 1.5
    assert 1.0 <= seen[2].at_s - seen[1].at_s <= 2.5
    assert len({call.key for call in seen}) == 1
    mine = [one for one in up.scan()["events"] if one["service_name"] == service]
    assert mine == [
        {
            "event_id": f"{service}-1",
            "service_name": service,
            "category": "network",
            "status": "resolved",
            "action_taken": mine[0]["action_taken"],
        }
    ]
    assert up.heal(event(service))["status"] == "resolved"


def test_nine_network_failures_in_an_hour_disable(up: Up, service: str) -> None:
    """Given nine network failures, the ninth answer says disabled, and nothing more is sent."""
    up.shop.script(f"/{service}", [html(503, "Maintenance")])
    events = [event(service, number, payload=None, endpoint=None) for number in range(9)]
    statuses = [up.heal(one, prefer="respond-async")["status"] for one in events]
    assert statuses == ["pending"] * 8 + ["disabled"]
    gate = next(one for one in up.get("/api/v1/services")["items"] if one["name"] == service)["gate"]
    assert gate["state"] == "disabled"
    assert "9 network failures within 60 minutes" in gate["reason"]
    assert up.heal(event(service, 10))["status"] == "disabled"
    assert calls(up, service) == []


def test_data_failure_is_never_retried_and_keeps_no_values(up: Up, service: str) -> None:
    """Given a validation error: no call at all; names and types of the payload are kept, its values are nowhere."""
    payload = {
        "customer": {"email": "ada.lovelace@analytical.example", "age": 36},
        "lines": [{"sku": "X-99-TOPSECRET"}],
    }
    answer = up.heal(event(service, http_status=422, error_message="email is malformed", payload=payload))
    assert (answer["status"], answer["category"]) == ("pending", "data")
    assert calls(up, service) == []
    story = up.get(f"/api/v1/incidents/{answer['recovery_id']}")
    shape = json.dumps(story["payload_shape"])
    assert "email" in shape
    assert "sku" in shape
    everything = json.dumps(story) + "".join(map(str, up.rows("SELECT * FROM signals")))
    assert "ada.lovelace" not in everything
    assert "TOPSECRET" not in everything


@pytest.mark.parametrize(("status", "text"), [(422, "invalid"), (418, "I am a teapot")])
def test_five_failures_in_a_row_disable(up: Up, service: str, status: int, text: str) -> None:
    """Given five data (or unknown) failures in a row the service is disabled; a success in between starts anew."""
    up.shop.script(f"/{service}", [status])

    def post(number: int, **fields: object) -> str:
        one = event(service, number, http_status=status, error_message=text, endpoint=None, payload=None, **fields)
        return str(up.heal(one, prefer="respond-async")["status"])

    assert [post(number) for number in range(4)] == ["pending"] * 4
    up.heal({"event_id": f"{service}-good", "service_name": service, "outcome": "success"})
    statuses = [post(number) for number in range(10, 15)]
    assert statuses == ["pending"] * 4 + ["disabled"]


def test_unknown_failure_is_retried_once(up: Up, service: str) -> None:
    """Given something nobody knows: one replay after a second at the least, then pending."""
    up.shop.script(f"/{service}/orders", [418])
    sent = up.shop.ledger
    start = max((request.at_s for request in sent.requests), default=0.0)
    answer = up.heal(event(service, http_status=418, error_message="I am a teapot"))
    assert (answer["status"], answer["category"]) == ("pending", "unknown")
    (call,) = calls(up, service)
    assert call.at_s - start >= 1.0 or start == 0.0
    up.scan()
    assert len(calls(up, service)) == 1


def test_event_id_is_processed_once(up: Up, service: str) -> None:
    """Given one event id posted 50 times from 8 clients: 1 signal, 1 incident, 1 run."""
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(up.heal, [event(service)] * 50))
    assert len({answer["recovery_id"] for answer in answers}) == 1
    assert up.rows(f"SELECT count(*) FROM signals WHERE service = '{service}'") == [(1,)]
    assert up.rows(f"SELECT count FROM incidents WHERE service = '{service}'") == [(1,)]
    assert len(calls(up, service)) == 1
    assert up.heal(event(service))["status"] == "resolved"


def test_unconfigured_service_is_reported_and_nothing_sent(up: Up) -> None:
    """Given a service nobody configured: accepted, diagnosed, reported; its endpoint hears nothing."""
    one = event("stranger", endpoint=f"{up.shop.url}/stranger/orders")
    answer = up.heal(one)
    assert (answer["status"], answer["category"]) == ("pending", "network")
    assert "not configured" in answer["action_taken"]
    assert calls(up, "stranger") == []


def test_replay_stays_on_the_services_own_hosts(up: Up, service: str) -> None:
    """Given an endpoint on another host, nothing is sent and the reason is shown."""
    answer = up.heal(event(service, endpoint="http://169.254.169.254/latest/meta-data"))
    assert answer["status"] == "pending"
    story = up.get(f"/api/v1/incidents/{answer['recovery_id']}")
    assert story["state"] == "escalated"
    (operation,) = up.get("/api/v1/operations", role="OPERATIONS", service=service)["items"]
    assert operation["state"] == "dead"
    assert "169.254.169.254 is not its own" in operation["last_error"]


def test_html_with_success_status_is_no_recovery(up: Up, service: str) -> None:
    """Given a replay answered 200 with a web page, nothing is called resolved."""
    up.shop.script(f"/{service}/orders", [html(200, "Please log in")])
    answer = up.heal(event(service))
    assert answer["status"] == "pending"
    story = up.get(f"/api/v1/incidents/{answer['recovery_id']}")
    assert all(run["state"] == "failed" for run in story["runs"])
    assert "HTML" in story["runs"][0]["detail"]


def test_redacted_payload_is_not_replayed(up: Up, service: str) -> None:
    """Given a payload whose sender redacted it, the request is not replayed, with that reason."""
    answer = up.heal(event(service, payload={"order": 1, "card": "[REDACTED]"}))
    assert answer["status"] == "pending"
    assert calls(up, service) == []
    (operation,) = up.get("/api/v1/operations", role="OPERATIONS", service=service)["items"]
    assert "redaction marks" in operation["last_error"]


def test_forced_failure_is_marked(up: Up, service: str) -> None:
    """Given X-Force-Failure in development, the pretended failure is healed like a real one and marked."""
    answer = up.heal(event(service), x_force_failure="network")
    assert (answer["status"], answer["category"]) == ("resolved", "network")
    assert up.get(f"/api/v1/incidents/{answer['recovery_id']}")["forced"] is True
    refused = up.post(event(service, 2), x_force_failure="fire")
    assert refused.status_code == 422


def test_failure_of_a_recovery_opens_no_incident(up: Up, service: str) -> None:
    """Given an event that our own replay caused, it belongs to that recovery and counts nowhere."""
    first = up.heal(event(service, http_status=429, error_message="slow", headers={"Retry-After": "60"}))
    echoes = [
        up.post(event(service, 2), x_prunella_recovery=first["recovery_id"]).json(),
        up.heal(event(service, 3, headers={"X-Prunella-Recovery": first["recovery_id"]})),
        up.heal(event(service, 4, payload={"recovery_of": first["recovery_id"]})),
    ]
    assert {echo["recovery_id"] for echo in echoes} == {first["recovery_id"]}
    assert up.rows(f"SELECT count(*), max(count) FROM incidents WHERE service = '{service}'") == [(1, 1)]


def test_answer_can_be_asked_for_at_once(up: Up, service: str) -> None:
    """Given Prefer: respond-async, the answer is 202 as soon as the event is durable."""
    reply = up.post(event(service), prefer="respond-async")
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "respond-async")
    assert reply.json()["status"] == "pending"


def test_graphql_style_failure_inside_success_is_no_recovery(up: Up, service: str) -> None:
    """Given a 200 that says ok: false, the recovery has not worked."""
    up.shop.script(f"/{service}/orders", [words.json(200, {"ok": False, "error": "ratelimited"})])
    answer = up.heal(event(service))
    assert answer["status"] == "pending"
