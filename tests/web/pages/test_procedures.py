"""Procedures in a browser without scripts: schedule, figures and limits, the plan of a dry run, run now, pause."""

from __future__ import annotations

import pytest

from prunella.web.auth import Role
from web.market import HIDE, ORDERS, Market
from web.person import Person

pytestmark = pytest.mark.anyio


async def test_dry_run_shows_the_plan_and_changes_nothing(mart: Market) -> None:
    """What it found, what the rules say, targets, difference and SQL; nobody who only looks sees rows."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    page = await ada.open(f"/procedures/{HIDE}")
    for told in ("at most 500", "at most 20 %", "10 min per target", "It has not run yet"):
        assert told in page.words, told
    shown = await ada.fill(page, "/dry-run")
    for told in ("What it would do now", "The rules say propose", "2 targets", "1 → 0", "UPDATE"):
        assert told in shown.words, told
    assert (await mart.get("/api/v1/approvals"))["items"] == []
    vera = await Person.enter(mart.client, mart.gatehouse, Role.VIEWER, "vera")
    looked = await vera.open(f"/procedures/{HIDE}")
    assert (looked.status, looked.actions) == (200, set())


async def test_person_runs_it_now_and_reads_the_figures(mart: Market) -> None:
    """What came of it is said once and stays in the history; the run is audited with the person's name."""
    mart.order(5)
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    first = await ada.open(f"/procedures/{ORDERS}")
    ran = await ada.fill(first, "/run")
    assert "It ran: found 1, healed 1" in ran.words
    again = await ada.fill(first, "/run")  # sent twice: a run that finds nothing
    assert "It ran: found 0" in again.words
    assert mart.status(5) == "CONFIRMED"
    assert "procedure.finished" in again.words
    entries = (await mart.get(f"/api/v1/audit?target={ORDERS}"))["items"]
    assert ("ada", "procedure.run") in {(one["actor"], one["action"]) for one in entries}
    listed = await ada.open("/procedures")
    assert "found 0" in listed.words
    assert "every 5 min" in listed.words


async def test_pause_holds_until_somebody_resumes(mart: Market) -> None:
    """A pause needs a reason; while it lasts a run is refused in words; resumed twice is explained."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    first = await ada.open(f"/procedures/{HIDE}")
    assert (await ada.fill(first, f"/{HIDE}/pause")).status == 422
    paused = await ada.fill(first, f"/{HIDE}/pause", reason="inventory")
    assert "paused by ada" in paused.words
    refused = await ada.fill(paused, "/run")
    assert (refused.status, "or is paused" in refused.words) == (409, True)
    resumed = await ada.fill(paused, f"/{HIDE}/resume")
    assert "hide-zero-stock runs again" in resumed.words
    assert (await ada.fill(paused, f"/{HIDE}/resume")).status == 409
    assert (await ada.open("/procedures/nobody")).status == 404
