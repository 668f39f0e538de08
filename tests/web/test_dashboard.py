"""Overview, incidents, entities and settings as a browser gets them, through their forms."""

from __future__ import annotations

import re
from typing import Any

import pytest

from prunella.core.states import RunState
from prunella.engine.report import Story
from prunella.web.auth import Role
from prunella.web.pages.story import steps_of
from store.making import at, entry, incident, run
from web.conftest import INGEST, Web
from web.market import Market
from web.test_pages import enter

pytestmark = pytest.mark.anyio


async def fail(web: Web, number: int, **fields: Any) -> str:
    """Report a failure; return its incident."""
    event = {"event_id": f"e{number}", "service_name": "crm", "http_status": 422, "error_message": f"odd {number}"}
    sent = {"authorization": f"Bearer {INGEST}", "prefer": "respond-async"}
    answer = await web.client.post("/integration-self-heal", json={**event, **fields}, headers=sent)
    return str(answer.json()["recovery_id"])


def hidden(page: str, name: str) -> str:
    """Return a hidden field's value."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return found[1]


async def test_overview_says_at_a_glance_whether_somebody_is_needed(web: Web) -> None:
    """Healthy with nothing broken; healing while the machine is at it; needs you once a person has to look."""
    csrf = await enter(web)
    assert "Healthy" in (await web.ask("GET", "/")).text
    incident = await fail(web, 1, http_status=503)
    assert "<h1>Healing</h1>" in (await web.ask("GET", "/")).text
    await web.ask("POST", f"/incidents/{incident}/escalate", data={"csrf": csrf, "reason": "too odd"})
    page = (await web.ask("GET", "/")).text
    assert "<h1>Needs you</h1>" in page
    assert "1 incident waits for a person" in page
    rates = (await web.ask("GET", "/rates?span=7d")).json()
    assert (len(rates["at"]), sum(rates["opened"])) == (28, 1)


async def test_incident_is_told_from_its_beginning_and_acted_on(web: Web) -> None:
    """Received, diagnosed and why; an act with its reason is the next step of the story."""
    csrf = await enter(web)
    incident = await fail(web, 1)
    page = (await web.ask("GET", f"/incidents/{incident}")).text
    assert re.search("Received.*Diagnosed", page, re.DOTALL)
    assert f"prunella explain {incident}" in page
    answer = await web.ask("POST", f"/incidents/{incident}/ack", data={"csrf": csrf, "reason": "<i>mine</i>"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/incidents/{incident}")
    page = (await web.ask("GET", f"/incidents/{incident}")).text
    assert "seen by cli" in page
    assert "&lt;i&gt;mine&lt;/i&gt;" in page
    refused = await web.ask("POST", f"/incidents/{incident}/ack", data={"reason": "no proof"})
    assert refused.status_code == 403


async def test_attempt_is_told_with_what_came_of_it_and_a_refusal_as_what_it_is(web: Web) -> None:
    """No attempt has failed before it begins; what is not tried is left to people."""
    noted = [
        entry(number, at=at(seconds), action=action)
        for number, (seconds, action) in enumerate(
            [(1, "replay.begun"), (3.1, "replay.settled"), (4, "incident.refuse"), (5, "incident.escalated")]
        )
    ]
    tried = run(started_at=at(0.9), ended_at=at(3), state=RunState.FAILED)
    told = steps_of(Story(incident(first_seen=at(0)), None, noted, [tried], None))
    chapters = [step.chapter for step in told]
    assert chapters == ["Received", "Diagnosed", "Begun", "Attempt 1", "Settled", "Left to people", "Left to people"]
    assert [step.tone for step in told[-2:]] == ["bad", "bad"]


async def test_state_that_does_not_fit_is_told_to_a_person(web: Web) -> None:
    """A button pressed too late answers with a page in the frame, not with JSON."""
    csrf = await enter(web)
    incident = await fail(web, 1)
    person = {"accept": "text/html"}
    for _ in range(2):
        answer = await web.ask("POST", f"/incidents/{incident}/suppress", data={"csrf": csrf}, headers=person)
    unknown = await web.ask("GET", "/incidents/none", headers=person)
    assert (answer.status_code, unknown.status_code) == (303, 404)
    assert "Sign out" in unknown.text
    gone = await web.ask("POST", "/runs/none/undo", data={"csrf": csrf}, headers=person)
    assert "Unknown run" in gone.text


async def test_person_resolves_what_nothing_else_can_prove(web: Web) -> None:
    """The button stands on the page of refused data; pressed, the story tells who said so and why, and it is gone."""
    csrf = await enter(web)
    incident = await fail(web, 1)
    assert f'action="/incidents/{incident}/resolve"' in (await web.ask("GET", f"/incidents/{incident}")).text
    said = {"csrf": csrf, "reason": "ordered anew by phone"}
    answer = await web.ask("POST", f"/incidents/{incident}/resolve", data=said)
    page = (await web.ask("GET", f"/incidents/{incident}")).text
    assert answer.status_code == 303
    assert [words in page for words in ("Resolved, on your word.", "ordered anew by phone", "/resolve")] == [
        True, True, False,
    ]  # fmt: skip


async def test_many_are_estimated_first_and_done_as_estimated(web: Web) -> None:
    """The estimate changes nothing; an order with an old estimate does nothing; a good one leaves its audit."""
    csrf = await enter(web)
    incidents = [await fail(web, number, error_code=f"E{number}", endpoint=f"/a{number}") for number in range(3)]
    page = (await web.ask("GET", "/incidents/many?act=ack&service=crm")).text
    count = len(set(incidents))
    assert f"Acknowledge {count} incident" in page
    assert "Acknowledge 1 incident" in (await web.ask("GET", "/incidents/many?act=ack&q=(e2)")).text
    order = {name: hidden(page, name) for name in ("made_at", "digest", "act", "service")}
    order |= {"csrf": csrf, "reason": "a known outage"}
    stale = await web.ask("POST", "/incidents/many", data={**order, "digest": "0" * 32})
    assert stale.status_code == 409
    done = await web.ask("POST", "/incidents/many", data=order)
    assert done.headers["location"] == "/incidents?service=crm"
    assert f"{count} acknowledged." in (await web.ask("GET", "/incidents?service=crm")).text
    async with web.app.store.transaction() as tx:
        assert {one.acknowledged_by for one in await tx.incidents.list(most=9)} == {"cli"}
        assert "incidents.ack" in {entry.action for entry in await tx.audit.list(most=20)}


async def test_many_are_resolved_but_for_those_with_requests(web: Web) -> None:
    """What a person says of many ends those that nothing waits of; the others stand, and are counted with why."""
    csrf = await enter(web)
    over = [await fail(web, number, error_code=f"E{number}", endpoint=f"/a{number}") for number in range(2)]
    await fail(web, 2, http_status=503, endpoint="/a2", method="POST", payload={"order": 2})
    page = (await web.ask("GET", "/incidents/many?act=resolve&service=crm")).text
    assert "Resolve 3 incidents" in page
    order = {name: hidden(page, name) for name in ("made_at", "digest", "act", "service")}
    done = await web.ask("POST", "/incidents/many", data={**order, "csrf": csrf, "reason": "ordered anew by phone"})
    assert done.status_code == 303
    said = (await web.ask("GET", "/incidents?service=crm")).text
    assert "2 resolved, on your word, 1 still with requests in a lane or in quarantine" in said
    async with web.app.store.transaction() as tx:
        assert {one.id for one in await tx.incidents.list(most=9) if not one.is_open} == set(over)
        assert "incidents.resolve" in {entry.action for entry in await tx.audit.list(most=20)}


async def test_filters_are_those_of_the_api(web: Web) -> None:
    """A filter of the list is a filter of the API; an unknown word is refused with those that are allowed."""
    await enter(web)
    incident = await fail(web, 1)
    asked = await web.ask("GET", f"/api/v1/incidents/{incident}")
    category = asked.json()["category"]
    other = "auth" if category != "auth" else "data"
    assert incident in (await web.ask("GET", f"/incidents?state=open_any&category={category}")).text
    assert "No incident of this kind" in (await web.ask("GET", f"/incidents?category={other}")).text
    other = (await web.ask("GET", "/incidents?service=nobody&since=2026-01-31T09:30&severity=HIGH&q=E%25")).text
    assert "<option selected>nobody</option>" in other, "a filter that counts is seen, also one that is not offered"
    assert "No incident of this kind" in other
    assert (await web.ask("GET", "/incidents?since=yesterday")).status_code == 422
    wrong = await web.ask("GET", "/incidents?state=broken")
    assert (wrong.status_code, "open_any" in wrong.text) == (422, True)


async def test_stuck_thing_is_healed_from_its_page(mart: Market) -> None:
    """What is stuck stands on its page with its rule; the form heals it through the engine."""
    mart.order(1)
    page = (await mart.ask("GET", "/entities/order")).text
    assert "STUCK_PENDING" in page
    answer = await mart.ask("POST", "/entities/order/heal", data={"key": "1", "action": "reassign_vendor"})
    assert answer.status_code == 303, answer.text
    assert mart.status(1) == "CONFIRMED"
    assert "reassign_vendor" in (await mart.ask("GET", "/entities/order")).text
    assert (await mart.ask("GET", "/entities")).headers["location"] == "/entities/order"
    ran = await mart.ask("POST", "/entities/order/run", data={})
    assert ran.status_code == 303


async def test_key_is_shown_once_and_can_be_revoked(web: Web) -> None:
    """An ADMIN makes a key and sees it in the answer only; others see neither keys nor configuration they may not."""
    csrf = await enter(web)
    made = await web.ask("POST", "/settings/keys", data={"csrf": csrf, "name": "shop", "role": "INGEST", "days": "9"})
    found = re.search(r"prunella_live_[A-Za-z0-9_-]+", made.text)
    assert found is not None
    page = (await web.ask("GET", "/settings")).text
    assert found[0] not in page
    assert "service.listen" in page
    revoke = re.search(r'action="(/settings/keys/[^"]+/revoke)"', page)
    assert revoke is not None
    await web.ask("POST", revoke[1], data={"csrf": csrf})
    assert "revoked by cli" in (await web.ask("GET", "/settings")).text
    wrong = await web.ask("POST", "/settings/keys", data={"csrf": csrf, "name": "x", "role": "KING"})
    assert wrong.status_code == 422
    await enter(web, Role.VIEWER)
    seen = (await web.ask("GET", "/settings")).text
    assert "A new key" not in seen
    assert "service.listen" not in seen
