"""Known issues over HTTP: whole with their numbers, changed at the version that was seen, and handed on as packs."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from prunella.web.auth import Role
from web.conftest import Web
from web.learned import LUNCH, filled, with_warm_up

pytestmark = pytest.mark.anyio

ROOM = "/api/v1/known-issues"


FIGURES = ("expected", "lower_bound", "lift", "lift_low", "lift_high")


async def post(web: Web, path: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
    """Send a change as an operator."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await web.ask("POST", f"{ROOM}{path}", web.token(Role.OPERATIONS), json=body, headers=sent)


async def read(web: Web, path: str = "") -> Any:
    """Read as a viewer."""
    answer = await web.ask("GET", f"{ROOM}{path}", web.token(Role.VIEWER))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_issue_is_shown_with_the_numbers_of_its_remedies(web: Web) -> None:
    """Tried, verified, in vain, undone, expected, bound, lift, and why it acts; its incidents and what may be bound."""
    incident_id = await filled(web.app)
    shown = await read(web, "/crm.lunch")
    warm, wait = shown["records"]
    assert {name: value for name, value in warm.items() if name not in FIGURES} == {
        "remedy": "warm_up",
        "bound": True,
        "acts_at": "L1",
        "trusted": True,
        "tried": 4,
        "verified": 3,
        "ineffective": 1,
        "undone": 0,
        "why": "bound by ada",
    }
    assert (warm["expected"], warm["lower_bound"]) == (pytest.approx(0.667, abs=1e-3), pytest.approx(0.301, abs=1e-3))
    assert warm["lift"] == pytest.approx(4 / 6 - 2 / 5, abs=1e-3)
    assert warm["lift_low"] < 0 < warm["lift_high"]
    assert (wait["remedy"], wait["bound"], wait["tried"]) == ("wait", False, 3)
    assert shown["occurrences"] == 4
    assert [(one["id"], one["state"]) for one in shown["incidents"]] == [(incident_id, "open")]
    (choice,) = [one for one in shown["choices"] if one["remedy"] == "warm_up"]
    assert choice["parameters"] == [
        {"name": "node", "type": "text", "required": True},
        {"name": "times", "type": "whole number", "required": False},
        {"name": "hard", "type": "true or false", "required": False},
    ]
    (listed,) = (await read(web, "?origin=person"))["items"]
    assert listed["remedies"][0]["verified"] == 3
    (candidate,) = (await read(web, "/candidates"))["items"]
    assert (candidate["occurrences"], candidate["confidence"], candidate["refused"]) == (2, 0.6, None)
    assert candidate["pattern"].startswith("^the")


FILTERED = {
    "state=active&origin=person": 1,
    "state=resolved": 0,
    "has_remedy=true&service=crm": 1,
    "has_remedy=false&service=crm": 0,
    "kind=network.dns&origin=person": 0,
    "q=LUNCH": 1,
    "severity=MEDIUM&origin=person": 1,
}


async def test_list_is_filtered(web: Web) -> None:
    """Each filter keeps what it means; wrong values are refused."""
    await filled(web.app)
    found = {query: len((await read(web, f"?{query}"))["items"]) for query in FILTERED}
    assert found == FILTERED
    assert (await web.ask("GET", f"{ROOM}?state=open", web.token(Role.VIEWER))).status_code == 422


async def test_list_comes_in_pages_that_hold_everything_once(web: Web) -> None:
    """What is shipped and what stands in the tables in one order; candidates likewise."""
    await filled(web.app)
    whole = [one["id"] for one in (await read(web, "?limit=500"))["items"]]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await read(web, f"?limit=60{cursor and '&cursor=' + cursor}")
        found += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert found == whole == sorted(set(whole))
    assert len(whole) > 140


async def test_change_is_made_at_the_version_that_was_seen(web: Web) -> None:
    """A stale If-Match is refused; a shipped issue begins at version 0; the answer says where it stands then."""
    token = web.token(Role.OPERATIONS)
    path = f"{ROOM}/stripe.webhook-too-old"
    shown = await web.ask("GET", path, token)
    assert shown.headers["etag"] == '"0"'
    changed = await web.ask("PATCH", path, token, json={"severity": "LOW"}, headers={"if-match": '"0"'})
    assert (changed.status_code, changed.json()["severity"], changed.headers["etag"]) == (200, "LOW", '"1"')
    stale = await web.ask("PATCH", path, token, json={"severity": "HIGH"}, headers={"if-match": '"0"'})
    assert (stale.status_code, stale.json()["title"]) == (412, "Not the version you have seen")
    refused = await web.ask("PATCH", path, token, json={"pattern": "(a+)+$"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/pattern")
    assert (await web.ask("PATCH", f"{ROOM}/nobody", token, json={})).status_code == 404


async def test_issue_is_made_once_under_a_key(web: Web) -> None:
    """The same key gives the same answer; without it the id is taken; unsafe words are refused with the reason."""
    first = await post(web, "", LUNCH, idempotency_key="k1")
    again = await post(web, "", LUNCH, idempotency_key="k1")
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    taken = await post(web, "", LUNCH)
    assert (taken.status_code, taken.json()["title"]) == (409, "The id is taken")
    evil = await post(web, "", {"pattern": "(a+)+$"})
    assert (evil.status_code, "repeated group" in evil.json()["detail"]) == (422, True)


async def test_remedy_is_bound_and_let_go(web: Web) -> None:
    """Values of declared types only; the level is the person's; what is unknown or misfits is refused with the reason."""
    with_warm_up(web.app)
    await post(web, "", LUNCH)
    body = {"remedy": "warm_up", "parameters": {"node": "n1", "times": 3, "hard": True}, "level": "L0"}
    bound = (await post(web, "/crm.lunch/bind", body)).json()
    (one,) = bound["remedies"]
    assert (one["parameters"], one["level"], one["acts_at"], one["trusted"]) == (body["parameters"], "L0", "L0", True)
    for wrong, words in (
        ({"parameters": {"node": 5}}, "node is '5'; it must be text"),
        ({"parameters": {}}, "warm_up needs node"),
        ({"remedy": "reboot"}, "there is no remedy 'reboot'"),
        ({"remedy": "refresh_auth", "parameters": {}}, "has no oauth section"),
        ({"level": "L9"}, "/level"),
    ):
        refused = await post(web, "/crm.lunch/bind", body | wrong)
        assert (refused.status_code, words in refused.text) == (422, True), refused.text
    parted = await post(web, "/crm.lunch/unbind", {"remedy": "warm_up"})
    assert parted.json()["remedies"] == []
    assert (await post(web, "/nobody/bind", body)).status_code == 404


async def test_issue_is_ended_opened_joined_and_divided(large: Web) -> None:
    """On PostgreSQL, too: each act answers with the issue as it stands, and what can't be is refused in words."""
    web = large
    await filled(web.app)
    over = await post(web, "/crm.lunch/resolve", {"reason": "a cook"})
    assert (over.json()["state"], over.json()["resolved_by"]) == ("resolved", over.json()["resolved_by"])
    twice = await post(web, "/crm.lunch/resolve", {})
    assert (twice.status_code, "is resolved already" in twice.json()["detail"]) == (409, True)
    assert (await post(web, "/crm.lunch/reopen", {})).json()["state"] == "active"
    await post(web, "", {"id": "crm.noon", "pattern": "gone to lunch"})
    target = await post(web, "/crm.lunch/merge", {"into": "crm.noon"})
    assert (target.json()["id"], target.json()["occurrences"], target.json()["joined"]) == (
        "crm.noon",
        4,
        ["crm.lunch"],
    )
    assert {one["remedy"]: one["verified"] for one in target.json()["records"]} == {"warm_up": 3, "wait": 1}
    alone = await post(web, "/crm.lunch/split", {})
    assert (alone.json()["alias_of"], alone.json()["occurrences"]) == (None, 4)
    assert (await read(web, "/crm.noon"))["occurrences"] == 0
    assert (await post(web, "/crm.lunch/split", {})).status_code == 409
    second = await post(web, "/crm.lunch/split", {"pattern": "closed for lunch until Monday", "id": "crm.monday"})
    assert (second.json()["id"], second.json()["service"]) == ("crm.monday", "crm")
    assert (await post(web, "/crm.lunch/split", {"pattern": "lunch"})).status_code == 422
    assert (await post(web, "/crm.lunch/merge", {"into": "nobody"})).status_code == 422


async def test_pack_comes_in_whole_or_with_every_mistake_named(web: Web) -> None:
    """Line, entry and reason; ids that are taken are named; what goes out comes in again and changes nothing."""
    evil = await post(
        web, "/import", {"text": "- {id: a, pattern: fine words}\n- {id: b, pattern: '(a+)+$'}\n- {id: c}\n"}
    )
    assert evil.status_code == 422
    assert [one["detail"].split(": ")[0] for one in evil.json()["errors"]] == ["pack:2:20", "pack:3:3"]
    assert "repeated group" in evil.text
    text = "- {id: crm.lunch, pattern: closed for lunch, remedy: refresh_auth}\n"
    came = await post(web, "/import", {"text": text})
    assert (came.json()["added"], came.json()["notes"]) == (["crm.lunch"], [])
    assert (await read(web, "/crm.lunch"))["remedies"][0]["acts_at"] == "L2"
    other = {"text": "- {id: crm.lunch, pattern: gone to lunch}\n"}
    taken = await post(web, "/import", other)
    assert (taken.status_code, "crm.lunch" in taken.json()["detail"]) == (409, True)
    assert (await post(web, "/import", other | {"replace": True})).json()["changed"] == ["crm.lunch"]
    pack = await read(web, "/export")
    assert pack["count"] > 140
    again = (await post(web, "/import", {"text": pack["text"]})).json()
    assert (again["added"], again["changed"], len(again["alone"])) == ([], [], pack["count"])
    assert (await read(web, "/export?ids=crm.lunch"))["count"] == 1
    assert (await web.ask("GET", f"{ROOM}/export?ids=nobody", web.token(Role.VIEWER))).status_code == 422
