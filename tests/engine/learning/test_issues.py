"""Tests of known issues as they move: by machine, by failures in a row, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.learning.test_autofix import STALE, bound, fail, function, known, worse
from engine.world import World, play, refused
from prunella.core.errors import IllegalTransition
from prunella.core.issues import IssueState
from prunella.core.records import Severity
from prunella.engine.learning import issues


def test_third_failed_repair_passes_the_issue_on(sqlite_path: Path) -> None:
    """After three repairs in a row that did not help a person hears of it, once."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(500, STALE)]
        await world.put_issue(known(bound("a"), bound("b"), bound("c"), bound("d"), severity=Severity.CRITICAL))
        await fail(world)
        await world.later(30)
        issue = await world.issue("stale")
        assert issue.failed_fixes == 4
        assert issue.escalation_reason == "3 repairs in a row did not help"
        assert issue.severity is Severity.CRITICAL
        assert len(await world.told("issue_escalated")) == 1

    play(sqlite_path, story, running=True, bindable=[function(name, worse) for name in "abcd"])


def test_solved_issue_may_be_passed_on_again(sqlite_path: Path) -> None:
    """What was resolved starts anew: reason and moment of the last escalation go."""

    async def story(world: World) -> None:
        await world.put_issue(known(escalated_at=world.parts.clock.now(), escalation_reason="too often"))
        async with world.store.transaction() as tx:
            issue = await tx.learning.issue("stale")
            assert issue is not None
            await issues.move(world.parts, tx, issue, IssueState.RESOLVED, "cause removed", by="ann")
        after = await world.issue("stale")
        assert (after.escalated_at, after.escalation_reason, after.resolved_by) == (None, None, "ann")
        (entry,) = await world.audit("issue.resolved")
        assert (entry.actor, entry.reason) == ("ann", "cause removed")

    play(sqlite_path, story)


def test_regression_is_of_what_was_resolved_only(sqlite_path: Path) -> None:
    """States that may not follow each other are refused."""

    async def story(world: World) -> None:
        await world.put_issue(known())
        async with world.store.transaction() as tx:
            issue = await tx.learning.issue("stale")
            assert issue is not None
            with pytest.raises(IllegalTransition):
                await issues.move(world.parts, tx, issue, IssueState.REGRESSED, "no")

    play(sqlite_path, story)
