"""Lanes of many workers: limits that hold over all of them, order per key, and a recovery that is told once."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.crew import engine
from engine.world import DONE, OAUTHED, PROBED, SHY, World, play, refused
from prunella.core.records import Failure, Incident, Request, Signal
from prunella.core.services import DisableAfter, Service
from prunella.core.states import GateState, OperationState
from prunella.engine import heal, operations, patrol, people, rate
from prunella.engine.intake import Intake
from prunella.engine.parts import Parts
from prunella.remedies.contract import Outcome, Target
from prunella.store.contract import Store
from prunella.store.incidents import IncidentRows
from prunella.store.operations import OperationRows, Turn
from prunella.store.postgres import PostgresStore

NEVER = DisableAfter(auth=None, network=None, data=None, unknown=None)
CRM = Service(name="crm", base_url="https://api.example.com", honours_idempotency_key=True, disable_after=NEVER)
SLOW = replace(CRM, name="slow", rate_per_s=4.0)
ONE_ACCOUNT_EACH = 12


@dataclass
class Outside:
    """What all workers call: who calls at once, in which order, and how many began."""

    takes_s: float = 0.005
    answer: Callable[[Target], Outcome] = lambda _: DONE
    under_way: int = 0
    most_at_once: int = 0
    begun: list[Any] = field(default_factory=list)
    busy: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    overlaps: int = 0
    delivered: list[Any] = field(default_factory=list)

    async def act(self, name: str, target: Target) -> Outcome:
        """Answer after a while."""
        request = target.request
        path = request.endpoint if request is not None else name
        payload = request.payload if request is not None else None
        self.begun.append(payload)
        self.under_way += 1
        self.busy[path] += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        self.overlaps += self.busy[path] > 1
        await asyncio.sleep(self.takes_s)
        self.under_way -= 1
        self.busy[path] -= 1
        outcome = self.answer(target)
        if outcome.ok:
            self.delivered.append(payload)
        return outcome


def crew(store: Store, outside: Outside, service: Service, workers: int = 4) -> list[Parts]:
    """Return engines of several workers, each with a runner of its own."""
    made = [engine(store, f"w{one}", services={service.name: service}, act=outside.act) for one in range(workers)]
    for parts in made:
        parts.runner.handle("heal", partial(heal.heal, parts))
        parts.runner.handle("deliver", _nothing)
    return made


async def _nothing(channel: str) -> None:
    return None


async def report(parts: Parts, number: int, **changed: Any) -> None:
    """Report one failure; each `status` is a problem, and so an incident, of its own."""
    now = parts.clock.now()
    request = Request(method="POST", endpoint=f"/orders/{number}", payload={"n": number})
    failure = Failure(service="crm", status=changed.pop("status", 503), operation=changed.pop("operation", "POST /a"))
    fields: dict[str, Any] = {"id": parts.ids.new(), "source": "s", "event_id": f"{number}", "service": "crm"}
    fields |= {"occurred_at": now, "received_at": now, "failure": failure, "request": request}
    await Intake(parts).accept(Signal(**{**fields, **changed}))


async def until(done: Callable[[], bool], within_s: float = 20.0) -> None:
    """Let the workers work until something is so."""
    async with asyncio.timeout(within_s):
        while not done():  # noqa: ASYNC110, what is waited for is the outside's to say
            await asyncio.sleep(0.005)


async def at_work(crew: list[Parts], incidents: list[Incident], done: Callable[[], bool]) -> None:
    """Let every worker look at every incident until something is so."""
    works = [asyncio.create_task(parts.runner.run()) for parts in crew]
    for parts in crew:
        for incident in incidents:
            await parts.runner.submit("heal", incident.id)
    try:
        await until(done)
    finally:
        await asyncio.gather(*(parts.runner.stop() for parts in crew))
        await asyncio.gather(*works)


async def opened(store: Store) -> list[Incident]:
    async with store.transaction() as tx:
        return await tx.incidents.list(most=500)


async def many_incidents(store: Store, parts: Parts, each: int) -> list[Incident]:
    """Open twelve incidents of some requests each, all due now."""
    for number in range(ONE_ACCOUNT_EACH * each):
        await report(parts, number, operation=f"POST /{'abcdefghijkl'[number % ONE_ACCOUNT_EACH]}")
    async with store.transaction() as tx:
        for incident in await tx.incidents.list(most=500):
            await tx.operations.schedule_new(incident.id, parts.clock.now())
    return await opened(store)


# Limits over all workers ------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_calls_at_once_are_limited_over_all_workers(store: Store) -> None:
    """Four workers, twelve incidents, three places: never more than three calls are under way, and all get through."""
    outside = Outside()
    workers = crew(store, outside, replace(CRM, calls_max=3))
    incidents = await many_incidents(store, workers[0], 3)
    await at_work(workers, incidents, lambda: len(outside.delivered) == 36)
    assert outside.most_at_once <= 3
    assert len({one["n"] for one in outside.begun}) == len(outside.begun) == 36


@pytest.mark.anyio
@pytest.mark.parametrize("planted", [False, True], ids=["", "planted bug"])
async def test_rate_holds_over_all_workers(store: Store, monkeypatch: pytest.MonkeyPatch, planted: bool) -> None:
    """Four workers in one lane begin no more calls in their time than the rate allows, and use it up."""
    if planted:
        monkeypatch.setattr(rate, "begun", lambda gate, service, calls: gate)
    rate_per_s = 1.0 if planted else 4.0  # the bug is seen on a slow machine, too
    outside = Outside()
    workers = crew(store, outside, replace(CRM, calls_max=100, rate_per_s=rate_per_s))
    incidents = await many_incidents(store, workers[0], 4)
    begin = workers[0].clock.monotonic()

    def took_s() -> float:
        return workers[0].clock.monotonic() - begin

    def is_enough() -> bool:
        return len(outside.begun) == 48 or (not planted and took_s() > 1.5 and len(outside.begun) >= 4)

    await at_work(workers, incidents, is_enough)
    at_once, twice = rate_per_s, 2 * rate_per_s  # the fastest that it may have learned meanwhile
    assert (4 <= len(outside.begun) <= at_once + twice * took_s()) is not planted


@pytest.mark.anyio
@pytest.mark.parametrize("planted", [False, True], ids=["", "planted bug"])
async def test_open_gate_is_probed_once_per_period_over_all_workers(
    migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    """Four engines and twelve incidents that ask all the time: one call, then none before the gate's open time."""
    if planted:
        monkeypatch.setattr(heal, "begin_probe", lambda gate, now: gate)
    store = await PostgresStore.open(migrated_postgres_url)
    at: list[float] = []

    def answer(_: Target) -> Outcome:
        at.append(store.clock.monotonic())
        return refused(503)

    outside = Outside(answer=answer)
    engines = crew(store, outside, replace(CRM, gate=replace(CRM.gate, open_s=0.25)))
    incidents = await many_incidents(store, engines[0], 1)
    now = store.clock.now()
    async with store.transaction() as tx:
        gate = await tx.gates.take("crm", now)
        await tx.gates.save(replace(gate, state=GateState.OPEN, reason="r", down_since=now, reopen_at=now))

    async def ask(parts: Parts) -> None:
        while len(at) < 3:
            for incident in incidents:
                await heal.heal(parts, incident.id)

    async with asyncio.timeout(20):
        await asyncio.gather(*(ask(parts) for parts in engines))
    await store.close()
    held = all(later - before >= 0.25 * 2**n for n, (before, later) in enumerate(itertools.pairwise(at)))
    assert (outside.most_at_once == 1 and held) is not planted


@pytest.mark.parametrize(("status", "remedy"), [(503, "replay"), (429, "replay"), (401, "refresh_token")])
def test_refused_probe_is_the_only_one_of_its_period(sqlite_path: Path, status: int, remedy: str) -> None:
    """Whatever was refused, and be it new tokens: ten accounts wait together for the end of the open time."""

    async def story(world: World) -> None:
        world.hands.script = {remedy: [refused(503 if status == 401 else status)]}
        gate = await world.gate("oauthed")
        down = replace(gate, state=GateState.OPEN, reason="r", down_since=gate.since, reopen_at=gate.since)
        await world.set_gate(down)
        for number in range(10):
            await world.put_tokens(account=f"a{number}")
            await world.fail("oauthed", status=status, account=f"a{number}")
        await world.later(50)
        assert [deed.remedy for deed in world.hands.deeds] == [remedy]
        await world.later(60)
        assert [deed.remedy for deed in world.hands.deeds] == [remedy] * 2

    service = replace(OAUTHED, disable_after=NEVER, gate=replace(OAUTHED.gate, open_s=60.0))
    play(sqlite_path, story, services=[service], running=True)


# Order ------------------------------------------------------------------------------------------------------------


async def ordered(store: Store) -> Outside:
    """Deliver twenty changes of two things, reported to four workers under several problems; the first ones fail."""
    outside, refusals = Outside(), {"/things/0": 2, "/things/1": 1}

    def answer(target: Target) -> Outcome:
        assert target.request is not None
        refusals[target.request.endpoint] -= 1
        return refused(503) if refusals[target.request.endpoint] >= 0 else DONE

    outside.answer = answer
    workers = crew(store, outside, replace(CRM, calls_max=100))
    for number in range(20):
        request = Request(method="PUT", endpoint=f"/things/{number % 2}", payload={"n": number})
        await report(workers[number % 4], number, request=request, operation=f"PUT /{'abc'[number % 3]}")
    await at_work(workers, await opened(store), lambda: len(outside.delivered) == 20)
    return outside


def in_order(outside: Outside) -> bool:
    even = [one["n"] for one in outside.delivered if one["n"] % 2 == 0]
    odd = [one["n"] for one in outside.delivered if one["n"] % 2 == 1]
    return outside.overlaps == 0 and even == sorted(even) and odd == sorted(odd)


@pytest.mark.anyio
async def test_one_thing_is_changed_in_order(store: Store) -> None:
    """Whatever incident they belong to and whoever works, changes of one thing neither overtake nor meet each other."""
    assert in_order(await ordered(store))


@pytest.mark.anyio
async def test_broken_order_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above has teeth: without standing back the order breaks."""
    turn = OperationRows.turn

    async def all_at_once(self: OperationRows, *given: Any) -> Turn:
        rows = [one for one in await self.list(most=99, incident_id=given[0], state="waiting") if one.due_at]
        found = await turn(self, *given)
        return Turn([one for one in rows if one.due_at is not None and one.due_at <= given[1]] or found.free, {})

    monkeypatch.setattr(OperationRows, "turn", all_at_once)
    assert not in_order(await ordered(store))


def test_blocked_request_says_behind_what_it_waits(sqlite_path: Path) -> None:
    """While the first rests, its follower is not sent, says behind which it waits, and goes once the first has gone."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)] * 3 + [DONE]
        put = {"method": "PUT", "endpoint": "/orders/7"}
        first = await world.fail(**put)
        await world.later(0.2)
        second = await world.fail(**put, status=None, code="ECONNRESET", message="reset")
        assert first.incident_id != second.incident_id
        await world.later(30)
        (one, other) = await world.operations()
        assert (one.attempts, other.attempts, len(world.hands.did())) == (3, 0, 3)
        behind = await world.incident(second.incident_id)
        assert behind.held_reason == other.last_error == f"waits its turn behind operation {one.id}"
        assert behind.next_at is not None
        async with world.parts.store.transaction() as tx:
            await patrol.wake(world.parts, tx, await tx.incidents.take(first.incident_id or ""))
        await world.later(1)
        assert {row.state for row in await world.operations()} == {OperationState.DONE}
        assert len(await world.audit("incident.wait")) <= 3

    play(sqlite_path, story, running=True)


def test_follower_goes_once_a_person_took_the_first_out(sqlite_path: Path) -> None:
    """The first one rests and is cancelled: what stood behind it follows at once, not at the next look."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)] * 3 + [DONE]
        put = {"method": "PUT", "endpoint": "/orders/7"}
        await world.fail(**put)
        await world.later(0.2)
        await world.fail(**put, status=None, code="ECONNRESET", message="reset")
        await world.later(30)
        (first, follower) = await world.operations()
        assert (first.due_at, follower.attempts) == (None, 0)
        await operations.act(world.parts, first.id, "cancel", by="ada")
        await world.later(1)
        assert [one.state for one in await world.operations()] == [OperationState.CANCELLED, OperationState.DONE]

    play(sqlite_path, story, running=True)


# Recovery ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_recovery_is_noticed_by_all_and_told_once(store: Store) -> None:
    """Eight workers see at once that a service is back: one downtime, one message, one change of the gate."""
    outside = Outside()
    service = replace(PROBED, gate=replace(PROBED.gate, successes=1))
    workers = crew(store, outside, service, workers=8)
    now = workers[0].clock.now()
    async with store.transaction() as tx:
        gate = await tx.gates.take("probed", now)
        down = replace(gate, state=GateState.OPEN, reason="down", down_since=now, reopen_at=now)
        await tx.gates.save(down)
    await asyncio.gather(*(patrol.probe(parts, "probed") for parts in workers))
    async with store.transaction() as tx:
        gate = await tx.gates.take("probed", now)
        actions = [entry.action for entry in await tx.audit.list(most=99)]
        told = [one for one in await tx.outbox.list(most=99) if one.channel == "ops"]
    assert (gate.state, gate.down_since) == (GateState.CLOSED, None)
    assert sorted(one for one in actions if one.startswith("gate.")) == ["gate.closed", "gate.recovered"]
    assert [one.kind for one in told] == ["recovered"]


@pytest.mark.anyio
async def test_health_is_asked_once_per_tick(store: Store) -> None:
    """Eight workers whose queues all bring the tick: one asks."""
    outside = Outside()
    workers = crew(store, outside, PROBED, workers=8)
    (one,) = [found for found in patrol.rounds({"probed": PROBED}, {}).values() if found.paced]
    ran = await asyncio.gather(*(patrol.run_procedure(parts, one) for parts in workers))
    again = [await patrol.run_procedure(parts, one) for parts in workers]
    assert (sum(ran), any(again), len(outside.begun)) == (1, False, 1)


def test_outage_ends_with_one_message_and_a_ramp(sqlite_path: Path) -> None:
    """While the gate is open nothing is sent but one probe at a time; once it is back all resumes, told once."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)] * 2 + [DONE]
        for _ in range(40):
            await world.fail("shy")
        await world.later(30)
        assert (await world.gate("shy")).state is GateState.OPEN
        assert len(world.hands.did()) == 2
        await world.later(300)
        assert {row.state for row in await world.operations()} == {OperationState.DONE}
        waves = world.hands.waves()
        assert waves[2:6] == [1, 1, 4, 8], waves
        moved = [one.action for one in await world.audit() if one.action.startswith("gate.")]
        assert moved == ["gate.opened", "gate.half_open", "gate.closed", "gate.recovered"]
        back = [one for one in await world.told("recovered") if one.incident_id is None]
        assert len(back) == 1

    play(sqlite_path, story, services=[replace(SHY, disable_after=NEVER)], running=True)


def test_recovery_wakes_what_rests_in_the_incident_that_saw_it(sqlite_path: Path) -> None:
    """Requests that were tried in vain during the outage follow at once: they do not rest until a scan."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503)] * 8 + [DONE]
        for _ in range(5):
            await world.fail("shy")
        await world.later(40 * 60)
        assert [one.due_at for one in await world.operations()].count(None) == 2
        await world.later(10 * 60)
        assert (await world.gate("shy")).state is GateState.CLOSED
        assert {row.state for row in await world.operations()} == {OperationState.DONE}

    play(sqlite_path, story, services=[replace(SHY, disable_after=NEVER)], running=True)


def test_person_resumes_the_whole_lane(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what lies beyond those that a person's word wakes one by one; and how long it was down is recorded."""
    open_of = IncidentRows.open_of

    async def the_oldest(self: IncidentRows, service: str) -> list[Incident]:
        return (await open_of(self, service))[:1]

    async def story(world: World) -> None:
        gate = await world.gate()
        await world.set_gate(replace(gate, state=GateState.PAUSED, reason="r", down_since=gate.since))
        for account in "abc":
            await world.fail(account=account)
        await world.later(30)
        monkeypatch.setattr(IncidentRows, "open_of", the_oldest)
        await people.act_on_service(world.parts, "crm", "resume", by="ada")
        await world.later(30)
        assert {row.state for row in await world.operations()} == {OperationState.DONE}
        assert [one.reason for one in await world.audit("gate.recovered")] == ["down for 30.0 s"]

    play(sqlite_path, story, services=[CRM], running=True)


def test_bad_wave_stops_the_lane(sqlite_path: Path) -> None:
    """More than half of a wave failed, not in a row: the gate opens with that reason, and nothing more is sent."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [DONE] * 7 + [refused(503), refused(503), DONE, refused(503)] * 20
        await world.fail_together(60, "shy")
        await world.later(20)
        gate = await world.gate("shy")
        assert gate.state is GateState.OPEN
        assert gate.reason is not None
        assert "calls of a wave failed" in gate.reason
        assert len(world.hands.did()) == 15

    play(
        sqlite_path,
        story,
        services=[replace(SHY, disable_after=NEVER, gate=replace(SHY.gate, failures=6))],
        running=True,
    )


def test_refused_call_slows_the_lane_and_says_so(sqlite_path: Path) -> None:
    """A 429 teaches the rate; what waits for its turn says at which rate the lane goes."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(429), DONE]
        await world.fail_together(30, "slow")
        await world.later(3)
        gate = await world.gate("slow")
        (one,) = await world.incidents()
        assert gate.rate_per_s is not None
        assert gate.rate_per_s < 4.0
        assert (one.held_reason or "").startswith(
            "the lane of slow goes at 3.2 calls per second (learned; configured 4)"
        )
        assert one.next_at is not None
        await world.later(30)
        assert {row.state for row in await world.operations()} == {OperationState.DONE}
        assert len(await world.audit("incident.wait")) <= 2

    play(sqlite_path, story, services=[SLOW], running=True)


def test_asked_silence_shuts_the_whole_lane(sqlite_path: Path) -> None:
    """A 429 with a long wait: nobody in the lane is sent before its end, and each says until when."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(429, retry_after="3600"), DONE]
        await world.fail_together(5, "crm")
        await world.later(1)
        await world.fail("crm", status=None, code="ECONNRESET", message="reset")
        await world.later(3500)
        assert len(world.hands.did()) == 1
        for one in await world.incidents():
            assert one.next_at is not None
            assert "waits until" in (one.held_reason or "") or "asked for silence until" in (one.held_reason or "")
        await world.later(400)
        assert {row.state for row in await world.operations()} == {OperationState.DONE}

    play(sqlite_path, story, services=[CRM], running=True)


def test_disabled_service_is_asked_slowly(sqlite_path: Path) -> None:
    """Disabled by threshold and to be enabled by a person: asked at every tenth turn, and it stays disabled."""

    async def story(world: World) -> None:
        await patrol.schedule(world.parts, patrol.rounds(world.parts.services, {}))
        await world.fail_together(9, "probed")
        await world.later(40 * 60)
        assert (await world.gate("probed")).state is GateState.DISABLED
        assert 3 <= len(world.hands.did("probe")) <= 5
        assert (await world.gate("probed")).reopen_at is not None

    play(sqlite_path, story, services=[PROBED], running=True)
