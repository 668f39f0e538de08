"""The tester in a browser without scripts: what a text would be taken for, and what patterns make of it."""

from __future__ import annotations

import pytest

from prunella.web.auth import Role
from prunella.web.pages.known_issues import pieces
from web.conftest import Web
from web.learned import filled
from web.person import Person

pytestmark = pytest.mark.anyio


async def test_text_is_diagnosed_and_patterns_judged(web: Web) -> None:
    """Diagnosis with its reason; the pattern that counts, where and how fast; what some text could make slow is refused."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.fill(
        await ada.open("/known-issues"),
        "/try",
        text="HTTP/1.1 503 Service Unavailable\nretry-after: 20\n\n<b>upstream pool exhausted</b> on node 7",
        patterns="pool exhausted\n(a+)+$\nnever there",
        service="crm",
    )
    assert page.status == 200
    for told in ("It is network / network.contention", "after 20.0 s", "1 of 2 patterns match", "line 1 counts", " µs"):
        assert told in page.words, told
    assert "<mark>pool exhausted</mark>" in page.html
    assert "<b>upstream" not in page.html
    assert "refused" in page.words
    assert page.form("/try").fields["patterns"].splitlines() == ["pool exhausted", "(a+)+$", "never there"]
    async with web.app.store.transaction() as tx:
        assert await tx.incidents.list(most=9) == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"text": "  "}, "there is no text"),
        ({"text": "x", "status": "abc"}, "is no HTTP status"),
        ({"text": "x", "patterns": "\n".join(f"p{n}" for n in range(21))}, "at most 20 are tried at once"),
        ({"text": "x" * 65_537}, "at most 65,536 are looked at"),
    ],
)
async def test_what_cannot_be_tried_is_said_in_words(web: Web, typed: dict[str, str], words: str) -> None:
    """Each mistake is named on the page, and what was typed stays in the form."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.fill(await ada.open("/known-issues"), "/try", **typed)
    assert (page.status, words in page.words) == (422, True)


def test_pieces_cut_where_matches_are() -> None:
    """All of the text, in order, each piece once."""
    assert pieces("abcdef", [(1, 2), (4, 6)]) == [("a", False), ("b", True), ("cd", False), ("ef", True)]
    assert pieces("abc", [(0, 2), (1, 3)]) == [("ab", True), ("c", False)]
    assert pieces("abc", []) == [("abc", False)]


async def test_text_is_tried_on_what_is_shipped(web: Web) -> None:
    """Without patterns of one's own the known issues that come along are asked: name, cause, what helps, source."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.fill(
        await ada.open("/known-issues"), "/try", text="ERROR: cached plan must not change result type"
    )
    assert page.status == 200
    assert "It is known" in page.words
    assert "postgres" in page.words
    page = await ada.fill(await ada.open("/known-issues"), "/try", text="nobody has ever read this")
    assert "No known issue fits" in page.words


async def test_known_issues_are_listed_and_found(web: Web) -> None:
    """The list of the page is that of the API, filtered alike."""
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.open("/known-issues?service=stripe&q=webhook")
    token = web.token(Role.VIEWER)
    listed = (await web.ask("GET", "/api/v1/known-issues?service=stripe&q=webhook", token)).json()
    assert listed["items"]
    assert {one["service"] for one in listed["items"]} == {"stripe"}
    for one in listed["items"]:
        assert one["title"] in page.words
        shown = (await web.ask("GET", f"/api/v1/known-issues/{one['id']}", token)).json()
        assert shown | one == shown
    assert "No known issue fits these filters" in (await ada.open("/known-issues?q=zzz")).words


async def test_page_shows_what_was_seen_with_its_record_and_what_may_become_known(web: Web) -> None:
    """State, occurrences and how often its remedy helped; below, patterns that are not known, one click away from it."""
    parts = web.app.parts
    await filled(web.app)
    ada = await Person.enter(web.client, web.gatehouse, Role.OPERATIONS)
    page = await ada.open("/known-issues")
    for told in ("Lunch at the warehouse", "3 of 4 verified", "active", "the cupboard is bare for order", "60 %"):
        assert told in page.words, told
    page = await ada.fill(page, "/known-issues/make")
    assert "It is known now" in page.words
    assert "the cupboard is bare" in page.words
    assert "Bind invalidate_cache" not in page.words  # crm names no cache
    async with parts.store.transaction() as tx:
        assert [one.created_by for one in await tx.learning.issues()] == ["ada", "ada"]
    vera = await Person.enter(web.client, web.gatehouse, Role.VIEWER, "vera")
    assert (await vera.open("/known-issues")).actions == set()
