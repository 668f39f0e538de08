"""The events that the benchmarks send, as bytes of a whole request, made before the clock runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TOKEN = "bench-ingest-token"
SERVICE = "crm"
CAUSES = 200
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def network(number: int, stamp: str, endpoint: str = "/contacts", service: str = SERVICE) -> dict[str, Any]:
    """Return one failure of a service that is down; equal endpoints are one cause."""
    return {
        "event_id": f"{stamp}-{number}",
        "service_name": service,
        "http_status": 503,
        "error_code": "service_unavailable",
        "error_message": "Service temporarily unavailable",
        "endpoint": endpoint,
        "payload": {"properties": {"email": "ada@example.com", "firstname": "Ada"}},
        "retry_count": 0,
    }


def expired(number: int, stamp: str, account: str) -> dict[str, Any]:
    """Return one failure for which no wait is due: an account's token has expired."""
    return network(number, stamp) | {
        "http_status": 401,
        "error_code": "invalid_token",
        "error_message": "The access token expired",
        "user_id": account,
    }


def one_cause(number: int, stamp: str) -> dict[str, Any]:
    """Every event has the same cause."""
    return network(number, stamp)


def many_causes(number: int, stamp: str) -> dict[str, Any]:
    """The events spread over 200 causes."""
    high, low = divmod(number % CAUSES, len(_LETTERS))  # letters: digits in a path are taken for ids
    return network(number, stamp, f"/objects/{_LETTERS[high]}{_LETTERS[low]}")


def unconfigured(number: int, stamp: str) -> dict[str, Any]:
    """The service is not in prunella.yaml."""
    return network(number, stamp, service="unheard-of")


def background(number: int, stamp: str) -> dict[str, Any]:
    """Failures of another service, which keep the engine busy beside what is measured."""
    return network(number, stamp, service="other")


MIXES = {"one cause": one_cause, "200 causes": many_causes, "not configured": unconfigured}
"""What `intake` measures."""


def request(event: Mapping[str, Any]) -> bytes:
    """Return the whole HTTP request that reports `event`."""
    body = json.dumps(event).encode()
    head = (
        "POST /integration-self-heal HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nPrefer: respond-async\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
