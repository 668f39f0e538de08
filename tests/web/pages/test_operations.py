"""Waiting work in a browser without scripts: one at a time, and many after an estimate."""

from __future__ import annotations

import pytest

from prunella.web.auth import Role
from web.conftest import Web
from web.person import Person
from web.test_operations import items, report

pytestmark = pytest.mark.anyio


async def test_person_moves_one_with_a_reason(web: Web) -> None:
    """Quarantine, replay, cancel as forms; without a reason refused in words; sent twice it is explained."""
    await report(web)
    (one,) = await items(web)
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    first = await ada.open(f"/operations/{one['id']}")
    assert {action.rpartition("/")[2] for action in first.actions} == {"replay", "cancel", "quarantine"}
    silent = await ada.fill(first, "/cancel")
    assert (silent.status, "a reason is needed to cancel an operation" in silent.words) == (422, True)
    held = await ada.fill(first, "/quarantine", reason="wrong amount")
    assert "The operation was quarantined." in held.words
    again = await ada.fill(held, "/replay")
    assert "The operation was replayed." in again.words
    gone = await ada.fill(again, "/cancel", reason="obsolete")
    assert "nothing can be done to it any more" in gone.words
    assert not gone.actions
    late = await ada.fill(again, "/cancel", reason="obsolete")
    assert (late.status, "was cancelled; let its sender report it anew" in late.words) == (409, True)
    async with web.app.store.transaction() as tx:
        trace = [(entry.actor, entry.action) for entry in await tx.audit.list(most=9, target=one["id"])][::-1]
    assert trace == [("ada", f"operation.{act}") for act in ("quarantine", "replay", "cancel")]


async def test_many_are_moved_after_an_estimate(web: Web) -> None:
    """The estimate changes nothing; the named act is bound to it; what moved meanwhile is shown anew and explained."""
    await report(web, 3)
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    nothing = await ada.fill(await ada.open("/operations"), "/estimate", act="cancel")
    assert (nothing.status, "nothing is filtered by" in nothing.words) == (422, True)
    estimate = await ada.fill(await ada.open("/operations?service=crm"), "/estimate", act="cancel")
    assert "Cancel 3 operations?" in estimate.words
    assert {one["state"] for one in await items(web)} == {"waiting"}
    unnamed = await ada.fill(estimate, "/many/cancel", reason="spam")
    assert (unnamed.status, "a name of at most 200 characters is needed" in unnamed.words) == (422, True)
    assert unnamed.form("/many/cancel").fields["reason"] == "spam"  # nothing typed is lost
    (newest, *_) = await items(web)
    single = await ada.open(f"/operations/{newest['id']}")
    await ada.fill(single, "/cancel", reason="by hand")
    moved = await ada.fill(estimate, "/many/cancel", name="flood", reason="spam")
    assert (moved.status, "They have moved since you looked" in moved.words) == (409, True)
    assert "Cancel 2 operations?" in moved.words
    done = await ada.fill(moved, "/many/cancel")
    assert "flood: 2 operations cancelled." in done.words
    assert {one["state"] for one in await items(web)} == {"cancelled"}
    twice = await ada.fill(moved, "/many/cancel")
    assert twice.status == 409
    async with web.app.store.transaction() as tx:
        assert {entry.actor for entry in await tx.audit.list(most=9, target="flood")} == {"ada"}


async def test_all_has_to_be_ticked(web: Web) -> None:
    """Nothing filtered by means nothing, unless somebody says all; a state in which it can't be done is refused."""
    await report(web, 2)
    ada = await Person.enter(web.client, web.gatehouse, Role.ADMIN)
    every = await ada.fill(await ada.open("/operations"), "/estimate", act="quarantine", all="yes")
    assert "Quarantine 2 operations?" in every.words
    wrong = await ada.fill(await ada.open("/operations?state=done"), "/estimate", act="replay")
    assert (wrong.status, "can't be done to operations that are done" in wrong.words) == (422, True)
    assert (await ada.open("/operations?state=lost")).status == 422
