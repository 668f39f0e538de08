"""One recovery, step by step: claimed once, recorded before it acts, and never lost, whoever interrupts it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import BUSY, CRM, DONE, OAUTHED, PROBED, START, WORKER, World, play, refused
from prunella.core.errors import SecretError, StoreUnavailable
from prunella.core.records import Category
from prunella.core.states import IncidentState, OperationState, RunState
from prunella.engine import heal, patrol, people
from prunella.engine.parts import LEASE_S
from prunella.remedies.contract import Outcome, Target

HONEST = replace(CRM, honours_idempotency_key=True)


async def interrupted(world: World, incident_id: str | None) -> None:
    """Begin a healing and end it in mid-call, as a killed process does; its lease is over afterwards."""
    assert incident_id is not None
    calling = asyncio.Event()

    async def hang(_: Target) -> None:
        calling.set()
        await asyncio.Event().wait()

    world.hands.during = hang
    work = asyncio.create_task(world.heal(incident_id))
    await calling.wait()
    work.cancel()
    await asyncio.wait([work])
    world.hands.during = None
    await world.later(LEASE_S)


# The story ------------------------------------------------------------------------------------------------------------


def test_network_failure_is_replayed_and_proven(sqlite_path: Path) -> None:
    """Failure, wait, replay, proof: resolved with the reason, one run, one recovered message, nothing left queued."""

    async def story(world: World) -> None:
        receipt = await world.fail(payload={"n": 1})
        await world.later(2)
        one = await world.incident(receipt.incident_id)
        assert one.state is IncidentState.RESOLVED
        assert "1 of 1 replayed requests answered as expected" in one.action_taken
        (deed,) = world.hands.did()
        assert deed.target.request is not None
        assert (deed.target.request.method, deed.target.request.payload) == ("POST", {"n": 1})
        assert deed.target.incident_id == one.id
        (run,) = await world.runs(one.id)
        assert (run.state, run.worker, run.attempt, run.procedure) == (RunState.VERIFIED, WORKER, 1, "recover.network")
        assert [told.kind for told in await world.told()] == ["detected", "attempt", "recovered"]
        assert world.queued() == []
        assert (one.lease_until, one.claimed_by, one.next_at) == (None, None, None)

    play(sqlite_path, story, running=True)


def test_network_failure_is_tried_three_times_and_then_rests(sqlite_path: Path) -> None:
    """Document B: waits of 0.5, 1 and 2 s with jitter, three tries, then pending until the scan."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)]
        receipt = await world.fail()
        await world.later(600)
        first, second, third = (deed.at_s for deed in world.hands.did())
        assert 0.25 <= first <= 0.6
        assert 0.5 <= second - first <= 1.1
        assert 1.0 <= third - second <= 2.1
        one = await world.incident(receipt.incident_id)
        (operation,) = await world.operations()
        assert (one.state, one.next_at) == (IncidentState.OPEN, None)
        assert (operation.state, operation.attempts, operation.due_at) == (OperationState.WAITING, 3, None)
        assert [run.state for run in await world.runs(one.id)] == [RunState.FAILED] * 3
        assert {deed.target.idempotency_key for deed in world.hands.did()} == {operation.idempotency_key}

    play(sqlite_path, story, running=True)


def test_unknown_failure_is_tried_once_after_a_second(sqlite_path: Path) -> None:
    """Document B: one retry after 1 s, then a person is told."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(None, "it went wrong somehow")]
        await world.fail(status=None, message="it went wrong somehow")
        await world.later(600)
        (deed,) = world.hands.did()
        assert 1.0 <= deed.at_s <= 1.6
        assert [dict(told.facts)["Recovery Plan"].startswith("one retry") for told in await world.told("detected")] == [
            False,
            True,
        ]

    play(sqlite_path, story, running=True)


def test_data_failure_is_a_persons_at_once(sqlite_path: Path) -> None:
    """Never replayed: escalated with the reason, nothing queued."""

    async def story(world: World) -> None:
        receipt = await world.fail(status=422)
        await world.later(60)
        one = await world.incident(receipt.incident_id)
        assert (one.state, world.hands.deeds, world.queued()) == (IncidentState.ESCALATED, [], [])
        assert one.held_reason == "no retry: the data has to be corrected and sent again"

    play(sqlite_path, story, running=True)


def test_expired_token_is_refreshed_and_then_the_request_replayed(sqlite_path: Path) -> None:
    """Auth: one refresh of the version that failed, then the replays, at once and without waits."""

    async def story(world: World) -> None:
        await world.put_tokens()

        world.hands.rotate(world.store)
        world.hands.script["refresh_token"] = [Outcome(ok=True, detail="token refreshed", token_version=2)]
        receipt = await world.fail("oauthed", status=401)
        await world.fail("oauthed", status=401)
        await world.later(3)
        assert [deed.remedy for deed in world.hands.deeds] == ["refresh_token", "replay", "replay"]
        assert world.hands.did("refresh_token")[0].target.stale_version == 1
        assert world.hands.deeds[-1].at_s < 1.0
        assert not (await world.incident(receipt.incident_id)).is_open

    play(sqlite_path, story, running=True)


def test_failure_without_a_request_is_proven_by_the_health_check(sqlite_path: Path) -> None:
    """Nothing to replay: the service is asked, and a good answer resolves."""

    async def story(world: World) -> None:
        receipt = await world.fail("probed", endpoint=None)
        await world.later(1)
        one = await world.incident(receipt.incident_id)
        assert "health check: HTTP 200" in one.action_taken
        assert not one.is_open
        (run,) = await world.runs(one.id)
        assert (run.remedy, run.operation_id, run.idempotency_key) == ("probe", None, f"{one.id}:1")

    play(sqlite_path, story, running=True)


def test_long_wait_becomes_a_due_time(sqlite_path: Path) -> None:
    """A service that asks for an hour gets it: nothing is sent before, and nobody waits in memory only."""

    async def story(world: World) -> None:
        receipt = await world.fail(status=429, headers={"retry-after": "3600"})
        await world.later(60)
        one = await world.incident(receipt.incident_id)
        assert one.next_at == START + timedelta(hours=1)
        assert world.hands.deeds == []
        assert 3500 < world.due_in_s(one.id) < 3600
        await world.later(3600)
        assert len(world.hands.did()) == 1
        assert not (await world.incident(one.id)).is_open

    play(sqlite_path, story, running=True)


# Joining in the middle ------------------------------------------------------------------------------------------------


def test_event_that_joins_during_a_call_is_not_lost(sqlite_path: Path) -> None:
    """An event of the same cause arrives while its incident is called for: its own request goes out, too."""

    async def story(world: World) -> None:
        joined: list[str | None] = []

        async def join(_: Target) -> None:
            if not joined:
                joined.append((await world.fail()).incident_id)

        world.hands.during = join
        receipt = await world.fail()
        await world.later(5)
        assert joined == [receipt.incident_id]
        assert [one.state for one in await world.operations()] == [OperationState.DONE] * 2
        one = await world.incident(receipt.incident_id)
        assert (one.state, one.count) == (IncidentState.RESOLVED, 2)
        assert len(await world.told("recovered")) == 1

    play(sqlite_path, story, running=True)


def test_event_that_joins_during_a_call_makes_its_incident_due(sqlite_path: Path) -> None:
    """In the tables, not only in the runner's memory: its first try has a time, and nothing is called resolved."""

    async def story(world: World) -> None:
        async def join(_: Target) -> None:
            world.hands.during = None
            await world.fail()

        receipt = await world.fail()
        await world.heal(receipt.incident_id)
        await world.later(1)
        world.hands.during = join
        await world.heal(receipt.incident_id)
        one = await world.incident(receipt.incident_id)
        first, second = await world.operations()
        assert (first.state, second.state) == (OperationState.DONE, OperationState.WAITING)
        assert second.due_at is not None
        assert (one.state, one.next_at, one.held_reason) == (IncidentState.OPEN, second.due_at, None)

    play(sqlite_path, story)


def test_event_after_the_resolution_opens_anew(sqlite_path: Path) -> None:
    """What comes after the proof is a new incident, linked to the old one, and healed as well."""

    async def story(world: World) -> None:
        first = await world.fail()
        await world.later(5)
        second = await world.fail()
        await world.later(5)
        assert first.incident_id != second.incident_id
        assert [one.is_open for one in await world.incidents()] == [False, False]
        assert (await world.incident(second.incident_id)).previous_id == first.incident_id

    play(sqlite_path, story, running=True)


# Leases ---------------------------------------------------------------------------------------------------------------


def test_incident_is_healed_by_one_worker_at_a_time(sqlite_path: Path) -> None:
    """Two workers reach for it at the same moment: one calls, the other comes back when the lease ends."""

    async def story(world: World) -> None:
        receipt = await world.fail("probed", endpoint=None)
        await asyncio.gather(world.heal(receipt.incident_id), world.heal(receipt.incident_id))
        assert len(world.hands.deeds) == 1
        assert world.due_in_s(receipt.incident_id or "") < LEASE_S

    play(sqlite_path, story)


@pytest.mark.parametrize("state", ["resolved", "escalated", "suppressed", "awaiting_approval"])
def test_incident_that_is_a_persons_or_closed_is_not_touched(sqlite_path: Path, state: str) -> None:
    """Nothing is claimed, called or queued for it."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await world.runner.cancel("heal", receipt.incident_id or "")
        before = replace(await world.incident(receipt.incident_id), state=state)  # type: ignore[arg-type]
        await world.save(before)
        await world.heal(receipt.incident_id)
        after = await world.incident(receipt.incident_id)
        assert replace(after, version=0) == replace(before, version=0)
        assert (world.hands.deeds, world.queued()) == ([], [])

    play(sqlite_path, story)


def test_healing_of_an_unknown_incident_does_nothing(sqlite_path: Path) -> None:
    """A queue may hold what the tables no longer know."""

    async def story(world: World) -> None:
        await heal.heal(world.parts, "nobody")
        assert world.queued() == []

    play(sqlite_path, story)


def test_attempt_is_recorded_before_the_call(sqlite_path: Path) -> None:
    """In the middle of a call its run, its operation and the lease stand in the tables."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        looked = asyncio.Event()

        async def look(_: Target) -> None:
            one = await world.incident(receipt.incident_id)
            assert (one.state, one.claimed_by) == (IncidentState.HEALING, WORKER)
            assert [run.state for run in await world.runs(one.id)] == [RunState.RUNNING]
            assert [row.state for row in await world.operations()] == [OperationState.RUNNING]
            assert [entry.action for entry in await world.audit()][-1] == "replay.begun"
            looked.set()

        world.hands.during = look
        await world.later(5)
        assert looked.is_set()

    play(sqlite_path, story, running=True)


def test_lease_lost_during_a_call_leaves_the_incident_to_the_new_owner(sqlite_path: Path) -> None:
    """A worker that was too slow writes what its call brought about, and changes nothing of the incident."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        incident_id = receipt.incident_id or ""

        async def taken_over(_: Target) -> None:
            await world.later(LEASE_S + 1)
            now = world.parts.clock.now()
            async with world.parts.store.transaction() as tx:
                assert await tx.incidents.claim(incident_id, "worker-2", now, now + timedelta(seconds=LEASE_S))

        await world.heal(incident_id)
        await world.later(1)
        world.hands.during = taken_over
        await world.heal(incident_id)
        one = await world.incident(incident_id)
        assert (one.state, one.claimed_by) == (IncidentState.HEALING, "worker-2")
        assert [run.state for run in await world.runs(incident_id)] == [RunState.VERIFIED]
        assert [row.state for row in await world.operations()] == [OperationState.DONE]
        assert await world.told("recovered") == []
        await world.later(LEASE_S)
        await world.heal(incident_id)
        await world.heal(incident_id)
        assert len(world.hands.did()) == 1

    play(sqlite_path, story)


def test_worker_taken_for_dead_does_not_overrule_its_successor(sqlite_path: Path) -> None:
    """The successor called the attempt unknown and quarantined it; the late answer changes neither."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await world.heal(receipt.incident_id)
        await world.later(1)
        await world.heal_and_be_taken_for_dead(receipt.incident_id)
        assert [run.state for run in await world.runs(receipt.incident_id)] == [RunState.UNKNOWN]
        assert [row.state for row in await world.operations()] == [OperationState.DEAD]
        assert (await world.incident(receipt.incident_id)).state is IncidentState.ESCALATED
        assert len(world.hands.did()) == 1

    play(sqlite_path, story)


# Interrupted calls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "method", "repeated"),
    [
        (CRM, "POST", False),
        (CRM, "PATCH", False),
        (CRM, "GET", True),
        (CRM, "PUT", True),
        (CRM, "DELETE", True),
        (HONEST, "POST", True),
        (HONEST, "PATCH", True),
    ],
    ids=lambda one: one if isinstance(one, str) else ("honours" if getattr(one, "honours_idempotency_key", 0) else ""),
)
def test_call_that_died_is_repeated_only_where_that_is_safe(
    sqlite_path: Path, service: Any, method: str, repeated: bool
) -> None:
    """Nobody knows its outcome: repeatable methods and honoured keys go again, everything else is a person's."""

    async def story(world: World) -> None:
        receipt = await world.fail(method=method)
        await world.heal(receipt.incident_id)
        await world.later(1)
        await interrupted(world, receipt.incident_id)
        await world.heal(receipt.incident_id)
        runs = await world.runs(receipt.incident_id)
        assert (runs[0].state, runs[0].detail) == (RunState.UNKNOWN, "the worker died in mid-call")
        assert len(await world.audit("run.unknown")) == 1
        (operation,) = await world.operations()
        one = await world.incident(receipt.incident_id)
        assert len(world.hands.did()) == (2 if repeated else 1)
        if repeated:
            assert (operation.state, one.state) == (OperationState.DONE, IncidentState.RESOLVED)
            assert len({deed.target.idempotency_key for deed in world.hands.did()}) == 1
        else:
            assert (operation.state, one.state) == (OperationState.DEAD, IncidentState.ESCALATED)
            assert "outcome unknown" in (operation.last_error or "")
            refused = replace(operation, state=OperationState.RUNNING, last_kind="data.refused")
            now_unknown = heal._after_death(service, refused, world.parts.clock.now())
            assert now_unknown.last_kind is None  # a remedy brings back what was refused, not what may have arrived

    play(sqlite_path, story, services=[service])


def test_call_that_keeps_killing_its_worker_is_not_repeated_for_ever(sqlite_path: Path) -> None:
    """After three deaths it rests until a scan or a person: it may be what kills the workers."""

    async def story(world: World) -> None:
        receipt = await world.fail(method="PUT")
        await world.heal(receipt.incident_id)
        await world.later(1)
        for _ in range(3):
            await interrupted(world, receipt.incident_id)
        for _ in range(3):
            await world.heal(receipt.incident_id)
            await world.later(LEASE_S)
        assert len(world.hands.did()) == 3
        (operation,) = await world.operations()
        assert (operation.state, operation.due_at, operation.attempts) == (OperationState.WAITING, None, 3)

    play(sqlite_path, story)


@pytest.mark.parametrize(("status", "category"), [(503, Category.NETWORK), (418, Category.UNKNOWN)])
def test_scan_takes_up_what_workers_died_over(sqlite_path: Path, status: int, category: Category) -> None:
    """Deaths of ours say nothing about the service: even a failure that nobody knows is tried again, and proven."""

    async def story(world: World) -> None:
        receipt = await world.fail(method="PUT", status=status, message="")
        await world.heal(receipt.incident_id)
        await world.later(2)
        for _ in range(3):
            await interrupted(world, receipt.incident_id)
        await world.heal(receipt.incident_id)
        (operation,) = await world.operations()
        assert (operation.state, operation.due_at) == (OperationState.WAITING, None)
        resting = await world.incident(receipt.incident_id)
        assert (resting.category, resting.next_at) == (category, None)
        await patrol.scan(world.parts, window_minutes=60, limit=50)
        assert (await world.incident(receipt.incident_id)).next_at is not None
        await world.heal(receipt.incident_id)
        assert not (await world.incident(receipt.incident_id)).is_open

    play(sqlite_path, story)


def test_probe_and_refresh_that_died_are_simply_done_again(sqlite_path: Path) -> None:
    """They have no effect outside that could double: unknown is noted, and the next step is taken."""

    async def story(world: World) -> None:
        receipt = await world.fail("probed", endpoint=None)
        await interrupted(world, receipt.incident_id)
        await world.heal(receipt.incident_id)
        assert [run.state for run in await world.runs(receipt.incident_id)] == [RunState.UNKNOWN, RunState.VERIFIED]
        assert not (await world.incident(receipt.incident_id)).is_open

    play(sqlite_path, story, services=[PROBED])


# What comes back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "state", "words"),
    [
        (SecretError("the secret crm-key is not set"), IncidentState.ESCALATED, "the secret crm-key is not set"),
        (RuntimeError("boom"), IncidentState.OPEN, "the remedy replay raised RuntimeError"),
    ],
)
def test_remedy_that_raises_becomes_an_outcome(
    sqlite_path: Path, raised: Exception, state: IncidentState, words: str
) -> None:
    """A missing secret is a person's; a bug is a failed try of ours; nothing passes the engine's hands."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [raised]
        receipt = await world.fail()
        await world.later(60)
        one = await world.incident(receipt.incident_id)
        assert one.state is state
        assert words in (one.held_reason or "")
        assert {run.state for run in await world.runs(one.id)} == {RunState.FAILED}
        assert (await world.gate()).state.value == "closed"

    play(sqlite_path, story, running=True)


def test_our_own_database_failing_counts_for_nothing(sqlite_path: Path) -> None:
    """A remedy that could not read our tables says nothing about the service: it is tried again, uncounted."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [StoreUnavailable("locked"), BUSY, BUSY, BUSY, DONE]
        receipt = await world.fail("shy")
        await world.later(10)
        assert not (await world.incident(receipt.incident_id)).is_open
        (operation,) = await world.operations()
        assert (operation.state, operation.attempts) == (OperationState.DONE, 1)
        assert (await world.gate("shy")).failures == 0

    play(sqlite_path, story, running=True)


def test_person_who_escalates_during_a_call_is_not_overruled(sqlite_path: Path) -> None:
    """The call fails: it stays with the person, nothing more is tried. The call succeeds: the proof counts."""
    for outcome, state in ((refused(503), IncidentState.ESCALATED), (DONE, IncidentState.RESOLVED)):

        async def story(world: World, outcome: Outcome = outcome, state: IncidentState = state) -> None:
            receipt = await world.fail()

            async def escalate(_: Target) -> None:
                await people.act_on_incident(world.parts, receipt.incident_id or "", "escalate", by="ada")

            world.hands.during, world.hands.script["replay"] = escalate, [outcome]
            await world.later(60)
            one = await world.incident(receipt.incident_id)
            assert one.state is state
            assert len(world.hands.did()) == 1
            assert state is IncidentState.RESOLVED or one.held_reason == "escalated by ada"

        play(sqlite_path, story, running=True)


def test_paused_service_is_not_called_and_says_so(sqlite_path: Path) -> None:
    """While a person's pause lasts nothing is sent; when it ends everything that waited goes out."""

    async def story(world: World) -> None:
        await people.act_on_service(world.parts, "crm", "pause", by="ada", reason="release")
        receipt = await world.fail()
        await world.later(3600)
        one = await world.incident(receipt.incident_id)
        assert (world.hands.deeds, one.held_reason) == ([], "crm is paused by ada: release")
        await people.act_on_service(world.parts, "crm", "resume", by="ada")
        await world.later(5)
        assert not (await world.incident(one.id)).is_open

    play(sqlite_path, story, running=True)


def test_tokens_of_another_account_are_replayed_apart(sqlite_path: Path) -> None:
    """One pass serves one account, so that a refresh is always for the tokens that failed."""

    async def story(world: World) -> None:
        await world.put_tokens(account="ada")
        await world.put_tokens(account="bob")
        await world.fail("oauthed", account="ada")
        receipt = await world.fail("oauthed", account="bob")
        await world.later(5)
        assert [deed.target.account for deed in world.hands.did()] == ["ada", "bob"]
        assert not (await world.incident(receipt.incident_id)).is_open

    per_user = replace(OAUTHED, oauth=replace(OAUTHED.oauth, per_user=True))  # type: ignore[type-var]
    play(sqlite_path, story, running=True, services=[per_user])
