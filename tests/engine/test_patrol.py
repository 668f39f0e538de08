"""The scan takes what is due or rests, probes ask what is shut, and no procedure harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import CRM, DONE, OAUTHED, PROBED, SHY, START, World, play, refused
from prunella.core.services import Health
from prunella.core.states import GateState, IncidentState, OperationState
from prunella.engine import patrol, people
from prunella.engine.parts import LEASE_S, Parts
from prunella.engine.patrol import Round

MINUTE = 60.0


async def nothing(_: Parts) -> Mapping[str, Any]:
    return {}


async def row_of(world: World, name: str) -> Mapping[str, Any]:
    """Return a procedure's row."""
    async with world.parts.store.transaction() as tx:
        return await tx.procedures.register(name)


# Procedures -----------------------------------------------------------------------------------------------------------


def test_every_deployment_has_a_scan_and_its_probes() -> None:
    """Document B: a scan every 15 minutes over 15 minutes and 50 incidents; a probe per health check."""
    hurried = replace(PROBED, name="hurried", health=Health(path="/", every_s=5))
    found = patrol.rounds({one.name: one for one in (CRM, PROBED, hurried)}, {})
    assert {name: one.every_s for name, one in found.items()} == {"scan": 900, "probe:probed": 60, "probe:hurried": 5}
    assert (patrol.SCAN_EVERY_S, patrol.SCAN_WINDOW_MINUTES, patrol.SCAN_LIMIT) == (900, 15, 50)


@pytest.mark.parametrize(
    ("ran_ago_s", "least_s", "most_s"),
    [(None, 10, 15), (30, 570, 570), (595, 10, 15), (599, 10, 15), (86_400, 10, 15)],
)
def test_first_run_comes_soon_unless_the_last_is_young(
    sqlite_path: Path, ran_ago_s: float | None, least_s: float, most_s: float
) -> None:
    """Decision 5: 10 s after the start plus up to 5 s of spread, but never earlier than the interval."""

    async def story(world: World) -> None:
        await row_of(world, "p")
        if ran_ago_s is not None:
            ran = START - timedelta(seconds=ran_ago_s)
            async with world.parts.store.transaction() as tx:
                await tx.procedures.claim("p", "w", ran, ran)
        await patrol.schedule(world.parts, {"p": Round("p", 600, nothing)})
        assert least_s <= world.due_in_s("p", handler="procedure") <= most_s

    play(sqlite_path, story)


def test_run_leaves_its_log_and_its_successor(sqlite_path: Path) -> None:
    """Counted, timed, its result kept and audited; the next run is one interval after this one began."""

    async def story(world: World) -> None:
        async def work(parts: Parts) -> Mapping[str, Any]:
            await parts.clock.sleep(2)
            return {"looked": 3}

        await row_of(world, "p")
        await patrol.run_procedure(world.parts, Round("p", 600, work))
        row = await row_of(world, "p")
        assert (row["runs"], row["failures"], row["lease_until"]) == (1, 0, None)
        assert row["last_result"] == {"looked": 3, "took_s": 2.0}
        assert [(one.action, one.target, one.reason) for one in await world.audit()] == [
            ("procedure.finished", "p", "looked 3, took 2.0 s")
        ]
        assert world.due_in_s("p", handler="procedure") == 598

    play(sqlite_path, story)


def test_procedure_never_overlaps_itself(sqlite_path: Path) -> None:
    """A run that takes longer than its interval, on two workers: never two at once, and none is queued up behind it."""

    async def story(world: World) -> None:
        at_once: list[int] = []
        running = 0

        async def slow(parts: Parts) -> Mapping[str, Any]:
            nonlocal running
            running += 1
            at_once.append(running)
            await parts.clock.sleep(250)
            running -= 1
            return {}

        await row_of(world, "p")
        procedure = Round("p", 60, slow)
        other = replace(world.parts, worker="worker-2")

        async def every_minute(parts: Parts) -> None:
            started = []
            for _ in range(10):
                started.append(asyncio.create_task(patrol.run_procedure(parts, procedure)))
                await world.later(60)
            await asyncio.gather(*started)

        await asyncio.gather(every_minute(world.parts), every_minute(other))
        assert set(at_once) == {1}
        assert len(at_once) == 2 or len(at_once) == 3
        assert (await row_of(world, "p"))["runs"] == len(at_once)

    play(sqlite_path, story)


def test_failing_procedure_is_logged_and_stops_no_other(sqlite_path: Path) -> None:
    """Its failure is counted, audited without secrets and heard of as our own; it runs again, and so do the others."""

    async def story(world: World) -> None:
        ran: list[str] = []

        async def broken(_: Parts) -> Mapping[str, Any]:
            ran.append("broken")
            raise RuntimeError("token xoxb-1234567890-abcdefghijklmnop is bad")

        async def good(_: Parts) -> Mapping[str, Any]:
            ran.append("good")
            return {}

        procedures = {"broken": Round("broken", 60, broken), "good": Round("good", 60, good)}

        async def run(name: str) -> None:
            await patrol.run_procedure(world.parts, procedures[name])

        world.runner.handle("procedure", run)
        await patrol.schedule(world.parts, procedures)
        work = asyncio.create_task(world.runner.run())
        await world.later(200)
        await world.runner.stop()
        await work
        assert (ran.count("broken"), ran.count("good")) == (4, 4)
        row = await row_of(world, "broken")
        assert (row["runs"], row["failures"]) == (4, 4)
        assert row["last_result"]["error"].startswith("RuntimeError: token")
        entries = await world.audit("procedure.failed")
        assert len(entries) == 4
        assert "xoxb-1234567890" not in f"{row} {entries}"
        assert {event.fields["handler"] for event in world.emitted("engine.failed")} == {"broken"}

    play(sqlite_path, story)


# The scan -------------------------------------------------------------------------------------------------------------


async def scan(world: World, window_minutes: float = 15, limit: int = 50) -> list[str]:
    """Scan, and return the operations of what was decided on, in its order."""
    decided = await patrol.scan(world.parts, window_minutes=window_minutes, limit=limit)
    return [one.title.rpartition(" on POST /")[2] for one in decided]


def resting(world: World) -> None:
    """Let every first three tries of a request fail, and go well afterwards."""
    world.hands.script["replay"] = [refused(503)] * 3 + [DONE]


def test_scan_takes_up_what_rests(sqlite_path: Path) -> None:
    """Three tries in vain, then the scan: one more try, and it is proven."""

    async def story(world: World) -> None:
        resting(world)
        receipt = await world.fail(operation="POST /a")
        await world.later(MINUTE)
        assert len(world.hands.did()) == 3
        assert await scan(world) == ["a"]
        one = await world.incident(receipt.incident_id)
        assert (one.state, len(world.hands.did())) == (IncidentState.RESOLVED, 4)

    play(sqlite_path, story, running=True)


def test_scan_tries_once_and_lets_rest_again(sqlite_path: Path) -> None:
    """A service that is still down gets one try per scan, not another three."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)]
        await world.fail()
        await world.later(MINUTE)
        for tries in (4, 5, 6):
            await scan(world)
            await world.later(MINUTE)
            assert len(world.hands.did()) == tries

    play(sqlite_path, story, running=True)


def test_scan_looks_back_as_far_as_its_window(sqlite_path: Path) -> None:
    """What rests is taken within the window, what is due whatever its age; oldest first, up to the limit."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)]
        await world.fail(operation="POST /old")
        await world.later(20 * MINUTE)
        await world.fail(operation="POST /young")
        await world.later(MINUTE)
        assert await scan(world, window_minutes=15) == ["young"]
        await world.later(MINUTE)
        assert await scan(world, window_minutes=60) == ["old", "young"]
        await world.later(MINUTE)
        assert await scan(world, window_minutes=60, limit=1) == ["old"]
        await world.later(MINUTE)
        (old, _) = await world.incidents()
        await world.save(replace(old, next_at=world.parts.clock.now()))
        assert await scan(world, window_minutes=1) == ["old"]

    play(sqlite_path, story, running=True)


def test_scan_never_shortens_a_wait_that_was_asked_for(sqlite_path: Path) -> None:
    """Due in an hour is due in an hour, however often somebody scans."""

    async def story(world: World) -> None:
        await world.fail(status=429, headers={"retry-after": "3600"})
        await world.later(MINUTE)
        assert await scan(world) == []
        assert world.hands.deeds == []

    play(sqlite_path, story, running=True)


@pytest.mark.parametrize(
    ("changed", "tries"),
    [({"status": 422}, 0), ({"status": None, "message": "it went wrong"}, 1)],
    ids=["data", "unknown"],
)
def test_scan_counts_refusals_and_does_not_repeat_them(sqlite_path: Path, changed: dict[str, Any], tries: int) -> None:
    """Wrong data and unknown failures are a person's: decided on, counted, not sent again."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(None, "it went wrong")]
        await world.fail(operation="POST /a", **changed)
        await world.later(MINUTE)
        assert await scan(world) == ["a"]
        assert len(world.hands.did()) == tries

    play(sqlite_path, story, running=True)


@pytest.mark.parametrize("act", ["suppress", "escalate"])
def test_scan_leaves_to_a_person_what_is_theirs(sqlite_path: Path, act: str) -> None:
    """Taken over by a person: no scan touches it."""

    async def story(world: World) -> None:
        resting(world)
        receipt = await world.fail()
        await world.later(MINUTE)
        await people.act_on_incident(world.parts, receipt.incident_id or "", act, by="ada")
        await scan(world)
        await world.later(MINUTE)
        assert len(world.hands.did()) == 3
        assert (
            await world.incident(receipt.incident_id)
        ).held_reason == f"{act}{'ed' if act == 'suppress' else 'd'} by ada"

    play(sqlite_path, story, running=True)


def test_scan_answers_within_its_budget(sqlite_path: Path) -> None:
    """Thirty services that take a minute to fail: the scan answers after 8 s, and the work goes on by itself."""
    services = [replace(CRM, name=f"s{number}", timeout_s=60) for number in range(30)]

    async def story(world: World) -> None:
        world.hands.takes_s = LEASE_S - 1
        for service in services:
            await world.fail(service.name, method="PUT")
        await world.later(1)
        started = world.now_s()
        decided = await patrol.scan(world.parts, window_minutes=15, limit=50)
        assert world.now_s() - started <= 8.0
        assert len(decided) in (0, 30)
        await world.later(2 * MINUTE)
        assert {one.is_open for one in await world.incidents()} == {False}
        assert {len(await world.runs(one.id)) for one in await world.incidents()} == {1}

    play(sqlite_path, story, services=services, running=True)


def test_scheduled_scan_heals_what_comes_back_later(sqlite_path: Path) -> None:
    """A service that is down for forty minutes: nobody does anything, and within the hour the request is through."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)]
        await patrol.schedule(world.parts, patrol.rounds({"crm": CRM}, {}))
        receipt = await world.fail()
        await world.later(40 * MINUTE)
        assert (await world.incident(receipt.incident_id)).is_open
        world.hands.script["replay"] = [DONE]
        await world.later(16 * MINUTE)
        assert not (await world.incident(receipt.incident_id)).is_open
        assert len(world.hands.did()) <= 8
        row = await row_of(world, "scan")
        assert (row["runs"], row["failures"]) == (4, 0)

    play(sqlite_path, story, services=[CRM], running=True)


# Waking ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "by_person", "woken"),
    [
        ("open", False, True),
        ("verifying", False, True),
        ("escalated", False, False),
        ("suppressed", False, False),
        ("awaiting_approval", False, False),
        ("open", True, True),
        ("escalated", True, True),
        ("suppressed", True, True),
    ],
)
def test_what_waits_for_a_person_is_woken_by_a_person(
    sqlite_path: Path, state: str, by_person: bool, woken: bool
) -> None:
    """A machine wakes what rests; what a person has is a person's."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await world.runner.cancel("heal", receipt.incident_id or "")
        one = await world.incident(receipt.incident_id)
        await world.save(replace(one, state=IncidentState(state), next_at=None))
        async with world.parts.store.transaction() as tx:
            await patrol.wake(world.parts, tx, await tx.incidents.take(one.id), by_person=by_person)
        after = await world.incident(one.id)
        assert (world.queued() == [(one.id,)]) is woken
        assert (after.next_at is not None) is woken
        assert not woken or after.state is IncidentState.OPEN

    play(sqlite_path, story)


def test_waking_a_service_wakes_all_of_it_and_nothing_else(sqlite_path: Path) -> None:
    """Every open incident of the service; those of others sleep on."""

    async def story(world: World) -> None:
        ids = [(await world.fail(operation=f"POST /{name}")).incident_id for name in "abc"]
        other = (await world.fail("shy")).incident_id
        for incident_id in (*ids, other):
            await world.runner.cancel("heal", incident_id or "")
        async with world.parts.store.transaction() as tx:
            assert await patrol.wake_service(world.parts, tx, "crm", by_person=False) == 3
        assert sorted(world.queued()) == sorted((one,) for one in ids)

    play(sqlite_path, story)


# Probes and enabling --------------------------------------------------------------------------------------------------

BY_PROBE = replace(PROBED, enable_again="by_probe")


@pytest.mark.parametrize(
    ("service", "state", "well", "asked", "after"),
    [
        (PROBED, GateState.CLOSED, True, 1, GateState.CLOSED),
        (PROBED, GateState.PAUSED, True, 0, GateState.PAUSED),
        (BY_PROBE, GateState.PAUSED, True, 0, GateState.PAUSED),
        (PROBED, GateState.DISABLED, True, 1, GateState.DISABLED),
        (BY_PROBE, GateState.DISABLED, True, 1, GateState.CLOSED),
        (BY_PROBE, GateState.DISABLED, False, 1, GateState.DISABLED),
        (PROBED, GateState.OPEN, True, 1, GateState.HALF_OPEN),
        (PROBED, GateState.OPEN, False, 1, GateState.OPEN),
        (PROBED, GateState.HALF_OPEN, True, 1, GateState.HALF_OPEN),
    ],
)
def test_probe_lifts_only_what_it_may(
    sqlite_path: Path, service: Any, state: GateState, well: bool, asked: int, after: GateState
) -> None:
    """A pause is never probed, all else is; a disablement ends by probe only where the service says so; an open gate half opens."""

    async def story(world: World) -> None:
        world.hands.script["probe"] = [DONE if well else refused(503)]
        reopen = START + timedelta(hours=1) if state is GateState.OPEN else None
        await world.set_gate(replace(await world.gate("probed"), state=state, reason="r", reopen_at=reopen))
        told = await patrol.probe(world.parts, "probed")
        assert len(world.hands.did("probe")) == asked
        assert (await world.gate("probed")).state is after
        assert ("well" in told) is bool(asked)

    play(sqlite_path, story, services=[service])


def test_probe_lifts_nothing_that_a_person_did(sqlite_path: Path) -> None:
    """Disabled by a person it stays so, however well it is and whatever lifts a threshold's disablement."""

    async def story(world: World) -> None:
        await patrol.schedule(world.parts, patrol.rounds(world.parts.services, {}))
        await people.act_on_service(world.parts, "probed", "disable", by="ada", reason="the contract ended")
        await world.later(1500)
        gate = await world.gate("probed")
        assert (gate.state, gate.changed_by) == (GateState.DISABLED, "ada")
        assert 1 <= len(world.hands.did("probe")) <= 3  # at every tenth turn, as where a person enables

    play(sqlite_path, story, services=[BY_PROBE], running=True)


def test_two_good_probes_close_an_open_gate_before_its_time(sqlite_path: Path) -> None:
    """The health check says that it is well: nobody has to wait for the end of the open time."""

    async def story(world: World) -> None:
        gate = replace(
            await world.gate("probed"), state=GateState.OPEN, reason="r", reopen_at=START + timedelta(hours=1)
        )
        await world.set_gate(gate)
        await patrol.probe(world.parts, "probed")
        await patrol.probe(world.parts, "probed")
        assert (await world.gate("probed")).state is GateState.CLOSED

    play(sqlite_path, story)


def test_passed_probe_enables_and_wakes_where_that_is_allowed(sqlite_path: Path) -> None:
    """Disabled by threshold, the service gets well: enabled by the probe, everything delivered, people told once."""

    async def story(world: World) -> None:
        world.hands.script["probe"] = [refused(503), refused(503), DONE]
        await patrol.schedule(world.parts, patrol.rounds(world.parts.services, {}))
        incident_id = await world.fail_together(9, "probed")
        assert (await world.gate("probed")).state is GateState.DISABLED
        await world.later(5 * MINUTE)
        assert (await world.gate("probed")).changed_by == "a passed health probe"
        assert not (await world.incident(incident_id)).is_open
        assert {one.state for one in await world.operations()} == {OperationState.DONE}
        assert len([told for told in await world.told("recovered") if told.incident_id is None]) == 1

    play(sqlite_path, story, services=[BY_PROBE], running=True)


def test_enabling_is_noted_with_what_was_lifted(sqlite_path: Path) -> None:
    """Who, and the reason that had shut it; listeners hear of it once it is durable."""

    async def story(world: World) -> None:
        await people.act_on_service(world.parts, "crm", "disable", by="ada", reason="migration")
        async with world.parts.store.transaction() as tx:
            await patrol.enable(world.parts, tx, "crm", by="bob", person=True)
            assert world.emitted("gate.changed") == []
        (entry,) = await world.audit("gate.enabled")
        assert (entry.actor, entry.reason) == ("bob", "migration")
        (event,) = world.emitted("gate.changed")
        assert (event.fields["state"], event.fields["reason"]) == ("closed", "enabled by bob")

    play(sqlite_path, story)


def test_probe_of_a_service_that_breaks_is_a_failed_probe(sqlite_path: Path) -> None:
    """A remedy that raises is no reason for the schedule to stop."""

    async def story(world: World) -> None:
        world.hands.script["probe"] = [RuntimeError("boom")]
        await world.set_gate(replace(await world.gate("probed"), state=GateState.DISABLED, reason="r"))
        assert (await patrol.probe(world.parts, "probed"))["well"] is False

    play(sqlite_path, story)


def test_services_of_these_stories_differ_in_their_health_checks() -> None:
    """Only the probed one has an address to ask."""
    assert [one.name for one in (CRM, SHY, OAUTHED, PROBED) if one.health is not None] == ["probed"]


# Outages ----------------------------------------------------------------------------------------------------------------


def test_service_that_stops_answering_is_shut_and_comes_back(sqlite_path: Path) -> None:
    """HEAL_CONN_003: down twice in a row shuts the gate, an hour is told once; back: the downtime is recorded and told."""

    async def story(world: World) -> None:
        for answer, gap in [(503, 60)] * 62 + [(200, 60)] * 3:
            world.hands.script["probe"] = [DONE if answer == 200 else refused(answer)]
            await patrol.probe(world.parts, "probed")
            await world.later(gap)
        gate = await world.gate("probed")
        assert (gate.state, gate.down_since) == (GateState.CLOSED, None)
        told = [(one.kind, dict(one.facts).get("Downtime")) for one in await world.told()]
        assert told == [("SERVICE_STILL_DOWN", None), ("SERVICE_STILL_DOWN", None), ("recovered", "1 h 2 min")]
        (entry,) = await world.audit("gate.recovered")
        assert entry.reason == "down for 1 h 2 min"

    play(sqlite_path, story)


def test_one_lost_answer_is_no_outage(sqlite_path: Path) -> None:
    """A single failed health check shuts nothing and tells nobody."""

    async def story(world: World) -> None:
        world.hands.script["probe"] = [refused(503), DONE, refused(503), DONE]
        for _ in range(4):
            await patrol.probe(world.parts, "probed")
        assert (await world.gate("probed")).state is GateState.CLOSED
        assert await world.told() == []

    play(sqlite_path, story)
