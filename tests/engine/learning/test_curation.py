"""What people write about known issues counts at once, is noted with their name, and is refused where it can't be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.curated import curate, issue_of
from engine.world import World
from prunella.core.errors import Conflict, IllegalTransition, InvalidInput, Outdated
from prunella.core.issues import IssueState, Origin
from prunella.core.records import Failure, Severity
from prunella.engine.learning import curation, issues
from prunella.engine.learning.occurrences import learn

LUNCH = {"id": "crm.lunch", "pattern": "closed for lunch", "service": "crm", "severity": "HIGH", "title": "Lunch"}


def test_issue_of_a_person_is_recognised_at_once(sqlite_path: Path) -> None:
    """It stands with its maker's name, the matcher knows it, and open incidents that it fits are its own."""

    async def story(world: World) -> None:
        fits = (await world.fail(message="we are closed for lunch")).incident_id
        other = (await world.fail(message="the warehouse burns", operation="GET /stock")).incident_id
        issue = await curation.create(world.parts, LUNCH, by="ada")
        assert (issue.origin, issue.created_by, issue.severity) == (Origin.PERSON, "ada", Severity.HIGH)
        assert await issue_of(world, "crm.lunch") == issue
        assert (await world.incident(fits)).issue_id == "crm.lunch"
        assert (await world.incident(other)).issue_id is None
        (entry,) = await world.audit("issue.created")
        assert (entry.actor, entry.target) == ("ada", "crm.lunch")
        async with world.store.transaction() as tx:
            await world.parts.known.refresh(tx)
        failure = Failure(service="crm", message="503: closed for lunch")
        assert world.parts.known.match(failure, kind="network.server") == "crm.lunch"

    curate(sqlite_path, story)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pattern": "(a+)+$"}, "repeat stands inside a repeated group"),
        ({"pattern": None}, "pattern: is missing"),
        ({"severity": "loud"}, "severity: 'loud'"),
        ({"kind": "no.such"}, "kind: 'no.such'"),
        ({"source": "http://x"}, "write an address with https://"),
        ({"id": "a/b"}, "its id stands in addresses"),
        ({"id": "export"}, "and none of"),
        ({"pattern": "closed\0for lunch"}, "no text holds a null character"),
        ({"pattern": "closed \ud800 for lunch"}, "half of another"),
        ({"examples": ["open all day"]}, "the pattern does not fit it"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(sqlite_path: Path, changed: dict[str, Any], words: str) -> None:
    """Nothing of it is written, and the field is named."""

    async def story(world: World) -> None:
        with pytest.raises(InvalidInput) as refused:
            await curation.create(world.parts, LUNCH | changed, by="ada")
        assert words in str(refused.value)
        assert refused.value.pointer.startswith(f"/{next(iter(changed))}")
        assert await world.audit() == []

    curate(sqlite_path, story)


def test_id_that_is_taken_is_refused(sqlite_path: Path) -> None:
    """By one in the tables, and by one that comes along."""

    async def story(world: World) -> None:
        await curation.create(world.parts, LUNCH, by="ada")
        for taken in ("crm.lunch", "any.pool"):
            with pytest.raises(Conflict, match=taken):
                await curation.create(world.parts, LUNCH | {"id": taken}, by="ada")

    curate(sqlite_path, story)


def test_patterns_without_letters_are_few(sqlite_path: Path) -> None:
    """Each is searched in every message, so no more than fifty are kept; one with letters still is."""

    async def story(world: World) -> None:
        for number in range(50):
            await curation.create(world.parts, {"id": f"digits-{number}", "pattern": rf"\d{{{number + 1}}}"}, by="ada")
        with pytest.raises(InvalidInput, match="at most 50 such patterns are kept"):
            await curation.create(world.parts, {"id": "digits", "pattern": r"\d\d"}, by="ada")
        await curation.create(world.parts, LUNCH, by="ada")

    curate(sqlite_path, story)


def test_pattern_of_failures_is_made_known_in_one_step(sqlite_path: Path) -> None:
    """Expression, service, kind and counts come from what was seen; its open incident is an occurrence; once only."""

    async def story(world: World) -> None:
        words = "order 4711 cannot be shipped from the northern warehouse"
        incident_id = (await world.fail(message=words)).incident_id
        await learn(world.parts)
        async with world.store.transaction() as tx:
            (candidate,) = await tx.learning.candidates(most=9)
        issue = await curation.create(world.parts, {}, by="ada", fingerprint=candidate.fingerprint)
        assert (issue.service, issue.occurrences, issue.title) == ("crm", 1, words)
        assert issue.expression.startswith("^order")
        assert issue.first_seen == candidate.first_seen
        assert (await world.incident(incident_id)).issue_id == issue.id
        with pytest.raises(InvalidInput, match=f"is known as {issue.id} already"):
            await curation.create(world.parts, {}, by="ada", fingerprint=candidate.fingerprint)
        with pytest.raises(InvalidInput, match="there is no pattern"):
            await curation.create(world.parts, {}, by="ada", fingerprint="nobody")

    curate(sqlite_path, story)


def test_shipped_issue_gets_its_row_when_a_person_changes_it(sqlite_path: Path) -> None:
    """What is said about it changes, what is not said stays, and the version counts on from there."""

    async def story(world: World) -> None:
        issue = await curation.change(
            world.parts, "oauthed.gone", {"severity": "LOW", "source": None}, by="ada", seen=0
        )
        assert issue is not None
        assert (issue.severity, issue.source, issue.cause, issue.version) == (
            Severity.LOW,
            "",
            "Somebody took it back.",
            1,
        )
        assert [one.remedy for one in issue.remedies] == ["refresh_auth"]
        (entry,) = await world.audit("issue.changed")
        assert entry.reason == "severity, source"
        with pytest.raises(Outdated, match="is at version 1, not 0"):
            await curation.change(world.parts, "oauthed.gone", {"severity": "HIGH"}, by="ada", seen=0)
        same = await curation.change(world.parts, "oauthed.gone", {"severity": "LOW"}, by="ada")
        assert (same, len(await world.audit("issue.changed"))) == (issue, 1)
        with pytest.raises(InvalidInput, match="repeated group"):
            await curation.change(world.parts, "oauthed.gone", {"pattern": "(a+)+$"}, by="ada")
        assert await curation.change(world.parts, "nobody", {}, by="ada") is None

    curate(sqlite_path, story)


def test_changed_expression_is_no_longer_called_precise(sqlite_path: Path) -> None:
    """What was tried on messages of others was another expression; open incidents that the new one fits are its own."""

    async def story(world: World) -> None:
        incident_id = (await world.fail(message="no lunch today")).incident_id
        made = await curation.create(world.parts, LUNCH, by="ada")
        async with world.store.transaction() as tx:
            await tx.learning.save(replace(made, precision=0.99, tested=100), world.parts.clock.now())
        changed = await curation.change(world.parts, "crm.lunch", {"pattern": "no lunch"}, by="ada")
        assert changed is not None
        assert (changed.precision, changed.tested) == (None, 0)
        assert (await world.incident(incident_id)).issue_id == "crm.lunch"

    curate(sqlite_path, story)


def test_person_ends_an_issue_and_opens_it_again(sqlite_path: Path) -> None:
    """Both are noted with who and why; twice the same is refused; what a repair ended a person may end as well."""

    async def story(world: World) -> None:
        parts = world.parts
        await curation.create(parts, LUNCH, by="ada")
        over = await curation.resolve(parts, "crm.lunch", by="ada", reason="a new cook")
        assert over is not None
        assert (over.state, over.resolved_by) == (IssueState.RESOLVED, "ada")
        with pytest.raises(IllegalTransition, match="is resolved already, by ada"):
            await curation.resolve(parts, "crm.lunch", by="bob")
        again = await curation.reopen(parts, "crm.lunch", by="bob", reason="it is not")
        assert again is not None
        assert again.state is IssueState.ACTIVE
        with pytest.raises(IllegalTransition, match="is active; reopen needs one that is not"):
            await curation.reopen(parts, "crm.lunch", by="bob")
        async with parts.store.transaction() as tx:
            await issues.move(parts, tx, again, IssueState.RESOLVED, "verified")
        by_person = await curation.resolve(parts, "crm.lunch", by="bob", reason="gone for good")
        assert by_person is not None
        assert by_person.resolved_by == "bob"
        told = [(entry.action, entry.actor, entry.reason) for entry in await world.audit()]
        assert told == [
            ("issue.created", "ada", "Lunch"),
            ("issue.resolved", "ada", "a new cook"),
            ("issue.active", "bob", "it is not"),
            ("issue.resolved", "prunella", "verified"),
            ("issue.resolved", "bob", "gone for good"),
        ]
        assert await curation.resolve(parts, "nobody", by="ada") is None
        assert await curation.reopen(parts, "nobody", by="ada") is None

    curate(sqlite_path, story)
