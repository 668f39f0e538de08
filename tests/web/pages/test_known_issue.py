"""One known issue in a browser without scripts: its numbers, and one click for each act."""

from __future__ import annotations

import pytest

from prunella.web.auth import Role
from web.conftest import Web
from web.learned import filled
from web.person import Page, Person

pytestmark = pytest.mark.anyio

PATH = "/known-issues/crm.lunch"


async def entered(web: Web) -> tuple[Person, Page]:
    """Sign in as an operator, and open the page."""
    await filled(web.app)
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    return ada, await ada.open(PATH)


async def test_page_says_what_it_is_and_what_became_of_its_remedies(web: Web) -> None:
    """Words, expression, counts, the numbers that decide and why it acts; a viewer reads the same without forms."""
    _, page = await entered(web)
    told = (
        "Lunch at the warehouse",
        "Nobody answers from twelve to one.",
        "4 occurrences",
        "Bound by ada",
        "+27 %",
        "node=n1",
    )
    for words in told:
        assert words in page.words, words
    assert "closed for lunch</pre>" in page.html
    vera = await Person.enter(web.client, web.gatehouse, Role.VIEWER, "vera")
    seen = await vera.open(PATH)
    assert (seen.status, seen.actions) == (200, set())
    assert (await vera.open("/known-issues/nobody")).status == 404


async def test_remedy_is_bound_with_one_form(web: Web) -> None:
    """Fields by declared types, the level chosen; what is wrong is said and what was typed stays."""
    ada, page = await entered(web)
    (form,) = [one for one in page.forms if one.fields.get("remedy") == "warm_up" and one.action.endswith("/bind")]
    assert form.fields["set.node"] == "n1"
    answer = await ada.send(form, **{"set.times": "many"})
    assert answer.status_code == 422
    assert "times is &#39;many&#39;; it must be whole number" in answer.text
    assert 'value="many"' in answer.text
    answer = await ada.send(form, **{"set.node": "n2", "set.times": "3", "set.hard": "true", "level": "L0"})
    assert answer.status_code == 303
    assert "warm_up stands by now" in (await ada.open(PATH)).words
    async with web.app.store.transaction() as tx:
        issue = await tx.learning.issue("crm.lunch")
    assert issue is not None
    (binding,) = issue.remedies
    assert (dict(binding.parameters), binding.level.value, binding.by) == (
        {"node": "n2", "times": 3, "hard": True},
        "L0",
        "ada",
    )


async def test_issue_is_ended_changed_joined_and_divided_on_its_page(web: Web) -> None:
    """Each says what was done; what can't be done is said on the page."""
    ada, page = await entered(web)
    page = await ada.fill(page, "/crm.lunch/resolve", reason="a new cook")
    assert "Resolved: seen again after a day of quiet" in page.words
    assert "a new cook" in page.words
    page = await ada.fill(page, "/crm.lunch/reopen")
    page = await ada.fill(page, "/crm.lunch/change", title="Lunch", pattern="(a+)+$")
    assert (page.status, "repeated group" in page.words) == (422, True)
    page = await ada.fill(page, "/crm.lunch/change", title="Long lunch", pattern="closed for lunch")
    assert "Long lunch" in page.words
    page = await ada.fill(page, "/crm.lunch/split", pattern="closed for lunch until Monday", title="Monday")
    assert ("They are two now." in page.words, "Monday" in page.words) == (True, True)
    page = await ada.fill(await ada.open(PATH), "/crm.lunch/merge", into="nobody")
    assert "there is no known issue 'nobody'" in page.words
    page = await ada.fill(page, "/crm.lunch/merge", into="stripe.webhook-too-old")
    assert "stripe.webhook-too-old stands for both" in page.words
    page = await ada.fill(await ada.open(PATH), "/crm.lunch/split")
    assert "They are two now." in page.words
    page = await ada.fill(page, "/crm.lunch/unbind")
    assert "warm_up is not tried any more" in page.words


async def test_incident_leads_to_its_issue_and_binds_what_helps(web: Web) -> None:
    """Where no remedy is bound one click does it, and leads back to the incident; a stranger's address is not followed."""
    incident_id = await filled(web.app)
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    path = f"/incidents/{incident_id}"
    page = await ada.open(path)
    assert PATH in page.links
    assert "3 of 4 verified; bound by ada" in page.words
    await ada.fill(await ada.open(PATH), "/crm.lunch/unbind")
    page = await ada.open(path)
    form = page.form("/crm.lunch/bind")
    answer = await ada.send(form, **{"set.node": "n3"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert "warm_up stands by now" in (await ada.open(path)).words
    answer = await ada.send(form, **{"set.node": "n3", "back": "//evil.example"})
    assert answer.headers["location"] == "/"
