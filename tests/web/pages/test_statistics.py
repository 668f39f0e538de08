"""What healing is worth, as the page and the API tell it: one reading behind both."""

from __future__ import annotations

from datetime import timedelta

import pytest

from engine.test_effects import case, known
from prunella.core.issues import Evidence
from prunella.core.states import IncidentState, RunState
from prunella.engine.effects import FRESH_S
from prunella.web.auth import Role
from web.conftest import Web
from web.person import Person

pytestmark = pytest.mark.anyio

AT = "/api/v1/metrics/self-healing"


async def written(web: Web) -> None:
    """Two incidents of the crm: one fixed at the second attempt, one left to people; and what is known of a remedy."""
    began = web.clock.now() - timedelta(hours=2)
    async with web.app.store.transaction() as tx:
        await case(tx, 1, ("replay", RunState.FAILED), ("replay", RunState.VERIFIED), began=began, well_s=90)
        await case(tx, 2, ("replay", RunState.FAILED), began=began, state=IncidentState.ESCALATED)
        await known(tx, "issue:<b>cache</b>", "invalidate_cache", Evidence(tried=2, verified=1))


async def test_page_tells_what_each_part_is_worth(web: Web) -> None:
    """Tiles, services, remedies, known issues, times and targets; nothing from outside becomes markup."""
    viewer = await Person.enter(web.client, web.gatehouse, Role.VIEWER)
    assert "Nothing happened in this time." in (await viewer.open("/statistics")).words
    await written(web)
    web.clock.advance(FRESH_S)
    page = await viewer.open("/statistics?span=24h")
    for told in (
        "1 of 2 auto-fixed",
        "50.0 % of those tried and settled",
        "1 min 30 s to recover",
        "0.2 h saved, if each takes 15 min",
        "crm",
    ):
        assert told in page.words, told
    assert "helped 1 of 2 incidents" in page.words
    assert "invalidate cache" in page.words
    assert "&lt;b&gt;cache" in page.html
    assert "/incidents?service=crm" in page.links


async def test_route_spells_the_documents_names(web: Web) -> None:
    """Document C's six, document B's by service, what is beyond them; a filter by service; days within a year."""
    await written(web)
    told = (await web.ask("GET", AT, web.token(Role.VIEWER))).json()
    assert {name: told[name] for name in ("total_errors", "auto_fixed", "circuit_breaker_opens", "escalations")} == {
        "total_errors": 0,
        "auto_fixed": 1,
        "circuit_breaker_opens": 0,
        "escalations": 0,
    }
    assert (told["auto_fix_success_rate"], told["auto_fixed_per_100_errors"]) == (50.0, None)
    assert told["avg_recovery_time_ms"] == pytest.approx(90_000)
    assert told["toil"] == {"hours_saved": 0.25, "assumed_minutes_per_incident": 15.0}
    assert told["times"]["to_verify"]["p95_s"] == pytest.approx(69.0)
    crm = told["services"]["crm"]
    assert (crm["recovery_success_rate"], crm["disabled"], crm["llm"]["asked"]) == (50.0, False, 0)
    (replay,) = told["remedies"]
    assert (replay["tried"], replay["failed"], replay["futile"]) == (3, 2, 0)
    assert told["known_issues"][0]["effectiveness"] == 50.0
    other = (await web.ask("GET", f"{AT}?service=shop&days=30", web.token(Role.VIEWER))).json()
    assert (other["days"], other["services"], other["known_issues"]) == (30, {}, [])
    for wrong in ("days=0", "days=366", "service=", "year=1"):
        assert (await web.ask("GET", f"{AT}?{wrong}", web.token(Role.VIEWER))).status_code == 422


async def test_gauges_show_the_last_day(web: Web) -> None:
    """The same figures for Prometheus; without the database none stands there."""
    await written(web)
    page = (await web.ask("GET", "/metrics")).text
    for line in (
        'prunella_auto_fixed_24h{service="crm"} 1.0',
        'prunella_auto_fix_tried_24h{service="crm"} 2.0',
        'prunella_escalations_24h{service="crm"} 0.0',
        'prunella_remedy_attempts_24h{effect="failed",remedy="replay"} 2.0',
        'prunella_remedy_regressions_24h{remedy="replay"} 0.0',
        "prunella_toil_saved_hours_24h 0.25",
    ):
        assert line in page, line
