"""Tests of repairing what is known: what is tried, in which order, with whose leave, and what is learned of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.world import DONE, NO_SERVICES, START, World, play, refused
from prunella.core.issues import Binding, Evidence, IssueState, KnownIssue
from prunella.core.outcomes import Outcome
from prunella.core.records import Category, Level
from prunella.core.states import ApprovalState, IncidentState
from prunella.engine import proposals
from prunella.engine.learning import evidence, pairing
from prunella.engine.learning.judging import is_trusted
from prunella.plugin import RemedyFunction
from prunella.remedies.known import FunctionForIssue
from prunella.testing import LoopClock

STALE = "price list 4711 of the till is stale, rebuild it"


def function(name: str, act: Callable[..., Any], **changed: Any) -> RemedyFunction:
    """Return a user's remedy as its decorator registers it."""
    given: dict[str, Any] = {"idempotent": True, "reversible": False, "per": "row", "timeout_s": 5.0}
    return RemedyFunction(name=name, function=act, **{**given, **changed})


def known(*remedies: Binding, **changed: Any) -> KnownIssue:
    """Return a known issue about a stale price list."""
    given: dict[str, Any] = {"id": "stale", "title": "Stale list", "expression": r"price list \d+ .* is stale"}
    return KnownIssue(**{**given, "remedies": remedies, "created_at": START, "created_by": "ann", **changed})


def bound(remedy: str, **changed: Any) -> Binding:
    """Return what a person binds."""
    return Binding(remedy=remedy, **{"by": "ann", "trusted": True, **changed})


async def rebuild(ctx: Any, failed: Any, *, shelf: str = "all") -> Outcome:
    """Do what a user's remedy would."""
    return Outcome.done(f"rebuilt {shelf} for {failed['service']}")


async def worse(ctx: Any, failed: Any) -> Outcome:
    """Fail to do anything."""
    return Outcome.failed("no such list")


async def evidence_of(world: World, remedy: str, issue: str = "stale") -> Evidence:
    """Return what became of a remedy at an issue."""
    async with world.store.transaction() as tx:
        found = await tx.learning.evidence([evidence.scope_of_issue(issue)])
    return found.get((evidence.scope_of_issue(issue), remedy), evidence.NOTHING)


def stale_until(remedy: str, world: World) -> None:
    """Let replays be refused until a remedy was carried out."""

    async def during(target: Any) -> None:
        if target.request is None and target.facts:
            world.hands.script["replay"] = [DONE]

    world.hands.script["replay"] = [refused(500, STALE)]
    world.hands.during = during


async def fail(world: World, **changed: Any) -> str:
    """Report the failure that everything here is about; return its incident."""
    receipt = await world.fail(**{"status": 500, "message": STALE, **changed})
    assert receipt.incident_id is not None
    return receipt.incident_id


def test_new_error_becomes_known_and_heals_the_fourth_time(sqlite_path: Path) -> None:
    """Three separate occurrences make it known; what a person binds then repairs the fourth, which is proven."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        for _ in range(3):
            incident_id = await fail(world)
            await world.later(400)
            await world.learn()
        (issue,) = await world.issues()
        assert (issue.occurrences, issue.remedies, issue.state) == (3, (), IssueState.ACTIVE)
        assert (await world.incident(incident_id)).issue_id == issue.id

        incident = await world.incident(incident_id)
        await world.save(replace(incident, state=IncidentState.RESOLVED, resolved_at=world.parts.clock.now()))
        await world.change_issue(issue.id, remedies=(bound("rebuild", parameters={"shelf": "A"}),))
        await world.later(400)
        fourth = await world.incident(await fail(world))
        await world.later(60)
        healed = await world.incident(fourth.id)
        assert (healed.state, healed.issue_id) == (IncidentState.RESOLVED, issue.id)
        assert [run.remedy for run in await world.runs(fourth.id)] == ["rebuild", "replay"]
        assert (await world.runs(fourth.id))[0].detail == "rebuilt A for crm"
        assert (await world.issue(issue.id)).state is IssueState.RESOLVED
        assert healed.decided["chosen"] == "rebuild"
        assert (await evidence_of(world, "rebuild", issue.id)).tried == 0
        await world.later(600)
        await world.learn()
        assert (await evidence_of(world, "rebuild", issue.id)).verified == 1

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])


def test_remedy_that_does_not_help_gives_way_to_the_next(sqlite_path: Path) -> None:
    """What fails, or after which the same failure comes back, is ineffective, and the next remedy has its turn."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(bound("a_worse"), bound("b_useless"), bound("rebuild")))
        world.hands.during = None
        incident_id = await fail(world)
        await world.later(5)
        runs = [(run.remedy, run.state.value) for run in await world.runs(incident_id)]
        assert runs[:3] == [("a_worse", "failed"), ("b_useless", "ineffective"), ("replay", "failed")]
        assert runs[3] == ("rebuild", "ineffective")
        assert (await evidence_of(world, "a_worse")).ineffective == 1
        assert (await evidence_of(world, "b_useless")).ineffective == 1

    async def useless(ctx: Any, failed: Any) -> Outcome:
        return Outcome.done("nothing much")

    functions = [function("a_worse", worse), function("b_useless", useless), function("rebuild", rebuild)]
    play(sqlite_path, story, running=True, bindable=functions)


def test_what_was_learned_asks_first_and_carries_out_what_was_approved(sqlite_path: Path) -> None:
    """A pairing that nobody but the machine made waits for a person; the answer is good for this incident once."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(Binding(remedy="rebuild")))
        incident_id = await fail(world)
        await world.later(15)
        waiting = await world.incident(incident_id)
        assert waiting.state is IncidentState.AWAITING_APPROVAL
        assert [run.remedy for run in await world.runs(incident_id)] == ["replay"] * 3  # what needs no leave goes on
        async with world.store.transaction() as tx:
            (plan,) = await tx.approvals.oldest_waiting(most=5)
        assert plan.plan["words"].startswith("run rebuild")
        await proposals.answer(world.parts, plan.id, ApprovalState.APPROVED, by="ann", digest=plan.digest)
        await world.later(30)
        assert (await world.incident(incident_id)).state is IncidentState.RESOLVED
        async with world.store.transaction() as tx:
            used = await tx.approvals.get(plan.id)
        assert used is not None
        assert used.used_at is not None

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])


def test_rejected_remedy_leaves_the_incident_to_people(sqlite_path: Path) -> None:
    """A rejected plan is not carried out and not asked about again; the incident is a person's."""

    async def story(world: World) -> None:
        await world.put_issue(known(Binding(remedy="rebuild")))
        incident_id = await fail(world, status=422)
        await world.later(5)
        async with world.store.transaction() as tx:
            (plan,) = await tx.approvals.oldest_waiting(most=5)
        await proposals.answer(world.parts, plan.id, ApprovalState.REJECTED, by="ann", reason="too risky")
        await world.later(30)
        left = await world.incident(incident_id)
        assert (left.state, left.held_reason) == (IncidentState.ESCALATED, "plan rejected by ann: too risky")
        assert not await world.runs(incident_id)

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])


def test_data_failure_with_a_remedy_is_replayed_after_it(sqlite_path: Path) -> None:
    """What a person would have to correct is kept for replay where a remedy is bound, and replayed once it acted."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(bound("rebuild")))
        receipt = await world.fail(status=422, message=STALE)
        incident = await world.incident(receipt.incident_id)
        assert incident.category is Category.DATA
        await world.later(30)
        assert (await world.incident(incident.id)).state is IncidentState.RESOLVED
        assert [one.state.value for one in await world.operations()] == ["done"]

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])


def test_return_soon_after_takes_the_merit_back(sqlite_path: Path) -> None:
    """The same failure within ten minutes of its proof counts against the remedy; two in a row end its trust."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        for _ in range(3):
            await fail(world)
            await world.later(30)
        await world.later(601)
        await world.learn()
        seen = await evidence_of(world, "rebuild")
        assert (seen.tried, seen.verified, seen.undone) == (3, 1, 2)
        issue = await world.issue("stale")
        assert [one.trusted for one in issue.remedies] == [False]
        assert [one.target for one in await world.audit("issue.distrusted")] == ["stale"]

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])


@pytest.mark.parametrize(
    ("level", "state"), [(Level.L2, IncidentState.AWAITING_APPROVAL), (Level.L3, IncidentState.ESCALATED)]
)
def test_level_of_a_binding_is_not_exceeded(sqlite_path: Path, level: Level, state: IncidentState) -> None:
    """What a person bound at L2 is asked about, and at L3 left to people."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild", level=level)))
        incident_id = await fail(world, status=422)
        await world.later(5)
        assert (await world.incident(incident_id)).state is state
        assert not await world.runs(incident_id)

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])


def test_trust_is_earned_by_proof_and_only_for_what_can_be_repeated_or_put_back() -> None:
    """A learned pairing rises with 25 proven repairs; what is neither idempotent nor reversible never does."""
    proven = Evidence(tried=25, verified=25, good=25.0)
    pairing = Binding(remedy="rebuild")
    for idempotent, rises in ((True, True), (False, False)):
        acting = FunctionForIssue(function("rebuild", rebuild, idempotent=idempotent), NO_SERVICES, LoopClock(START))
        assert is_trusted(pairing, acting, proven) is rises
        assert not is_trusted(pairing, acting, replace(proven, verified=24))
        assert not is_trusted(replace(pairing, trusted=True), acting, replace(proven, failures_in_a_row=2))


def test_some_only_wait_so_that_a_remedy_is_credited_for_its_lift(sqlite_path: Path) -> None:
    """About 7 in 100 low-risk incidents wait first; a recovery by itself is waiting's merit, and stands as such."""
    waited: list[bool] = []

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        for n in range(100):
            receipt = await world.fail(status=503, message=STALE, operation=f"POST /orders/{chr(97 + n % 26)}{n}")
            incident = await world.incident(receipt.incident_id)
            await world.heal(incident.id)
            waited.append((await world.incident(incident.id)).decided["waited"])
        assert 1 <= sum(waited) <= 15

    play(sqlite_path, story, bindable=[function("rebuild", rebuild)])


def test_where_waiting_did_not_help_the_remedy_has_its_turn(sqlite_path: Path) -> None:
    """An incident waits once; then it is repaired, in the same round, and one outcome of waiting is noted, not three."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        incident_id = await fail(world, status=503)
        while zlib.crc32(incident_id.encode()) % 100 >= 7:  # of this one it is not asked to wait
            await world.later(3600)
            incident_id = await fail(world, status=503, operation=f"POST /{incident_id}")
        stale_until("rebuild", world)
        world.hands.script["replay"] = [refused(503, STALE)]
        for _ in range(4):
            await world.heal(incident_id)
            await world.later(1)
        assert [run.remedy for run in await world.runs(incident_id)] == ["replay", "rebuild", "replay"]
        assert (await world.incident(incident_id)).state is IncidentState.RESOLVED
        assert (await evidence_of(world, evidence.WAIT)).ineffective == 1

    play(sqlite_path, story, bindable=[function("rebuild", rebuild)])


def test_binding_while_a_plan_waits_overtakes_it(sqlite_path: Path) -> None:
    """What a person binds acts at once, and the plan that waited for an answer is closed."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(Binding(remedy="rebuild")))
        incident_id = await fail(world, status=422)
        await world.later(5)
        await pairing.bind(world.parts, "stale", "rebuild", {}, by="ann")
        await world.later(5)
        assert (await world.incident(incident_id)).state is IncidentState.RESOLVED
        async with world.store.transaction() as tx:
            (plan,) = await tx.approvals.list(most=5)
        assert (plan.state, plan.reason) == (ApprovalState.CLOSED, "it is carried out without this answer")

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild)])
