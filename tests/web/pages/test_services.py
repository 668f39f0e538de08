"""Services in a browser without scripts: how each stands at a glance, its story, and what a person does about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from prunella.core.records import Credential
from prunella.engine import vitals
from prunella.web.auth import Role
from web.conftest import INGEST, Web
from web.person import Person

pytestmark = pytest.mark.anyio


async def report(web: Web, number: int, **changed: object) -> None:
    """Report a failure."""
    body = {"event_id": f"e-{number}", "service_name": "crm", "http_status": 503, "error_message": "down", **changed}
    answer = await web.ask("POST", "/integration-self-heal", INGEST, json=body, headers={"prefer": "respond-async"})
    assert answer.status_code == 202, answer.text


async def test_glance_and_story_show_gate_rate_counters_accounts_and_figures(web: Web) -> None:
    """What the gate says and why, the learned rate and its ceiling, tokens that need a person, failures of the day."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    empty = await ada.open("/services/crm")
    assert "Not limited per second" in empty.words
    assert "No tokens are stored" in empty.words
    now = web.clock.now()
    await report(web, 1)
    await report(web, 2, http_status=401, error_message="expired token")
    async with web.app.store.transaction() as tx:
        gate = await tx.gates.take("crm", now)
        await tx.gates.save(replace(gate, reason="9 network failures", down_since=now - timedelta(minutes=5), data=2))
        await tx.credentials.put(
            Credential(service="crm", account="shop-7", access_sealed=b"x", needs_person="invalid_grant: sign in again")
        )
    page = await ada.open("/services/crm")
    for told in ("invalid_grant: sign in again", "down since 5 min ago", "2 of 5 that disable it", "503"):
        assert told in page.words, told
    assert "needs a person" in (await ada.open("/services")).words
    assert (await ada.open("/services/nobody")).status == 404


async def test_rate_is_told_with_its_bounds(web: Web) -> None:
    """Learned now, configured, floor and ceiling come from the engine's own rate."""
    crm = replace(web.app.parts.services["crm"], rate_per_s=10.0)
    parts = replace(web.app.parts, services={"crm": crm})
    async with web.app.store.transaction() as tx:
        gate = await tx.gates.take("crm", web.clock.now())
        await tx.gates.save(replace(gate, rate_per_s=6.4, rate_since=web.clock.now()))
    (one,) = await vitals.all_of(parts)
    assert one.rate is not None
    assert (one.rate.now, one.rate.configured, one.rate.floor, one.rate.ceiling) == (6.4, 10.0, 1.0, 20.0)


async def test_error_rate_counts_what_was_reported_today(web: Web) -> None:
    """Failures and reported successes of 24 h; older ones are forgotten; without successes nothing is claimed."""
    await report(web, 1)
    web.clock.advance(25 * 3600)
    (one,) = await vitals.all_of(web.app.parts)
    assert (one.failures, one.error_rate) == (0, None)
    await report(web, 2)
    body = {"event_id": "s-1", "service_name": "crm", "outcome": "success"}
    told = await web.ask("POST", "/integration-self-heal", INGEST, json=body, headers={"prefer": "respond-async"})
    assert told.status_code in (200, 202), told.text
    (one,) = await vitals.all_of(web.app.parts)
    assert (one.failed, one.well, one.error_rate) == ({"network": 1}, 1, 0.5)


async def test_person_disables_and_enables_with_their_name(web: Web) -> None:
    """Each act with its reason, a second submit explained and harmless, all of it in the audit under the person's name."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    first = await ada.open("/services/crm")
    silent = await ada.fill(first, "/disable")
    assert (silent.status, "a reason is needed to disable a service" in silent.words) == (422, True)
    done = await ada.fill(first, "/disable", reason="they <i>migrate</i>")
    assert "crm is disabled" in done.words
    assert "they &lt;i&gt;migrate&lt;/i&gt;" in done.html
    assert {one.rpartition("/")[2] for one in done.actions} == {"enable", "probe", "pause"}
    twice = await ada.fill(first, "/disable", reason="they migrate")
    assert (twice.status, "is disabled already, by ada: they" in twice.words) == (409, True)
    back = await ada.fill(done, "/enable")
    assert "crm is enabled" in back.words
    paused = await ada.fill(back, "crm/pause", reason="inventory")
    resumed = await ada.fill(paused, "crm/resume")
    assert "crm is resumed" in resumed.words
    async with web.app.store.transaction() as tx:
        entries = [(one.actor, one.action) for one in await tx.audit.list(most=20, target="crm")][::-1]
    assert entries == [("ada", "gate.disable"), ("ada", "gate.enabled"), ("ada", "gate.pause"), ("ada", "gate.enabled")]


async def test_probe_is_audited_with_its_answer(web: Web) -> None:
    """Who asked, and how the service answered; the page says it."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.fill(await ada.open("/services/crm"), "/probe", reason="after the outage")
    assert page.status == 200
    assert "it is not well" in page.words
    assert "after the outage" in page.words
    async with web.app.store.transaction() as tx:
        (entry, *_) = [one for one in await tx.audit.list(most=20, target="crm") if one.action == "gate.probe"]
    assert entry.actor == "ada"
