"""One problem or two: what is joined counts as one and comes apart as it was; what is divided keeps to its own words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from engine.crew import engine
from engine.curated import curate, issue_of
from engine.world import START, World
from prunella.core.errors import Conflict, IllegalTransition, InvalidInput
from prunella.core.issues import Effect, Evidence, KnownIssue
from prunella.core.records import Failure
from prunella.engine.learning import curation, evidence, joining, pairing
from prunella.engine.learning.evidence import scope_of_issue
from prunella.engine.parts import Parts
from prunella.store.contract import Transaction
from prunella.store.postgres import PostgresStore

ONE = {"id": "one", "pattern": "closed for lunch", "service": "crm"}
TWO = {"id": "two", "pattern": "gone to lunch", "service": "crm"}


async def both(world: World) -> tuple[str | None, str | None]:
    """Make two issues with an open incident, occurrences and outcomes each."""
    incidents = []
    for entry, message, good in ((ONE, "closed for lunch", 3), (TWO, "gone to lunch", 1)):
        incidents.append((await world.fail(message=message, operation=f"GET /{good}")).incident_id)
        issue = await curation.create(world.parts, entry, by="ada")
        known = Evidence()
        for effect in [Effect.VERIFIED] * good + [Effect.INEFFECTIVE]:
            known = evidence.noted(known, effect, START)
        async with world.store.transaction() as tx:
            for window in range(good):
                await tx.learning.occurred(issue.id, window, START + timedelta(minutes=window))
            await tx.learning.take_evidence(scope_of_issue(issue.id), "warm_up")
            await tx.learning.save_evidence(scope_of_issue(issue.id), "warm_up", known)
    return incidents[0], incidents[1]


async def evidence_of(world: World, issue_id: str) -> Evidence:
    """Return what is known of the remedy at an issue."""
    async with world.store.transaction() as tx:
        return (await tx.learning.evidence([scope_of_issue(issue_id)]))[scope_of_issue(issue_id), "warm_up"]


async def recognised(world: World, message: str) -> str | None:
    """Return which issue a message is taken for."""
    async with world.store.transaction() as tx:
        await world.parts.known.refresh(tx)
    return world.parts.known.match(Failure(service="crm", message=message), kind="network.server")


def test_joined_issue_counts_as_the_other_and_comes_apart_as_it_was(sqlite_path: Path) -> None:
    """Its incidents, occurrences and outcomes go along and come back; its words lead to the other meanwhile."""

    async def story(world: World) -> None:
        first, second = await both(world)
        target = await joining.merge(world.parts, "two", "one", by="ada", reason="same kitchen")
        assert target is not None
        assert (target.id, target.occurrences, target.unfixed) == ("one", 4, 4)
        assert (target.first_seen, target.last_seen) == (START, START + timedelta(minutes=2))
        assert (await issue_of(world, "two")).alias_of == "one"
        assert (await world.incident(second)).issue_id == "one"
        known = await evidence_of(world, "one")
        assert (known.tried, known.verified, known.ineffective) == (6, 4, 2)
        assert await recognised(world, "gone to lunch") == "one"
        with pytest.raises(IllegalTransition, match="two was joined with one; act on that, or split them"):
            await pairing.bind(world.parts, "two", "warm_up", {"node": "a"}, by="ada")

        alone = await joining.part(world.parts, "two", by="bob", reason="another kitchen")
        assert alone is not None
        assert (alone.alias_of, alone.occurrences) == (None, 1)
        back = await issue_of(world, "one")
        assert (back.occurrences, back.unfixed) == (3, 3)
        known = await evidence_of(world, "one")
        assert (known.tried, known.verified, known.ineffective) == (4, 3, 1)
        assert known.good == pytest.approx(3)
        assert [(await world.incident(one)).issue_id for one in (first, second)] == ["one", "two"]
        assert await recognised(world, "gone to lunch") == "two"
        told = [(entry.action, entry.actor, entry.target, entry.reason) for entry in (await world.audit())[-2:]]
        assert told == [
            ("issue.merged", "ada", "two", "with one: same kitchen"),
            ("issue.split", "bob", "two", "from one: another kitchen"),
        ]

    curate(sqlite_path, story)


def test_joining_what_cannot_be_joined_is_refused(sqlite_path: Path) -> None:
    """With itself, with nobody, with one that is joined, and one that others are joined with; parting what is alone."""

    async def story(world: World) -> None:
        parts = world.parts
        await both(world)
        assert await joining.merge(parts, "nobody", "one", by="ada") is None
        assert await joining.part(parts, "nobody", by="ada") is None
        for into, words in (("one", "with itself"), ("nobody", "there is no known issue 'nobody'")):
            with pytest.raises(InvalidInput, match=words):
                await joining.merge(parts, "one", into, by="ada")
        with pytest.raises(IllegalTransition, match="one is joined with none"):
            await joining.part(parts, "one", by="ada")
        await joining.merge(parts, "two", "one", by="ada")
        with pytest.raises(IllegalTransition, match="two was joined with one"):
            await joining.merge(parts, "any.pool", "two", by="ada")
        with pytest.raises(IllegalTransition, match="two stands for itself no more but for one; split it first"):
            await joining.merge(parts, "one", "any.pool", by="ada")

    curate(sqlite_path, story)


def test_second_problem_within_one_gets_a_pattern_that_counts_first(sqlite_path: Path) -> None:
    """Service and severity are kept, open incidents that its words fit are its own, the others stay."""

    async def story(world: World) -> None:
        stays = (await world.fail(message="closed for lunch", operation="GET /a")).incident_id
        goes = (await world.fail(message="closed for lunch until Monday", operation="GET /b")).incident_id
        await curation.create(world.parts, ONE | {"severity": "HIGH"}, by="ada")
        second = await joining.divide(world.parts, "one", {"pattern": "closed for lunch until Monday"}, by="ada")
        assert second is not None
        assert (second.service, second.severity.value, second.remedies) == ("crm", "HIGH", ())
        assert (await world.incident(goes)).issue_id == second.id
        assert (await world.incident(stays)).issue_id == "one"
        assert await recognised(world, "it is closed for lunch until Monday") == second.id
        assert await recognised(world, "closed for lunch until noon") == "one"
        (entry,) = await world.audit("issue.split")
        assert entry.reason == f"{second.id} is a problem of its own"
        with pytest.raises(Conflict):
            await joining.divide(world.parts, "one", {"pattern": "closed for lunch until Monday"}, by="ada")

    curate(sqlite_path, story)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("for lunch", "one would still count"), ("(a+)+$", "repeated group"), (None, "is missing")],
)
def test_second_problem_that_would_never_count_is_refused(sqlite_path: Path, pattern: str | None, words: str) -> None:
    """Shorter words, an unsafe expression, none at all: nothing is written."""

    async def story(world: World) -> None:
        await curation.create(world.parts, ONE, by="ada")
        with pytest.raises(InvalidInput, match=words):
            await joining.divide(world.parts, "one", {"pattern": pattern}, by="ada")
        assert await joining.divide(world.parts, "nobody", {"pattern": "abc"}, by="ada") is None
        assert await world.audit("issue.split") == []

    curate(sqlite_path, story)


@pytest.mark.anyio
async def test_occurrence_counted_while_an_issue_is_joined_goes_along(
    migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process counts between the look at an issue and its joining: the other issue has that, too."""
    store = await PostgresStore.open(migrated_postgres_url)
    parts, taken = engine(store, "w", services={}), curation.taken
    for entry in (ONE, TWO):
        await curation.create(parts, entry, by="ada")

    async def counted_behind(parts: Parts, tx: Transaction, issue_id: str, seen: int | None) -> KnownIssue | None:
        issue = await taken(parts, tx, issue_id, seen)
        async with store.transaction() as other:
            await other.learning.occurred(issue_id, 1, START)
        return issue

    monkeypatch.setattr(curation, "taken", counted_behind)
    target = await joining.merge(parts, "two", "one", by="ada")
    await store.close()
    assert target is not None
    assert target.occurrences == 2
