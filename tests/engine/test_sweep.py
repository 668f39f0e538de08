"""A sweep looks, heals what is due, proves it, and writes down why it left the rest alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.ward import ORDER, Treatment, Ward, procedure
from engine.world import World, play
from prunella.core.outcomes import Outcome
from prunella.core.records import Incident, Level, Severity
from prunella.core.states import IncidentState, RunState
from prunella.engine import orders
from prunella.engine.gatekeeper import Answer
from prunella.engine.sweep import sweep

_FAILED = Outcome.failed("no vendor is free")


async def incidents(world: World) -> list[Incident]:
    async with world.store.transaction() as tx:
        return await tx.incidents.list(most=1000, procedure="ward")


async def the_incident(world: World) -> Incident:
    (found,) = await incidents(world)
    return found


async def runs(world: World) -> list[RunState]:
    async with world.store.transaction() as tx:
        return [one.state for one in reversed(await tx.runs.list(most=1000, procedure="ward"))]


async def notices(world: World) -> list[tuple[str, Severity]]:
    async with world.store.transaction() as tx:
        found = await tx.outbox.list(most=1000, channel="ops")
    return [(one.kind, one.severity) for one in reversed(found)]


def test_what_is_found_is_healed_and_proven(sqlite_path: Path) -> None:
    """One look, one attempt, one proof: the incident is resolved, the run verified, and nobody is disturbed."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        swept = await sweep(world.parts, procedure(ward))
        assert (swept.found, swept.healed, swept.failed, swept.resolved) == (1, 1, 0, 1)
        found = await the_incident(world)
        assert (found.state, found.action_taken) == (IncidentState.RESOLVED, "treat: it is well")
        assert await runs(world) == [RunState.VERIFIED]
        assert await notices(world) == []

    play(sqlite_path, story)


def test_nothing_found_is_a_no_op_with_its_reason(sqlite_path: Path) -> None:
    """An empty look does nothing and says so."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock)
        swept = await sweep(world.parts, procedure(ward))
        assert swept.verdict is not None
        assert (swept.verdict.answer, swept.verdict.reason) == (Answer.WAIT, "there is nothing to do")
        assert (swept.plan, ward.treated) == (None, [])

    play(sqlite_path, story)


def test_level_l1_tells_once(sqlite_path: Path) -> None:
    """L1 heals and says so in one message, at the end."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        await sweep(world.parts, procedure(ward, level=Level.L1))
        assert await notices(world) == [("healed", Severity.LOW)]

    play(sqlite_path, story)


def test_level_l3_leaves_the_plan_as_a_runbook(sqlite_path: Path) -> None:
    """L3 runs nothing: the incident is a person's, with the plan attached."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"})
        await sweep(world.parts, procedure(ward, level=Level.L3))
        found = await the_incident(world)
        assert (found.state, ward.treated) == (IncidentState.ESCALATED, [])
        assert found.memory["runbook"]["words"] == "treat a"
        assert [kind for kind, _ in await notices(world)] == ["MANUAL_INTERVENTION_REQUIRED"]

    play(sqlite_path, story)


def test_third_failure_hands_over_with_exactly_one_message(sqlite_path: Path) -> None:
    """Attempts: one per cycle; the third failure itself hands over, once, with the history."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[_FAILED] * 9)
        ready = procedure(ward, entity=ORDER)
        for _ in range(5):
            await sweep(world.parts, ready)
            await world.later(300)
        found = await the_incident(world)
        assert (found.state, found.attempts, len(ward.treated)) == (IncidentState.ESCALATED, 3, 3)
        assert await notices(world) == [("MANUAL_INTERVENTION_REQUIRED", Severity.HIGH)]

    play(sqlite_path, story)


def test_give_up_remedy_runs_within_the_third_failure_s_cycle(sqlite_path: Path) -> None:
    """With a remedy that comes last, the third failure tries it at once; when it heals, nobody is disturbed."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[_FAILED] * 3)
        remedies = {"treat": Treatment(ward), "cancel_order": Treatment(ward, name="cancel_order")}
        ready = procedure(ward, entity=replace(ORDER, give_up="cancel_order"), remedies=remedies)
        for _ in range(3):
            await sweep(world.parts, ready)
            await world.later(300)
        found = await the_incident(world)
        assert (found.state, len(ward.treated)) == (IncidentState.RESOLVED, 4)
        assert await notices(world) == []

    play(sqlite_path, story)


def test_give_up_remedy_that_fails_is_told_as_healing_failed(sqlite_path: Path) -> None:
    """Never two messages for one give-up: a failing last remedy is HEALING_FAILED, and that is all."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[_FAILED] * 9)
        remedies = {"treat": Treatment(ward), "cancel_order": Treatment(ward, name="cancel_order")}
        ready = procedure(ward, entity=replace(ORDER, give_up="cancel_order"), remedies=remedies)
        for _ in range(5):
            await sweep(world.parts, ready)
            await world.later(300)
        assert (await the_incident(world)).state is IncidentState.ESCALATED
        assert await notices(world) == [("HEALING_FAILED", Severity.HIGH)]

    play(sqlite_path, story)


def test_share_limit_holds_the_run_at_any_level(sqlite_path: Path) -> None:
    """More than a fifth of a table: nothing runs, the ratio is shown, and a person hears of it once."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=dict.fromkeys("abc", "SICK"), rows=True, total=5)
        for _ in range(3):
            await sweep(world.parts, procedure(ward))
            await world.later(300)
        found = await the_incident(world)
        assert ward.treated == []
        assert (found.held_reason or "").startswith("60% of beds matches (3 of 5 rows)")
        assert await notices(world) == [("HELD", Severity.HIGH)]

    play(sqlite_path, story)


def test_storm_sends_one_probe_and_then_waves(sqlite_path: Path) -> None:
    """More than half, and more than 20, stuck at once: one probe; when it heals, 1, 2, 4, 8 and the rest."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={f"k{n:03}": "SICK" for n in range(30)}, active=40)
        ready = procedure(ward, entity=ORDER)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 30
        found = await incidents(world)
        assert {one.state for one in found} == {IncidentState.RESOLVED}
        assert [one.resource for one in found if one.resource == "storm"] == ["storm"]

    play(sqlite_path, story)


def test_storm_whose_probe_fails_holds_the_rest(sqlite_path: Path) -> None:
    """A failed probe holds everything else, costs nobody an attempt, and the next one waits longer each time."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={f"k{n:03}": "SICK" for n in range(30)}, active=40, script=[_FAILED] * 99)
        ready = procedure(ward, entity=ORDER)
        for _ in range(24):
            await sweep(world.parts, ready)
            await world.later(300)
        assert 4 <= len(ward.treated) <= 6  # at 0, 5, 15, 35, 75 ... minutes within two hours
        found = await incidents(world)
        assert {one.attempts for one in found} == {0}
        assert IncidentState.ESCALATED not in {one.state for one in found}
        assert [kind for kind, _ in await notices(world)] == ["HELD", "SYSTEM_ALERT"]

    play(sqlite_path, story)


def test_kill_switch_stops_between_two_waves(sqlite_path: Path) -> None:
    """Thrown in the middle of a sweep, no further wave begins; detection goes on."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={f"k{n}": "SICK" for n in range(10)})

        async def throw(_: object) -> None:
            if len(ward.treated) == 3:
                await orders.pause(world.parts, None, by="ada", reason="stop it")

        ward.during = throw
        ready = procedure(ward)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 3
        swept = await sweep(world.parts, ready)
        assert swept.found == 7
        assert swept.verdict is not None
        assert "everything is paused by ada: stop it" in swept.verdict.reason
        await orders.resume(world.parts, None, by="ada")
        await sweep(world.parts, ready)
        assert len(ward.treated) == 10

    play(sqlite_path, story)


def test_pool_that_stays_too_full_is_told_once(sqlite_path: Path) -> None:
    """HEAL_CONN_002: above 80 % idle connections are ended; still above 90 % afterwards a person hears of it, once."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"connections": "SICK"}, cures=False, facts={"share": 0.93})
        ready = procedure(ward, notify_above=0.90)
        for _ in range(3):
            await sweep(world.parts, ready)
            await world.later(900)
        told = [one.kind for one in await world.told() if one.channel == "ops"]
        assert told.count("CONNECTION_POOL_HIGH") == 1

    play(sqlite_path, story)


def test_pool_that_has_room_again_is_not_told(sqlite_path: Path) -> None:
    """Between 80 and 90 % nobody is disturbed."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"connections": "SICK"}, cures=False, facts={"share": 0.85})
        await sweep(world.parts, procedure(ward, notify_above=0.90))
        assert "CONNECTION_POOL_HIGH" not in [one.kind for one in await world.told()]

    play(sqlite_path, story)
