"""What is known about an issue is shown with the numbers that decide, and in words that say why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.curated import curate
from engine.world import START, World
from prunella.core.issues import Binding, Effect, Evidence
from prunella.core.records import Level
from prunella.engine.learning import curation, dossier, evidence, joining, pairing
from prunella.engine.learning.evidence import WAIT, scope_of_issue, scope_of_kind
from prunella.store.known import Asked

LUNCH = {"id": "crm.lunch", "pattern": "closed for lunch", "service": "crm", "kind": "network.server"}


def outcomes(good: int, bad: int) -> Evidence:
    """Return evidence of so many outcomes, the bad ones first."""
    known = Evidence()
    for effect in [Effect.INEFFECTIVE] * bad + [Effect.VERIFIED] * good:
        known = evidence.noted(known, effect, START)
    return known


def test_list_holds_each_issue_once(sqlite_path: Path) -> None:
    """What stands in the tables takes the place of what is shipped; reading writes no row."""

    async def story(world: World) -> None:
        await curation.create(world.parts, LUNCH, by="ada")
        await curation.change(world.parts, "any.pool", {"severity": "LOW"}, by="ada")
        async with world.store.transaction() as tx:
            ids = await dossier.named(world.parts, tx, Asked())
            found = await dossier.whole(world.parts, tx, ids)
            assert await dossier.named(world.parts, tx, Asked(severity="HIGH")) == ["oauthed.gone"]
            assert len(await tx.learning.issues()) == 2
        assert [(one.id, one.severity.value) for one in found] == [
            ("any.pool", "LOW"),
            ("crm.lunch", "MEDIUM"),
            ("oauthed.gone", "HIGH"),
        ]

    curate(sqlite_path, story)


def test_remedies_are_shown_with_the_numbers_that_decide(sqlite_path: Path) -> None:
    """Outcomes here, what they promise with those of the kind, the bound, the lift over waiting; what was joined, too."""

    async def story(world: World) -> None:
        parts = world.parts
        incident_id = (await world.fail(message="closed for lunch")).incident_id
        await curation.create(parts, LUNCH, by="ada")
        await pairing.bind(parts, "crm.lunch", "warm_up", {"node": "n"}, by="ada")
        async with world.store.transaction() as tx:
            here = scope_of_issue("crm.lunch")
            await tx.learning.take_evidence(here, "warm_up")
            await tx.learning.save_evidence(here, "warm_up", outcomes(8, 2))
            await tx.learning.take_evidence(here, WAIT)
            await tx.learning.save_evidence(here, WAIT, outcomes(2, 6))
            await tx.learning.take_evidence(scope_of_kind("network.server"), "warm_up")
            await tx.learning.save_evidence(scope_of_kind("network.server"), "warm_up", outcomes(18, 2))
        await curation.create(parts, {"id": "crm.noon", "pattern": "gone to lunch"}, by="ada")
        await joining.merge(parts, "crm.noon", "crm.lunch", by="ada")
        async with world.store.transaction() as tx:
            found = await dossier.of(parts, tx, "crm.lunch")
            tried = await dossier.outcomes(parts, tx, [found.issue]) if found else {}
        assert found is not None
        bound, waited = found.records
        assert (bound.remedy, bound.own.tried, bound.own.verified, bound.why) == ("warm_up", 10, 8, "bound by ada")
        assert bound.expected == pytest.approx((8 + 2 * 19 / 22) / 12)
        assert bound.lower_bound == pytest.approx(0.490, abs=0.001)
        assert bound.lift == pytest.approx(9 / 12 - 3 / 10)
        assert bound.lift_between == pytest.approx((0.089, 0.779), abs=0.001)
        assert (waited.remedy, waited.binding, waited.lift) == (WAIT, None, None)
        assert tried == {"crm.lunch": {"warm_up": (10, 8), WAIT: (8, 2)}}
        assert found.joined == ["crm.noon"]
        assert [one.id for one in found.incidents] == [incident_id]
        assert found.warning is None
        assert {one.remedy.name: one.misfit is None for one in found.choices} == {
            "refresh_auth": False,
            "warm_up": True,
        }

    curate(sqlite_path, story)


def test_shipped_issue_is_shown_before_it_counts(sqlite_path: Path) -> None:
    """It has no row and no outcomes; nobody's is None."""

    async def story(world: World) -> None:
        async with world.store.transaction() as tx:
            found = await dossier.of(world.parts, tx, "oauthed.gone")
            assert await dossier.of(world.parts, tx, "nobody") is None
            assert await tx.learning.issues() == []
        assert found is not None
        assert [one.why for one in found.records] == ["shipped with the issue"]

    curate(sqlite_path, story)


LEARNED = Binding(remedy="warm_up")


@pytest.mark.parametrize(
    ("binding", "known", "words"),
    [
        (None, outcomes(1, 0), "not bound: it is not tried"),
        (replace(LEARNED, remedy="nobody_has_it"), Evidence(), "no remedy of this name is registered here"),
        (replace(LEARNED, level=Level.L3, by="ada"), Evidence(), "left to a person, as ada said"),
        (LEARNED, outcomes(4, 1), "until 25 outcomes are verified and the lower bound is 0.8; now 4 and 0.38"),
        (LEARNED, evidence.noted(outcomes(0, 1), Effect.UNDONE, START), "it failed 2 times in a row"),
        (replace(LEARNED, trusted=True), outcomes(30, 0), "earned: 30 verified outcomes, lower bound 0.89"),
        (replace(LEARNED, by="pack"), Evidence(), "from a pack; a person is asked each time, until 25"),
        (replace(LEARNED, by="ada"), outcomes(0, 3), "bound by ada; a person is asked each time: it failed 3 times"),
        (replace(LEARNED, remedy="refresh_auth"), Evidence(), "it can neither be undone nor repeated safely"),
    ],
)
def test_words_say_why_a_remedy_acts_or_asks(
    sqlite_path: Path, binding: Binding | None, known: Evidence, words: str
) -> None:
    """Each reason in its own words, with the figures that are missing."""

    async def story(world: World) -> None:
        name = binding.remedy if binding is not None else "warm_up"
        assert words in dossier.why(name, binding, known, world.parts.bindable)

    curate(sqlite_path, story)
