"""People act in a real browser: a plan is approved and seen healed, a service is shut and opened, scripts or none."""

from __future__ import annotations

import asyncio

import pytest
from playwright.sync_api import expect

from browser.conftest import Open
from browser.world import World
from prunella.core.issues import KnownIssue
from prunella.engine import orders
from prunella.engine.learning import pairing
from prunella.web.auth import Role
from web.market import HIDE

pytestmark = pytest.mark.slow


def visible(served: World) -> int:
    """Count the products out of stock that everybody still sees."""
    ((count,),) = served.market.shop.rows("SELECT count(*) FROM products WHERE stock = 0 AND visible = 1")
    return int(count)


@pytest.fixture
def proposed(served: World) -> None:
    """Put the products out of stock back on show, and let the plan for them be proposed."""
    served.market.shop.run("UPDATE products SET visible = 1")
    for _ in range(40):  # what was healed this very moment may come back only a little later
        if served.run(orders.run_now(served.app.parts, HIDE, by="prunella")).plan is not None:
            return
        served.run(asyncio.sleep(0.25))
    pytest.fail("the plan was never proposed")


def test_rejection_asks_for_a_reason(open_page: Open, served: World, proposed: None) -> None:
    """The browser asks for it before anything is sent; the plan still waits."""
    page = open_page("/approvals", role=Role.OPERATIONS)
    card = page.locator("article.plan").first
    card.locator("button.danger").click()
    assert page.evaluate("document.activeElement.name") == "reason"
    page.reload()
    expect(page.locator("h1")).to_have_text("1 plan waits for an answer")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_plan_is_approved_and_seen_healed(open_page: Open, served: World, proposed: None, scripts: bool) -> None:
    """From the first page to a healed incident: read the difference, approve, run, and read that it is verified."""
    page = open_page("/", role=Role.OPERATIONS, scripts=scripts)
    page.click("nav >> text=Approvals")
    card = page.locator("article.plan").first
    expect(card).to_contain_text("2 targets")
    expect(card.locator("del").first).to_have_text("1")
    expect(card.locator("ins").first).to_have_text("0")
    expect(card).to_contain_text("UPDATE")
    card.locator("text=Approve").click()
    expect(page.locator("[role=status]").first).to_contain_text("Approved. Procedure hide-zero-stock")
    assert visible(served) == 2
    page.goto(served.url + f"/procedures/{HIDE}")
    page.click("text=Run now")
    expect(page.locator("[role=status]").first).to_contain_text("healed 1")
    assert visible(served) == 0
    page.reload()
    expect(page.locator("[role=status].told")).to_have_count(0)
    page.click("table[aria-label='Incidents of this procedure'] tbody a >> nth=0")
    expect(page.locator("main")).to_contain_text("resolved")


def test_service_is_paused_by_keyboard_and_opened_again(open_page: Open, served: World) -> None:
    """Tab to the act, open it, say why, press Enter; what the machine says of it stands on the page at once."""
    page = open_page("/services/crm", role=Role.OPERATIONS)
    page.locator("summary:has-text('Pause')").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("inventory night")
    page.keyboard.press("Enter")
    expect(page.locator("[role=status]").first).to_contain_text("crm is paused")
    expect(page.locator("main")).to_contain_text("inventory night")
    page.locator("summary:has-text('Resume')").click()
    page.locator("details[open] button:has-text('Resume')").click()
    expect(page.locator("[role=status]").first).to_contain_text("crm is resumed")


def test_many_are_cancelled_after_an_estimate_without_a_script(open_page: Open, served: World) -> None:
    """Filter, estimate, name it, do it; the page says how many, and goes back to the list."""
    page = open_page("/operations?service=warehouse&state=waiting", role=Role.OPERATIONS, scripts=False)
    page.click("text=Estimate a quarantine")
    expect(page.locator("h1")).to_contain_text("operations?")
    page.fill("#name", "stocktaking")
    page.fill("form.card input[name=reason]", "they count today")
    page.click("form.card button")
    expect(page.locator("[role=status]").first).to_contain_text("stocktaking: ")
    page.goto(served.url + "/audit?target=stocktaking")
    expect(page.locator("table[aria-label=Audit]")).to_contain_text("they count today")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_remedy_is_bound_where_the_incident_is_read(open_page: Open, served: World, scripts: bool) -> None:
    """From an incident of a known issue without a remedy: say what it needs, press once, and it stands by."""
    parts = served.app.parts
    if served.run(issue_of(served, "crm.lunch")).binding("warm_up") is not None:
        served.run(pairing.unbind(parts, "crm.lunch", "warm_up", by="ada"))
    page = open_page(f"/incidents/{served.ids['known']}", role=Role.OPERATIONS, scripts=scripts)
    page.click("text=bind one")
    page.fill("form.bind input[name='set.node']", "n7")
    page.click("text=Bind warm_up")
    expect(page.locator("[role=status]").first).to_contain_text("warm_up stands by now")
    expect(page.locator("#known")).to_contain_text("bound by")
    page.click("#known a")
    expect(page.locator("table[aria-label='What became of its remedies']")).to_contain_text("node=n7")


async def issue_of(served: World, issue_id: str) -> KnownIssue:
    """Return an issue as it stands."""
    async with served.app.parts.store.transaction() as tx:
        found = await tx.learning.issue(issue_id)
    assert found is not None
    return found
