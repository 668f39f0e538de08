"""Waiting work over HTTP: listed, shown by structure, and moved by people, many at once after an estimate."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from prunella.core.states import OperationState
from prunella.web.auth import Role
from web.conftest import Web

pytestmark = pytest.mark.anyio

CANARY = "Zq7canaryXw93vLk2"
LIST = "/api/v1/operations"


async def report(web: Web, count: int = 1, **changed: Any) -> None:
    """Report failures whose requests wait."""
    for number in range(count):
        body = {
            "event_id": f"event-{web.clock.monotonic()}-{number}",
            "service_name": "crm",
            "http_status": 503,
            "error_message": "down",
            "payload": {"email": CANARY, "lines": [{"sku": CANARY}]},
            "endpoint": "/orders",
            **changed,
        }
        told = await web.ask("POST", "/integration-self-heal", web.token(Role.INGEST), json=body, headers=ASYNC)
        assert told.status_code == 202, told.text
        web.clock.advance(1)


ASYNC = {"prefer": "respond-async"}
"""Nothing heals in this process: an answer must not wait for it."""


async def get(web: Web, path: str = LIST, role: Role = Role.OPERATIONS, **query: Any) -> httpx2.Response:
    return await web.ask("GET", path, web.token(role), params=query or None)


async def post(web: Web, path: str, role: Role = Role.OPERATIONS, **body: Any) -> httpx2.Response:
    return await web.ask("POST", f"{LIST}/{path}", web.token(role), json=body)


async def items(web: Web, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await get(web, **query)).json()["items"]
    return found


async def test_list_filters_and_walks(web: Web) -> None:
    """Filters name what is meant, a wrong one is refused, and the cursor meets every operation once."""
    await report(web, 6)
    assert len(await items(web, service="crm", state="waiting", due="resting")) == 6
    assert await items(web, service="nobody") == await items(web, state="dead") == await items(web, account="ada") == []
    (newest, *_), seen, cursor = await items(web), list[str](), None
    assert await items(web, idempotency_key=newest["idempotency_key"]) == [newest]
    assert len(await items(web, incident=newest["incident_id"])) == 6
    while True:
        page = (await get(web, limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 6
    for wrong in ({"state": "lost"}, {"due": "soon"}, {"limit": 501}, {"cursor": "nonsense"}):
        assert (await get(web, **wrong)).status_code == 422


async def test_one_is_shown_by_its_structure(web: Web) -> None:
    """Names and types of the payload, what may be done, attempts and trace; no value of it anywhere."""
    await report(web)
    (one,) = await items(web)
    shown = await get(web, f"{LIST}/{one['id']}")
    assert CANARY not in shown.text
    body = shown.json()
    assert body["payload_shape"] == {"email": "string", "lines": [{"sku": "string"}]}
    assert (body["method"], body["endpoint"], body["acts"]) == ("POST", "/orders", ["replay", "cancel", "quarantine"])
    assert body["incident"]["state"] == "open"
    assert (body["runs"], body["trace"]) == ([], [])
    assert (await get(web, f"{LIST}/nobody")).status_code == 404


async def test_acts_move_one_and_say_who_and_why(web: Web) -> None:
    """Quarantine, replay, cancel; a dry run changes nothing; a wrong state is 409, an unknown id 404, no reason 422."""
    await report(web)
    (one,) = await items(web)
    dry = (await post(web, f"{one['id']}/quarantine", dry_run=True)).json()
    assert (dry["dry_run"], dry["state"]) == (True, "waiting")
    assert (await post(web, f"{one['id']}/quarantine")).status_code == 422
    assert (await post(web, f"{one['id']}/quarantine", reason="wrong amount")).json()["state"] == "dead"
    assert (await post(web, f"{one['id']}/quarantine", reason="again")).status_code == 409
    assert (await post(web, f"{one['id']}/replay")).json()["state"] == "waiting"
    assert (await post(web, f"{one['id']}/cancel", reason="obsolete")).json()["state"] == "cancelled"
    assert (await post(web, f"{one['id']}/replay")).status_code == 409
    assert (await post(web, "nobody/replay")).status_code == 404
    trace = (await get(web, f"{LIST}/{one['id']}")).json()["trace"]
    assert [(entry["action"], entry["actor"], entry["reason"]) for entry in trace] == [
        ("operation.quarantine", "cli", "wrong amount"),
        ("operation.replay", "cli", ""),
        ("operation.cancel", "cli", "obsolete"),
    ]


async def test_many_are_estimated_first(web: Web) -> None:
    """Estimate, then the same with its moment and digest; what moved between is 409 with the new estimate."""
    await report(web, 3)
    found = (await post(web, "cancel", service="crm", estimate=True)).json()
    assert (found["count"], found["services"], len(found["sample"])) == (3, {"crm": 3}, 3)
    assert CANARY not in str(found)
    bound = {
        "service": "crm",
        "made_at": found["made_at"],
        "digest": found["digest"],
        "name": "flood",
        "reason": "spam",
    }
    (newest, *_) = await items(web)
    await post(web, f"{newest['id']}/cancel", reason="by hand")
    moved = await post(web, "cancel", **bound)
    assert moved.status_code == 409
    again = moved.json()["estimate"]
    assert again["count"] == 2
    done = await post(web, "cancel", **{**bound, "made_at": again["made_at"], "digest": again["digest"]})
    assert done.json() == {"act": "cancel", "name": "flood", "done": 2, "left": {}}
    assert {one["last_error"] for one in await items(web)} == {
        "cancelled by cli: by hand",
        "cancelled by cli: flood: spam",
    }
    audit = (await web.ask("GET", "/api/v1/audit", web.token(Role.OPERATIONS), params={"target": "flood"})).json()
    assert [entry["action"] for entry in audit["items"]] == [
        "operations.cancel.ended",
        "operations.cancel",
        "operations.cancel",
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"estimate": True}, "empty filter"),
        ({}, "empty filter"),
        ({"all": True, "service": "crm", "estimate": True}, "stands beside a filter"),
        ({"service": "crm", "state": "done", "estimate": True}, "can't be done to operations that are done"),
        ({"service": "crm", "reason": "x"}, "an estimate comes first"),
        ({"service": "crm"}, "a reason is needed"),
        (
            {"service": "crm", "reason": "x", "made_at": "2026-01-01T00:00:00Z", "digest": "d"},
            "a name is needed",
        ),
        ({"service": "crm", "colour": "red", "estimate": True}, "colour"),
        ({"service": "crm", "made_at": "2026-01-01T00:00:00", "digest": "d"}, "made_at"),
    ],
)
async def test_wish_for_many_that_is_not_spelled_out_is_refused(web: Web, body: dict[str, Any], words: str) -> None:
    """Nothing named means nothing; all has to be said; without estimate, name and reason nothing is done."""
    await report(web)
    refused = await post(web, "cancel", **body)
    assert refused.status_code == 422
    assert words in refused.text
    assert [one["state"] for one in await items(web)] == ["waiting"]


async def test_all_can_be_spelled_out(web: Web) -> None:
    """`all: true` means every operation in which the act can be done."""
    await report(web, 2)
    async with web.app.store.transaction() as tx:
        (one, _) = await tx.operations.list(most=2)
        await tx.operations.save(replace(one, state=OperationState.DONE), one.state)
    assert (await post(web, "cancel", all=True, estimate=True)).json()["count"] == 1


async def test_viewer_sees_none_of_it(web: Web) -> None:
    """Operations, their structure and their pages are for those who act (DECISIONS: roles)."""
    await report(web)
    (one,) = await items(web)
    for path in (LIST, f"{LIST}/{one['id']}", "/operations", f"/operations/{one['id']}"):
        assert (await get(web, path, Role.VIEWER)).status_code == 403, path


async def test_pages_show_what_waits(web: Web) -> None:
    """The list keeps the filters that were chosen, one operation shows its structure and what can be done to it."""
    await report(web, 51)
    (one, *_) = await items(web)
    page = await get(web, "/operations", service="crm", state="waiting")
    assert page.status_code == 200
    assert page.text.count("<tr><td ") == 50
    assert '<option value="crm" selected>crm</option>' in page.text
    (more,) = [part.split('"')[0] for part in page.text.split('href="/operations?')[1:]]
    rest = await get(web, f"/operations?{more.replace('&amp;', '&')}")
    assert rest.text.count("<tr><td ") == 1
    await post(web, f"{one['id']}/quarantine", reason="<b>bold</b>")
    shown = await get(web, f"/operations/{one['id']}")
    assert f"prunella operations replay {one['id']}" in shown.text
    assert "&#34;email&#34;: &#34;string&#34;" in shown.text
    assert "<b>bold</b>" not in shown.text
    assert CANARY not in page.text + shown.text
    assert "None of this kind" in (await get(web, "/operations", service="nobody")).text
    assert (await get(web, "/operations", state="lost")).status_code == 422
    assert (await get(web, "/operations/nobody")).status_code == 404


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_moment_out_of_the_calendar_is_refused(web: Web, moment: str) -> None:
    """A moment that UTC can't spell is a mistake of who sent it, in an event, an estimate and a cursor."""
    event = {"event_id": "e", "service_name": "crm", "error_message": "down", "occurred_at": moment}
    told = await web.ask("POST", "/integration-self-heal", web.token(Role.INGEST), json=event, headers=ASYNC)
    asked = await post(web, "replay", service="crm", made_at=moment, digest="d", name="n")
    assert (told.status_code, asked.status_code) == (422, 422)
    assert [one.json()["errors"][0]["pointer"] for one in (told, asked)] == ["/occurred_at", "/made_at"]
    assert (await get(web, cursor=b64encode(f"{moment} x".encode()).decode())).status_code == 422


@pytest.mark.parametrize("name", ["service", "incident", "idempotency_key"])
async def test_empty_filter_is_refused(web: Web, name: str) -> None:
    """A variable that was not set is no filter that nothing fits: lists refuse it as acts do."""
    await report(web)
    empty: dict[str, Any] = {name: ""}
    assert (await get(web, **empty)).status_code == 422
    assert (await post(web, "replay", estimate=True, **empty)).status_code == 422
    assert len(await items(web, account="")) == 1


async def test_ordering_key_of_an_event_decides_whose_turn_it_is(web: Web) -> None:
    """Of two requests that share a key the later one stands back; it is kept as a digest and refused when too long."""
    for number, key in enumerate(("order-7", "order-7", "", None)):
        await report(web, endpoint=f"/orders/{number}", method="PUT", ordering_key=key)
    async with web.app.store.transaction() as tx:
        first, second, free, by_address = reversed(await tx.operations.list(most=9))
    assert first.ordering_key == second.ordering_key != ""
    assert "order-7" not in first.ordering_key
    assert (free.ordering_key, by_address.ordering_key not in ("", first.ordering_key)) == ("", True)
    body = {"event_id": "e", "service_name": "crm", "error_message": "down", "ordering_key": "k" * 201}
    told = await web.ask("POST", "/integration-self-heal", web.token(Role.INGEST), json=body, headers=ASYNC)
    assert (told.status_code, told.json()["errors"][0]["pointer"]) == (422, "/ordering_key")
