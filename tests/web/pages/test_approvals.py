"""Plans that wait for a person, in a browser without scripts: all that an answer needs, and what each answer leads to."""

from __future__ import annotations

import pytest

from prunella.runner.local import LocalRunner
from prunella.web.auth import Role
from prunella.web.pages.approvals import difference
from web.market import HIDE, Market
from web.person import Person

pytestmark = pytest.mark.anyio


async def proposed(mart: Market) -> str:
    """Let the plan for the products out of stock be proposed; return its approval's id."""
    await mart.post(f"/api/v1/procedures/{HIDE}/run")
    (approval,) = (await mart.get("/api/v1/approvals?state=waiting"))["items"]
    return str(approval["id"])


def hidden(mart: Market) -> int:
    """Count the products that nobody sees."""
    ((count,),) = mart.shop.rows("SELECT count(*) FROM products WHERE visible = 0")
    return int(count)


async def test_person_approves_what_the_card_shows(mart: Market) -> None:
    """What, why, how far, before and after, SQL; the answer is bound to the digest and stands under the person's name."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    assert "No plan waits" in (await ada.open("/approvals")).words
    approval = await proposed(mart)
    page = await ada.open("/approvals")
    for told in ("1 plan waits", "2 targets", " % of the table", "UPDATE", "expires", "1 → 0", "Why:"):
        assert told in page.words
    after = await ada.fill(page, f"{approval}/approve")
    assert "Approved. Procedure hide-zero-stock looks again now" in after.words
    assert "Approved by ada" in after.words
    assert "Approved. Procedure" not in (await ada.open(f"/approvals/{approval}")).words  # said once
    assert isinstance(mart.app.runner, LocalRunner)
    await mart.post(f"/api/v1/procedures/{HIDE}/run")
    assert hidden(mart) == 2
    assert "carried out" in (await ada.open(f"/approvals/{approval}")).words
    trace = (await mart.get(f"/api/v1/audit?target={HIDE}"))["items"]
    assert ("ada", "approval.approved") in {(one["actor"], one["action"]) for one in trace}


async def test_rejection_needs_a_reason_and_leaves_it_to_people(mart: Market) -> None:
    """Without a reason nothing is done and the page says so; with one the plan ends and a second answer is explained."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    approval = await proposed(mart)
    page = await ada.open(f"/approvals/{approval}")
    silent = await ada.fill(page, "/reject", reason="  ")
    assert (silent.status, "a reason is needed to reject a plan" in silent.words) == (422, True)
    done = await ada.fill(page, "/reject", reason="the <b>shop</b> sells them")
    assert "Rejected. What procedure hide-zero-stock found is left to people." in done.words
    assert "the &lt;b&gt;shop&lt;/b&gt; sells them" in done.html
    for again in ("/approve", "/reject"):  # the page from before is sent once more
        late = await ada.fill(page, again, reason="again")
        assert late.status == 409
        assert "only one that waits can be answered" in late.words
        assert "You have rejected this plan already" in late.words
    assert hidden(mart) == 0


async def test_what_a_plan_did_is_undone_from_its_incident(mart: Market) -> None:
    """Where a machine can put it back the attempt has a button; rows that have moved since are left, and named."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    approval = await proposed(mart)
    await ada.fill(await ada.open(f"/approvals/{approval}"), "/approve")
    await mart.post(f"/api/v1/procedures/{HIDE}/run")
    mart.shop.run("UPDATE products SET visible = 7 WHERE id = 1")
    (incident,) = (await mart.get(f"/api/v1/incidents?procedure={HIDE}"))["items"]
    page = await ada.open(f"/incidents/{incident['id']}")
    assert f"prunella explain {incident['id']}" in page.words
    undone = await ada.fill(page, "/undo")
    assert "1 row put back; 1 was left as it is" in undone.words
    assert hidden(mart) == 0
    assert not any(one.endswith("/undo") for one in undone.actions)


async def test_second_of_two_people_is_told_who_was_quicker(mart: Market) -> None:
    """Both looked at one plan: the second hears whose answer stands, and that theirs changed nothing."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS)
    bob = await Person.enter(mart.client, mart.gatehouse, Role.OPERATIONS, "bob")
    approval = await proposed(mart)
    seen = await bob.open(f"/approvals/{approval}")
    await ada.fill(await ada.open(f"/approvals/{approval}"), "/approve")
    late = await bob.fill(seen, "/reject", reason="not on a Friday")
    assert late.status == 409
    assert "ada was quicker, and has approved this plan already" in late.words
    assert "Your answer changed nothing." in late.words
    assert not late.actions
    async with mart.app.store.transaction() as tx:
        found = await tx.approvals.get(approval)
    assert found is not None
    assert (found.state.value, found.decided_by) == ("approved", "ada")


async def test_superseded_plan_is_explained_and_leads_to_the_one_that_stands(mart: Market) -> None:
    """The world changed: the old card can't be answered, says why, and links the plan that can."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.ADMIN)
    old = await proposed(mart)
    seen = await ada.open(f"/approvals/{old}")
    mart.shop.run("UPDATE products SET stock = 0 WHERE id = 7")
    new = await proposed(mart)
    late = await ada.fill(seen, "/approve")
    assert late.status == 409
    assert "This plan no longer fits." in late.words
    assert f"/approvals/{new}" in late.links
    assert not late.actions
    assert (await ada.fill(await ada.open(f"/approvals/{new}"), "/approve")).status == 200


async def test_answer_to_another_digest_is_refused(mart: Market) -> None:
    """What was approved is what was shown: a digest of anything else changes nothing, and the plan still waits."""
    ada = await Person.enter(mart.client, mart.gatehouse, Role.ADMIN)
    page = await ada.open(f"/approvals/{await proposed(mart)}")
    wrong = await ada.fill(page, "/approve", digest="0" * 32)
    assert (wrong.status, "look at the plan again" in wrong.words) == (409, True)
    assert any(one.endswith("/approve") for one in wrong.actions)


def test_difference_pairs_rows_and_says_which_go() -> None:
    """Rows stand side by side, what is not written stays; deleted rows go; what can't be paired is not made up."""
    changed = difference({"before": [{"id": 1, "n": 2}], "after": [{"id": 1, "n": 3}], "unknown_until_run": False})
    assert changed is not None
    assert [[cell.changes for cell in row] for row in changed.rows] == [[False, True]]
    gone = difference({"before": [{"id": 1}], "after": [], "unknown_until_run": False})
    assert gone is not None
    assert gone.gone
    assert difference({"before": [], "after": [], "unknown_until_run": False}) is None
    assert difference({"before": [{"id": 1}], "after": [], "unknown_until_run": True}) is None
    assert difference({"before": [{"id": 1}, {"id": 2}], "after": [{"id": 1}], "unknown_until_run": True}) is None
