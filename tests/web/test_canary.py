"""A canary in every field of a report: no answer of the API sings of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prunella.web.auth import Role
from web.conftest import Web

pytestmark = pytest.mark.anyio

CANARY = "Zq7canaryXw93vLk2"
READ = ("incidents", "operations", "services", "secrets")
ASYNC = {"prefer": "respond-async"}
"""Nothing heals in this process: an answer must not wait for it."""


def event(**changed: Any) -> dict[str, Any]:
    return {
        "mode": "webhook",
        "event_id": "7d0c1f3e-0000-4000-8000-000000000009",
        "service_name": "crm",
        "http_status": 401,
        "error_code": f"token={CANARY}",
        "error_message": f"https://svc:{CANARY}@crm.test refused Authorization: Bearer {CANARY}",
        "payload": {"password": CANARY, "note": f"api_key={CANARY}"},
        "endpoint": f"/orders/7?access_token={CANARY}",
        "retry_count": 0,
        **changed,
    }


def sings(text: str) -> bool:
    return any(CANARY[at : at + 8] in text for at in range(len(CANARY) - 7))


async def test_no_answer_repeats_a_secret_that_was_reported(web: Web) -> None:
    """Neither the answer to the report nor any list or single record read afterwards holds it."""
    told = await web.ask("POST", "/integration-self-heal", web.token(Role.INGEST), json=event(), headers=ASYNC)
    assert told.status_code < 300
    assert not sings(told.text)
    admin = web.token(Role.ADMIN)
    read = [await web.ask("GET", f"/api/v1/{name}", admin) for name in READ]
    assert {answer.status_code for answer in read} <= {200, 404}
    incidents = json.loads(read[0].text)["items"]
    assert len(incidents) == 1
    read.append(await web.ask("GET", f"/api/v1/incidents/{incidents[0]['id']}", admin))
    assert "[REDACTED:" in "".join(answer.text for answer in read)
    assert [str(answer.url) for answer in read if sings(answer.text)] == []


async def test_no_refusal_repeats_a_secret(web: Web) -> None:
    """Wrong input is named by its place; what stood there is not repeated."""
    wrong = event(http_status=f"token={CANARY}", mode=f"password={CANARY}", **{f"token={CANARY}": 1})
    for body in (wrong, event(service_name=f"api_key={CANARY}" * 20)):
        told = await web.ask("POST", "/integration-self-heal", web.token(Role.INGEST), json=body)
        assert not sings(told.text), told.text


def test_canary_is_seen_where_it_sings() -> None:
    """The look finds eight of its letters in a row, and seven are not enough."""
    assert sings(f"x{CANARY[3:11]}y")
    assert not sings(f"x{CANARY[3:10]}y")
