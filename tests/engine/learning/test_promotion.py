"""Tests of promotion: what becomes known, under which words, and what is refused and why."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.learning.test_autofix import STALE, function, rebuild
from engine.learning.test_occurrences import candidates
from engine.world import World, play
from prunella.core import redact
from prunella.core.issues import Origin
from prunella.core.records import Level, Severity
from prunella.engine.learning import evidence, promotion


async def fail_three_times(world: World, message: str, **changed: Any) -> None:
    """Let something fail in three separate stretches of time."""
    for n in range(3):
        await world.fail(status=500, message=message.replace("#", str(n + 70)), **changed)
        await world.learn()
        await world.later(400)


def test_third_occurrence_makes_a_pattern_known(sqlite_path: Path) -> None:
    """It gets document C's title, severity and tags, an expression of its words, and the precision that was measured."""

    async def story(world: World) -> None:
        await world.fail(status=500, message="another thing altogether went wrong in the shop")
        await fail_three_times(world, "price list # of the till is stale, rebuild it")
        (issue,) = await world.issues()
        assert issue.id.startswith("crm-")
        assert issue.title == "Recurring error: price list 72 of the till is stale, rebuild it"
        assert (issue.severity, issue.tags, issue.origin) == (Severity.HIGH, ("auto_detected", "crm"), Origin.LEARNED)
        assert (issue.service, issue.kind) == ("crm", "network.server")
        assert re.search(issue.expression, STALE, re.IGNORECASE)
        assert (issue.precision, issue.tested) == (1.0, 1)
        assert [one.target for one in await world.audit("issue.learned")] == [issue.id]
        assert (await world.learn())["promoted"] == 0

    play(sqlite_path, story)


def test_later_failures_belong_to_it(sqlite_path: Path) -> None:
    """From then on incidents are recognised as it when they open, whatever number the message holds."""

    async def story(world: World) -> None:
        await fail_three_times(world, "price list # of the till is stale, rebuild it", operation="POST /a")
        (issue,) = await world.issues()
        await world.later(2)
        receipt = await world.fail(status=500, message=STALE, operation="POST /b")
        assert (await world.incident(receipt.incident_id)).issue_id == issue.id

    play(sqlite_path, story)


def test_message_without_words_is_refused_with_its_reason(sqlite_path: Path) -> None:
    """What is hardly more than data would fit strangers; the reason is kept and said once."""

    async def story(world: World) -> None:
        await fail_three_times(world, "error # 12")
        assert await world.issues() == []
        (left,) = await candidates(world)
        assert left.refused is not None
        assert "fixed words" in left.refused
        assert len(await world.audit("issue.refused")) == 1

    play(sqlite_path, story)


def test_pattern_that_fits_other_problems_is_refused(sqlite_path: Path) -> None:
    """Where the expression fits more than one in a hundred stored messages of other problems, it does not get in."""

    async def story(world: World) -> None:
        await world.fail(status=500, message="user 'admin' of the till is gone today")  # a word: another problem
        await fail_three_times(world, "user 'till #' of the till is gone today")
        assert await world.issues() == []
        (left,) = [one for one in await candidates(world) if one.refused]
        assert left.refused == "its pattern would fit 1 of 1 stored messages of other problems"

    play(sqlite_path, story)


def test_remedy_of_the_kind_stands_by_for_a_person_to_agree(sqlite_path: Path) -> None:
    """What helped with others of the kind is paired with the new issue, at L2."""

    async def story(world: World) -> None:
        scope = evidence.scope_of_kind("network.server")
        async with world.store.transaction() as tx:
            seen = await tx.learning.take_evidence(scope, "rebuild")
            good = replace(seen, tried=3, verified=3, good=3.0, at=world.parts.clock.now())
            await tx.learning.save_evidence(scope, "rebuild", good)
        await fail_three_times(world, "price list # of the till is stale, rebuild it")
        (issue,) = await world.issues()
        (pairing,) = issue.remedies
        assert (pairing.remedy, pairing.trusted, pairing.acts_at, pairing.learned) == ("rebuild", False, Level.L2, True)

    play(sqlite_path, story, bindable=[function("rebuild", rebuild)])


def test_secret_that_became_known_after_the_message_gets_into_no_pattern(sqlite_path: Path) -> None:
    """The words were stored in the open before anybody said that one is a secret: what is learned has a shape in its place."""
    secret = "swordfish-blue-harbour"

    async def story(world: World) -> None:
        for n in range(2):
            await world.fail(status=500, message=f"price list of {secret} is stale, rebuild it")
            await world.learn()
            await world.later(400 + n)
        redact.register(secret)
        try:
            soon = replace(world.parts, learning=replace(world.parts.learning, promote_after=2))
            assert await promotion.promote(soon) == 1
            (issue,) = await world.issues()
            told = f"{issue.title} {issue.expression} {issue.cause} {issue.advice}".replace("\\", "")
            assert secret not in told
            assert "REDACTED" in issue.expression
            assert re.search(issue.expression, redact.scrub(f"price list of {secret} is stale, rebuild it"))
        finally:
            redact.forget(secret)

    play(sqlite_path, story)
