"""A plan is what a person reads and signs: it changes with what it would do, and with nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.ward import Treatment, Ward, procedure
from engine.world import START, World, play
from prunella.core.clock import ManualClock
from prunella.core.findings import Finding
from prunella.core.procedures import Limits, PluginRemedy
from prunella.core.records import Level
from prunella.core.states import ApprovalState
from prunella.engine import orders, proposals
from prunella.engine.stock import Due
from prunella.engine.sweep import sweep
from prunella.remedies.contract import Preview
from store.making import incident

pytestmark = pytest.mark.anyio
ROWS = Finding(key="beds", issue="ROWS", message="3 rows", keys=(1, 2, 3), count=3, total=100)


@dataclass
class Dated(Treatment):
    """A remedy whose SQL holds the moment of its look."""

    at: str = "12:00"

    async def preview(self, finding: Finding) -> Preview:
        return Preview(words="set them", sql=f"UPDATE beds … WHERE since < '{self.at}'", after=({"token": "x"},))


def due(finding: Finding = ROWS) -> Due:
    return Due(incident=incident(), finding=finding, remedy="treat", looked_at=START, seen_at=START)


async def test_plan_shows_what_it_would_do() -> None:
    """Words, targets, count, share, SQL and a scrubbed sample."""
    ward = Ward(ManualClock())
    plan = await proposals.draw(procedure(ward, remedies={"treat": Dated(ward)}), [due()])
    assert (plan["words"], plan["targets"], plan["count"], plan["share_at_most"]) == (
        "set them",
        ["1", "2", "3"],
        3,
        0.03,
    )
    assert plan["sql"] == "UPDATE beds … WHERE since < '12:00'"
    assert plan["after"] != [{"token": "x"}]


async def test_digest_changes_with_what_would_be_done_and_with_nothing_else() -> None:
    """The moment in its SQL, messages, minutes and order pass; rows, limits and the remedy's settings do not."""
    ward = Ward(ManualClock())

    async def digest(at: str = "12:00", finding: Finding = ROWS, remedy: str = "treat", most: int = 500) -> str:
        ready = procedure(
            ward,
            remedies={"treat": Dated(ward, at=at)},
            remedy=PluginRemedy(name=remedy),
            limits=Limits(targets_max=most),
        )
        return str((await proposals.draw(ready, [due(finding)]))["digest"])

    same = await digest()
    assert await digest(at="12:05") == same
    assert await digest(finding=replace(ROWS, message="later", facts={"minutes": 9}, keys=(3, 2, 1))) == same
    assert await digest(finding=replace(ROWS, keys=(1, 2))) != same
    assert await digest(remedy="other") != same
    assert await digest(most=499) != same


def test_looking_at_one_thing_closes_no_plan(sqlite_path: Path) -> None:
    """An order for one that is well finds nothing; the plan about the others still waits."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        ready = procedure(ward, level=Level.L2)
        parts = replace(world.parts, procedures={"ward": ready})
        await sweep(parts, ready)
        await orders.heal_one(parts, "ward", "well", remedy=None, by="ada")
        async with world.store.transaction() as tx:
            (one,) = await tx.approvals.list(most=9)
        assert one.state is ApprovalState.WAITING
        ward.sick.clear()
        await world.later(60)
        await sweep(parts, ready)
        async with world.store.transaction() as tx:
            (one,) = await tx.approvals.list(most=9)
        assert (one.state, one.reason) == (ApprovalState.CLOSED, "nothing is left to do")

    play(sqlite_path, story)


def test_notice_that_asks_is_answered_with_the_plan(sqlite_path: Path) -> None:
    """Nobody is told for a second time of a plan that has its answer, nor finds it among what is unseen."""

    async def story(world: World) -> None:
        ready = procedure(Ward(world.parts.clock, sick={"a": "SICK"}), level=Level.L2)
        parts = replace(world.parts, procedures={"ward": ready})
        await sweep(parts, ready)
        async with world.store.transaction() as tx:
            (one,) = await tx.approvals.list(most=9)
            asked = await tx.outbox.list(most=9, kind="APPROVAL_REQUIRED")
        assert {told.acknowledged_by for told in asked} == {None}
        await proposals.answer(parts, one.id, ApprovalState.REJECTED, by="ada", digest=one.digest, reason="not now")
        async with world.store.transaction() as tx:
            asked = await tx.outbox.list(most=9, kind="APPROVAL_REQUIRED")
        assert {told.acknowledged_by for told in asked} == {"ada"}

    play(sqlite_path, story)
