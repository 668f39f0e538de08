"""Bad input: a clear problem, never a 500, nothing half-recorded."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from flows.running import INGEST, Up, event, problem

pytestmark = pytest.mark.slow

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"event_id": None}, "/event_id"),
    ({"event_id": ""}, "/event_id"),
    ({"event_id": "a b"}, "/event_id"),
    ({"event_id": "x" * 201}, "/event_id"),
    ({"event_id": 7}, "/event_id"),
    ({"service_name": ""}, "/service_name"),
    ({"service_name": "a\nb"}, "/service_name"),
    ({"http_status": 42}, "/http_status"),
    ({"http_status": "many"}, "/http_status"),
    ({"http_status": True}, "/http_status"),
    ({"error_code": 5}, "/error_code"),
    ({"error_message": ["no"]}, "/error_message"),
    ({"payload": "text"}, "/payload"),
    ({"endpoint": ""}, "/endpoint"),
    ({"endpoint": "x" * 2049}, "/endpoint"),
    ({"retry_count": -1}, "/retry_count"),
    ({"method": "TRACE"}, "/method"),
    ({"headers": {"a": 1}}, "/headers/a"),
    ({"occurred_at": "2026-01-01T00:00:00"}, "/occurred_at"),
    ({"occurred_at": "yesterday"}, "/occurred_at"),
    ({"outcome": "maybe"}, "/outcome"),
    ({"mode": "sideways"}, "/mode"),
    ({"htp_status": 500}, "/htp_status"),
]


def raw(up: Up, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Post bytes as they are."""
    connection = http.client.HTTPConnection(urlsplit(up.url).netloc, timeout=20)
    try:
        connection.request("POST", "/integration-self-heal", body, {"Authorization": f"Bearer {INGEST}"} | headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


@pytest.mark.parametrize(("change", "pointer"), WRONG, ids=[f"{p}-{n}" for n, (_, p) in enumerate(WRONG)])
def test_wrong_field_is_named_by_its_pointer(up: Up, change: dict[str, Any], pointer: str) -> None:
    """Given one wrong field: 422 with its JSON pointer, and nothing recorded."""
    before = up.rows("SELECT count(*) FROM signals")
    reply = up.post(event("bad-input") | change)
    assert reply.status_code == 422, reply.text
    assert pointer in [error["pointer"] for error in problem(reply)["errors"]]
    assert up.rows("SELECT count(*) FROM signals") == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b"[]", 422),
        (b"7", 422),
        (b"", 422),
        (b" " * (1024 * 1024 + 1), 413),
    ],
    ids=["truncated", "no-utf8", "deep-list", "deep-object", "list", "number", "empty", "too-large"],
)
def test_unreadable_body_is_refused(up: Up, body: bytes, status: int) -> None:
    """Given a body that is no JSON object of a sane size: 400, 413 or 422, always with problem details."""
    answered, found = raw(up, body)
    assert (answered, found["status"]) == (status, status)
    assert found["title"]


def test_chunked_body_over_the_limit_is_refused(up: Up) -> None:
    """Given a body without a length that grows over 1 MiB, reading stops there."""
    connection = http.client.HTTPConnection(urlsplit(up.url).netloc, timeout=20)
    try:
        chunks = iter([b"x" * 65_536] * 40)
        headers = {"Authorization": f"Bearer {INGEST}", "Transfer-Encoding": "chunked"}
        try:
            connection.request("POST", "/integration-self-heal", chunks, headers, encode_chunked=True)
        except (BrokenPipeError, ConnectionResetError):
            pytest.skip("the server closed before the body ended, which is a refusal too")
        assert connection.getresponse().status == 413
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {INGEST}"}, {"x-internal-token": "no"}],
    ids=["none", "wrong", "scheme", "internal"],
)
def test_token_is_required(up: Up, headers: dict[str, str]) -> None:
    """Given no token or a wrong one: 401 with a challenge, and nothing recorded."""
    reply = up.client.post("/integration-self-heal", json=event("nobody"), headers=headers)
    assert problem(reply)["status"] == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert up.rows("SELECT count(*) FROM signals WHERE service = 'nobody'") == [(0,)]


def test_internal_token_header_is_accepted(up: Up) -> None:
    """Given X-Internal-Token as document B's functions send it, the event is taken, whatever else is shown."""
    headers = {"x-internal-token": INGEST, "authorization": "Bearer some-anon-key"}
    reply = up.client.post("/integration-self-heal", json=event("internal-sender"), headers=headers)
    assert reply.status_code == 200


def test_ingest_token_reads_nothing(up: Up) -> None:
    """Given a token that may report events, resources stay closed to it."""
    headers = {"authorization": f"Bearer {INGEST}"}
    assert up.client.get("/api/v1/incidents", headers=headers).status_code == 403
    assert up.client.put("/api/v1/secrets/x", json={"value": "y"}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "role", "status"),
    [
        ("GET", "/api/v1/incidents/nope", "VIEWER", 404),
        ("POST", "/api/v1/incidents/nope/ack", "OPERATIONS", 404),
        ("POST", "/api/v1/incidents/nope/explode", "OPERATIONS", 422),
        ("POST", "/api/v1/services/nope/enable", "ADMIN", 404),
        ("POST", "/api/v1/services/s0/enable", "ADMIN", 409),
        ("POST", "/api/v1/services/s0/pause", "VIEWER", 403),
        ("PUT", "/api/v1/services/s0/credentials", "OPERATIONS", 403),
        ("PUT", "/api/v1/services/s0/credentials", "ADMIN", 422),
        ("GET", "/api/v1/incidents?cursor=zzz", "VIEWER", 422),
        ("GET", "/api/v1/incidents?limit=0", "VIEWER", 422),
        ("GET", "/api/v1/incidents?state=odd", "VIEWER", 422),
        ("GET", "/nowhere", "VIEWER", 404),
        ("DELETE", "/integration-self-heal", "ADMIN", 405),
    ],
)
def test_refusals_are_problem_details(up: Up, method: str, path: str, role: str, status: int) -> None:
    """Given something unknown, forbidden or in the wrong state: its status and problem details."""
    reply = up.act(method, path, {} if method in ("POST", "PUT") else None, role)
    assert problem(reply)["status"] == status


def test_hostile_text_is_kept_as_text(up: Up, service: str) -> None:
    """Given NUL, ANSI, markup and injection in the text: accepted, shown literally, page and lists still work."""
    text = "\x00\x1b[31mred\u2028<script>alert(1)</script>'; DROP TABLE incidents; -- {{7*7}}"
    answer = up.heal(event(service, error_message=text, endpoint=None, payload=None), prefer="respond-async")
    page = up.client.get(f"/incidents/{answer['recovery_id']}", headers=up.as_role("VIEWER"))
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert up.get(f"/api/v1/incidents/{answer['recovery_id']}")["id"] == answer["recovery_id"]
