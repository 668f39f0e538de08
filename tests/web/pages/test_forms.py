"""Every form of every page: meant by the person who sends it, by a role that may, and harmless when it is sent twice."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import iter_route_contexts

from prunella.web.auth import Role
from prunella.web.pages.forms import SAID
from web.conftest import Web
from web.market import HIDE
from web.person import Person

pytestmark = pytest.mark.anyio

FORMS = (
    "/approvals/{approval_id}/approve",
    "/approvals/{approval_id}/reject",
    "/services/{name}/{act}",
    "/operations/estimate",
    "/operations/many/{act}",
    "/operations/{operation_id}/{act}",
    "/procedures/{name}/dry-run",
    "/procedures/{name}/run",
    "/procedures/{name}/{act}",
    "/known-issues/make",
    "/known-issues/try",
    "/known-issues/{issue_id}/{act}",
    "/notifications/{notification_id}/acknowledge",
    "/notifications/{notification_id}/resend",
    "/audit/check",
)


def sent_to(path: str) -> str:
    """Return an address of a form."""
    act = "cancel" if "operations" in path else ("resolve" if "known-issues" in path else "pause")
    for name, value in {"{act}": act, "{name}": "crm" if "services" in path else HIDE}.items():
        path = path.replace(name, value)
    return re.sub(r"{\w+}", "nobody", path)


async def said_so_far(web: Web) -> int:
    """Count what stands in the audit."""
    async with web.app.store.transaction() as tx:
        return len(await tx.audit.list(most=99))


async def test_every_form_is_known_here(web: Web) -> None:
    """A new form of these pages stands in the list above, or this fails."""
    rooms = [[path.split("/")[1]] for path in FORMS]
    found = {
        route.path
        for route in iter_route_contexts(web.api.routes)
        if "POST" in (route.methods or ()) and (route.path or "").split("/")[1:2] in rooms
    }
    assert found == set(FORMS)


async def test_form_is_refused_unless_it_was_meant(web: Web) -> None:
    """Without the page's token, with another session's: 403, and nothing stands in the audit."""
    ada = await Person.enter(web.client, web.gatehouse, Role.ADMIN)
    bob = await Person.enter(web.client, web.gatehouse, Role.ADMIN, "bob")
    theirs = web.gatehouse.csrf(bob.cookies["prunella_session"])
    before = await said_so_far(web)
    for path in FORMS:
        assert (await ada.request("POST", sent_to(path), data={"reason": "x"})).status_code == 403, path
        assert (await ada.request("POST", sent_to(path), data={"csrf": theirs, "reason": "x"})).status_code == 403, path
    assert await said_so_far(web) == before


async def test_form_is_refused_to_who_only_looks(web: Web) -> None:
    """A VIEWER is refused in words, whatever they send; who has not signed in is asked to."""
    vera = await Person.enter(web.client, web.gatehouse, Role.VIEWER, "vera")
    csrf = web.gatehouse.csrf(vera.cookies["prunella_session"])
    before = await said_so_far(web)
    for path in FORMS:
        refused = await vera.request("POST", sent_to(path), data={"csrf": csrf, "reason": "x"})
        assert (refused.status_code, "may not do this" in refused.text) == (403, True), path
        assert (await web.ask("POST", sent_to(path), headers={"accept": "text/html"})).status_code == 401, path
    assert await said_so_far(web) == before


async def test_viewer_sees_what_they_may_and_no_form(web: Web) -> None:
    """DECISIONS 22: services and procedures without forms; plans, payloads, messages and the audit are not theirs."""
    vera = await Person.enter(web.client, web.gatehouse, Role.VIEWER, "vera")
    for path in ("/services", "/services/crm", "/procedures", "/known-issues", "/known-issues/stripe.webhook-too-old"):
        page = await vera.open(path)
        assert (page.status, page.actions) == (200, set())
    for path in ("/approvals", "/operations", "/notifications", "/audit", "/audit/export"):
        assert (await vera.open(path)).status == 403


async def test_message_is_told_once_and_to_nobody_else(web: Web) -> None:
    """After the redirect the page says what was done; after a reload no more; words of a stranger are not repeated."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.open("/services/crm")
    answer = await ada.send(page.form("crm/pause"), reason="inventory")
    assert (answer.status_code, answer.headers["location"]) == (303, "/services/crm")
    cookie = ada.cookies[SAID]
    assert "crm is paused" in (await ada.open("/services/crm")).words
    assert SAID not in ada.cookies
    assert "What arrives for it waits until somebody resumes it." not in (await ada.open("/services/crm")).words
    bob = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS, "bob")
    for planted in (cookie, "SGVsbG8.0", "nonsense", "." + "0" * 64, "ä.ß"):
        bob.cookies[SAID] = planted.encode("ascii", "ignore").decode()
        assert 'role="status"' not in (await bob.open("/services")).html
