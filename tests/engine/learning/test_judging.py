"""Stories of repair in which something goes wrong: no remedy acts twice or without leave, and no merit is given away."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.learning.test_autofix import STALE, bound, evidence_of, fail, function, known, rebuild, stale_until, worse
from engine.world import DONE, START, World, play, refused
from prunella.core.issues import Binding, IssueState, KnownIssue
from prunella.core.outcomes import Outcome
from prunella.core.records import Approval, Category, Level
from prunella.core.states import ApprovalState, GateState, IncidentState
from prunella.diagnosis.patterns import Pattern
from prunella.engine import people, proposals
from prunella.engine.heal import heal
from prunella.engine.learning import occurrences, pairing
from prunella.engine.parts import LEASE_S, Parts

REBUILD = [function("rebuild", rebuild)]


async def useless(ctx: Any, failed: Any) -> Outcome:
    """Say that all is well."""
    return Outcome.done("nothing much")


async def waiting_plan(world: World) -> Approval:
    """Return the one plan that waits for an answer."""
    async with world.store.transaction() as tx:
        (plan,) = await tx.approvals.oldest_waiting(most=5)
    return plan


async def approve(world: World, plan: Approval) -> None:
    """Answer yes to exactly this plan."""
    await proposals.answer(world.parts, plan.id, ApprovalState.APPROVED, by="ann", digest=plan.digest)


async def ran(world: World, incident_id: str) -> list[str]:
    """Return what acted at an incident, oldest first."""
    return [run.remedy for run in await world.runs(incident_id)]


def test_outcome_of_a_lost_lease_is_judged_once(sqlite_path: Path) -> None:
    """Two workers see the same remedy fail; it counts once."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(500, STALE)]
        await world.put_issue(known(bound("useless")))
        incident_id = await fail(world, method="PUT")
        await world.later(2)

        second = []

        async def taken_over(target: Any) -> None:
            if target.request is not None:
                world.hands.during = None
                await world.later(LEASE_S + 1)
                second.append(asyncio.create_task(heal(another(world), incident_id)))
                await world.later(0.005)

        world.hands.during = taken_over
        await world.heal(incident_id)
        await second[0]
        assert (await evidence_of(world, "useless")).ineffective == 1
        assert (await ran(world, incident_id)).count("useless") == 1

    play(sqlite_path, story, bindable=[function("useless", useless)])


def another(world: World) -> Parts:
    """Return a second worker's engine."""
    return replace(world.parts, worker="worker-2")


def test_slow_remedy_keeps_its_incident(sqlite_path: Path) -> None:
    """A remedy that takes longer than a lease, and less than it may, is waited for, and has its merit."""

    async def story(world: World) -> None:
        async def slow(target: Any) -> None:
            if target.facts:
                await world.later(LEASE_S + 5)
                await heal(another(world), target.incident_id)
                world.hands.script["replay"] = [DONE]

        world.hands.script["replay"] = [refused(500, STALE)]
        world.hands.during = slow
        await world.put_issue(known(bound("rebuild")))
        incident_id = await fail(world)
        await world.later(700)
        await world.learn()
        assert await ran(world, incident_id) == ["rebuild", "replay"]
        assert (await evidence_of(world, "rebuild")).verified == 1

    play(sqlite_path, story, running=True, bindable=[function("rebuild", rebuild, timeout_s=30.0)])


def test_approval_gives_no_leave_where_the_level_was_taken_back(sqlite_path: Path) -> None:
    """Between the answer and the act a person made it a person's work: it is left to people."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(Binding(remedy="rebuild")))
        incident_id = await fail(world)
        await world.later(60)
        await world.set_gate(replace(await world.gate(), throttled_until=START + timedelta(seconds=120)))
        await approve(world, await waiting_plan(world))
        await world.later(5)
        assert "rebuild" not in await ran(world, incident_id)
        await world.change_issue("stale", remedies=(bound("rebuild", level=Level.L3),))
        await world.later(70)
        assert "rebuild" not in await ran(world, incident_id)
        assert (await world.incident(incident_id)).state is IncidentState.ESCALATED

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_what_was_approved_goes_first(sqlite_path: Path) -> None:
    """What looks better by now does not take the place of what a person agreed to."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(Binding(remedy="rebuild"), Binding(remedy="useless")))
        incident_id = await fail(world)
        await world.later(60)
        plan = await waiting_plan(world)
        (chosen,) = plan.plan["remedies"]
        async with world.store.transaction() as tx:
            before = await tx.learning.take_evidence("issue:stale", chosen)
            await tx.learning.save_evidence("issue:stale", chosen, replace(before, bad=9.0))
        await approve(world, plan)
        await world.later(3)
        assert [one for one in await ran(world, incident_id) if one != "replay"] == [chosen]

    play(sqlite_path, story, running=True, bindable=[*REBUILD, function("useless", useless)])


def test_approval_that_came_while_a_person_had_it_is_asked_anew(sqlite_path: Path) -> None:
    """An incident that a person took over and began anew does not wait for an answer that was given already."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(Binding(remedy="rebuild")))
        incident_id = await fail(world)
        await world.later(60)
        plan = await waiting_plan(world)
        await people.act_on_incident(world.parts, incident_id, "escalate", by="bob")
        await approve(world, plan)
        await people.act_on_incident(world.parts, incident_id, "retry", by="bob")
        await world.later(60)
        await approve(world, await waiting_plan(world))
        await world.later(5)
        assert (await ran(world, incident_id))[-2:] == ["rebuild", "replay"]

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_rejected_remedy_is_not_asked_about_again_when_events_join(sqlite_path: Path) -> None:
    """A no holds for the incident: later events are replayed as ever, and nobody is asked once more."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(500, STALE)]
        await world.put_issue(known(Binding(remedy="rebuild")))
        incident_id = await fail(world)
        await world.later(5)
        plan = await waiting_plan(world)
        await proposals.answer(world.parts, plan.id, ApprovalState.REJECTED, by="ann", reason="too risky")
        await world.later(60)
        assert await fail(world) == incident_id
        await world.later(5)
        assert len(await world.audit("approval.proposed")) == 1
        assert "rebuild" not in await ran(world, incident_id)

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_failures_after_a_remedy_speak_against_it(sqlite_path: Path) -> None:
    """Where nothing can be replayed the next failures do: the next remedy has its turn, and no success is its merit."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("a_useless"), bound("rebuild")))
        incident_id = await fail(world, endpoint=None)
        await world.later(60)
        assert await ran(world, incident_id) == ["a_useless"]
        await fail(world, endpoint=None)
        await world.later(60)
        assert await ran(world, incident_id) == ["a_useless", "rebuild"]
        await world.succeed()
        await world.later(700)
        await world.learn()
        seen = await evidence_of(world, "a_useless"), await evidence_of(world, "rebuild")
        assert [(one.verified, one.ineffective) for one in seen] == [(0, 1), (1, 0)]

    play(sqlite_path, story, running=True, bindable=[function("a_useless", useless), *REBUILD])


def test_recovery_in_a_person_s_hands_is_no_remedy_s_merit(sqlite_path: Path) -> None:
    """What is well after a person took it over is not credited to what had acted before."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        incident_id = await fail(world, endpoint=None)
        await world.later(60)
        assert await ran(world, incident_id) == ["rebuild"]
        await people.act_on_incident(world.parts, incident_id, "escalate", by="bob")
        await world.succeed()
        await world.later(700)
        await world.learn()
        assert (await world.incident(incident_id)).state is IncidentState.RESOLVED
        assert (await evidence_of(world, "rebuild")).tried == 0
        assert (await world.issue("stale")).state is IssueState.ACTIVE

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_person_s_word_is_no_remedy_s_merit(sqlite_path: Path) -> None:
    """A remedy acted, its proof is still to come, and a person says that it is over: nobody knows what did it."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        incident_id = await fail(world, endpoint=None)
        await world.later(60)
        assert (await world.incident(incident_id)).state is IncidentState.VERIFYING
        await people.act_on_incident(world.parts, incident_id, "resolve", by="bob")
        await world.later(700)
        await world.learn()
        assert (await world.incident(incident_id)).state is IncidentState.RESOLVED
        assert (await evidence_of(world, "rebuild")).tried == 0

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_remedy_that_turns_one_failure_into_another_did_not_help(sqlite_path: Path) -> None:
    """Nothing is due any more and the requests fail in another way: that counts, and the next remedy has its turn."""

    async def story(world: World) -> None:
        async def helps(target: Any) -> None:
            if "rebuild" in await ran(world, target.incident_id):
                world.hands.script["replay"] = [DONE]

        world.hands.script["replay"] = [refused(400, "no such shelf")]
        world.hands.during = helps
        await world.put_issue(known(bound("a_useless"), bound("rebuild")))
        incident_id = await fail(world, status=422)
        await world.later(60)
        assert await ran(world, incident_id) == ["a_useless", "replay", "rebuild", "replay"]
        assert (await evidence_of(world, "a_useless")).ineffective == 1
        healed = await world.incident(incident_id)
        assert (healed.category, healed.state) == (Category.DATA, IncidentState.RESOLVED)

    play(sqlite_path, story, running=True, bindable=[function("a_useless", useless), *REBUILD])


def test_remedy_that_ends_with_people_did_not_help(sqlite_path: Path) -> None:
    """What is passed on to people unproven was not repaired."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(413, "too large a shelf")]
        await world.put_issue(known(bound("useless")))
        incident_id = await fail(world, status=422)
        await world.later(60)
        assert (await world.incident(incident_id)).state is IncidentState.ESCALATED
        assert (await evidence_of(world, "useless")).ineffective == 1

    play(sqlite_path, story, running=True, bindable=[function("useless", useless)])


def test_forced_failures_say_nothing_about_remedies(sqlite_path: Path) -> None:
    """What somebody made happen on purpose is repaired, and neither proves nor disproves anything."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(bound("a_worse"), bound("rebuild")))
        incident_id = await fail(world, forced=True)
        await world.later(700)
        await world.learn()
        assert (await world.incident(incident_id)).state is IncidentState.RESOLVED
        assert [(await evidence_of(world, name)).tried for name in ("a_worse", "rebuild")] == [0, 0]

    play(sqlite_path, story, running=True, bindable=[function("a_worse", worse), *REBUILD])


def test_what_was_under_way_during_the_repair_is_no_return(sqlite_path: Path) -> None:
    """A report that comes seconds late takes no merit; what fails later within the watch does, though it joins it."""

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        await fail(world)
        await world.later(5)
        world.hands.script["replay"] = [refused(500, STALE)]
        late = await fail(world)
        await world.learn()
        assert (await evidence_of(world, "rebuild")).undone == 0
        await world.later(120)
        assert await fail(world) == late
        await world.learn()
        assert (await evidence_of(world, "rebuild")).undone == 1

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_nothing_is_credited_before_all_that_failed_was_looked_at(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a flood stands the return of what was repaired: it is heard before the repair has its merit."""
    monkeypatch.setattr(occurrences, "_INCIDENTS", 2)  # a look takes eight

    async def story(world: World) -> None:
        await world.put_issue(known(bound("rebuild")))
        first = await fail(world)
        await world.later(5)
        watched_until = (await world.incident(first)).watched_until
        assert watched_until is not None
        await world.later((watched_until - world.parts.clock.now()).total_seconds() - 0.5)
        for letter in "abcdefghi":
            await world.fail(status=422, code=f"missing_{letter}", message=f"{letter} is missing")
        await fail(world)
        await world.later(5)
        came = await evidence_of(world, "rebuild")
        assert (came.undone, came.verified) == (1, 0)

    play(sqlite_path, story, running=True, bindable=REBUILD)


def test_shipped_remedy_loses_its_trust_before_its_issue_was_ever_counted(sqlite_path: Path) -> None:
    """Two failures in a row end the trust, whether or not anything was learned in between."""
    shipped = Pattern(id="till.stale", expression=r"price list \d+ .* is stale", title="Stale list", remedy="worse")

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(500, STALE)]
        for name in ("a", "b"):
            incident_id = await fail(world, operation=f"POST /{name}")
            await world.later(2)
            await world.heal(incident_id)
        assert [one.trusted for one in (await world.issue("till.stale")).remedies] == [False]

    play(sqlite_path, story, bindable=[function("worse", worse)], shipped=[shipped])


@pytest.mark.parametrize("ok", [True, False])
def test_remedy_of_an_issue_says_nothing_about_the_service(sqlite_path: Path, ok: bool) -> None:
    """A function that does well closes no gate, and one that fails opens none."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(500, STALE)]
        await world.put_issue(known(bound("useless" if ok else "worse")))
        failing = replace(await world.gate("shy"), failures=1, state=GateState.HALF_OPEN if ok else GateState.CLOSED)
        await world.set_gate(failing)
        receipt = await world.fail("shy", status=500, message=STALE)
        await world.later(2)
        seen = [failing]

        async def look(target: Any) -> None:
            seen.append(await world.gate("shy"))

        world.hands.during = look
        await world.heal(receipt.incident_id)
        if not ok:
            seen.append(await world.gate("shy"))
        assert len({(gate.state, gate.successes, gate.failures) for gate in seen}) == 1

    play(sqlite_path, story, bindable=[function("useless", useless), function("worse", worse)])


def test_remedy_that_was_parted_meanwhile_does_not_act(sqlite_path: Path) -> None:
    """While the replays after one remedy are under way, a person parts the next one: it has no turn."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(422, STALE)]
        await world.put_issue(known(bound("a_useless"), bound("rebuild")))
        incident_id = await world.fail_together(3, status=422, message=STALE)
        await world.later(2)

        async def part(target: Any) -> None:
            if target.request is not None:
                world.hands.during = None
                assert await pairing.unbind(world.parts, "stale", "rebuild", by="ann")

        world.hands.during = part
        await world.heal(incident_id)
        assert set(await ran(world, incident_id)) == {"a_useless", "replay"}

    play(sqlite_path, story, bindable=[function("a_useless", useless), *REBUILD])


def test_issue_that_was_joined_with_another_is_that(sqlite_path: Path) -> None:
    """What another process still takes for the first is repaired and counted as the second."""

    async def story(world: World) -> None:
        stale_until("rebuild", world)
        await world.put_issue(known(bound("rebuild")))
        joined: KnownIssue = known(bound("a_worse"), id="older", expression="never", alias_of="stale")
        await world.put_issue(joined)
        incident_id = await fail(world)
        async with world.store.transaction() as tx:
            await tx.incidents.pass_to_issue([incident_id], "older")
        await world.later(700)
        await world.learn()
        assert await ran(world, incident_id) == ["rebuild", "replay"]
        assert (await evidence_of(world, "rebuild")).verified == 1
        assert [(await world.issue(name)).occurrences for name in ("stale", "older")] == [1, 0]

    play(sqlite_path, story, running=True, bindable=[*REBUILD, function("a_worse", worse)])
