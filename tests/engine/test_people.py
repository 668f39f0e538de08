"""What a person does counts, is noted with their name, and is refused where it makes no sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.world import BUSY, CRM, PROBED, World, play, refused
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.records import Credential
from prunella.core.states import GateState, IncidentState, OperationState
from prunella.engine import operations, people
from prunella.remedies.contract import Outcome, Target

_S = IncidentState


@pytest.mark.parametrize(
    ("act", "state", "reason"),
    [
        ("ack", _S.OPEN, None),
        ("retry", _S.OPEN, None),
        ("suppress", _S.SUPPRESSED, "suppressed by ada"),
        ("escalate", _S.ESCALATED, "escalated by ada"),
    ],
)
def test_act_changes_the_incident_and_is_noted(
    sqlite_path: Path, act: str, state: IncidentState, reason: str | None
) -> None:
    """State and reason change, the audit names the person and their words, and who waits is woken."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        moved = world.parts.bulletin.watch(receipt.incident_id or "")
        one = await people.act_on_incident(world.parts, receipt.incident_id or "", act, by="ada", reason="because")
        assert one is not None
        assert (one.state, one.held_reason) == (state, reason)
        assert (one.acknowledged_by == "ada") is (act == "ack")
        (entry,) = await world.audit(f"incident.{act}")
        assert (entry.actor, entry.reason, entry.incident_id) == ("ada", "because", one.id)
        assert moved.done()

    play(sqlite_path, story)


@pytest.mark.parametrize("act", people.INCIDENT_ACTS)
def test_unknown_incident_is_none_and_a_resolved_one_is_refused(sqlite_path: Path, act: str) -> None:
    """Nobody knows it: None. It is over: the act is refused by name, and nothing is noted."""

    async def story(world: World) -> None:
        assert await people.act_on_incident(world.parts, "nobody", act, by="ada") is None
        receipt = await world.fail(endpoint=None)
        await world.succeed()
        with pytest.raises(IllegalTransition, match=f"is resolved; {act} needs an open one"):
            await people.act_on_incident(world.parts, receipt.incident_id or "", act, by="ada")
        assert await world.audit(f"incident.{act}") == []

    play(sqlite_path, story)


def test_retry_starts_anew_what_the_machine_had_given_up(sqlite_path: Path) -> None:
    """After a person's retry everything is due at once, and no old count is held against it."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(503), refused(503), refused(503), Outcome(ok=True, status=200)]
        receipt = await world.fail()
        await world.later(60)
        await people.act_on_incident(world.parts, receipt.incident_id or "", "escalate", by="ada")
        await people.act_on_incident(world.parts, receipt.incident_id or "", "retry", by="ada")
        await world.later(5)
        assert not (await world.incident(receipt.incident_id)).is_open
        assert len(world.hands.did()) == 4

    play(sqlite_path, story, running=True)


def test_retry_is_refused_while_it_is_being_healed(sqlite_path: Path) -> None:
    """Two healings of one incident never run beside each other, not even by a person's wish."""

    async def story(world: World) -> None:
        receipt = await world.fail("probed", endpoint=None)
        refusals: list[str] = []

        async def impatient(_: Target) -> None:
            with pytest.raises(IllegalTransition, match="being healed right now") as caught:
                await people.act_on_incident(world.parts, receipt.incident_id or "", "retry", by="ada")
            refusals.append(str(caught.value))

        world.hands.during = impatient
        await world.heal(receipt.incident_id)
        assert len(refusals) == 1

    play(sqlite_path, story)


@pytest.mark.parametrize("act", ["suppress", "escalate"])
def test_machine_leaves_alone_what_a_person_took_over(sqlite_path: Path, act: str) -> None:
    """Suppressed or escalated by a person: neither time, nor a scan, nor new events make the machine act on it."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await people.act_on_incident(world.parts, receipt.incident_id or "", act, by="ada")
        await world.later(3600)
        await world.fail()
        await world.later(3600)
        one = await world.incident(receipt.incident_id)
        assert (one.held_reason or "").endswith("by ada")
        assert (one.count, world.hands.deeds) == (2, [])

    play(sqlite_path, story, running=True)


@pytest.mark.parametrize("before", [None, "escalate", "suppress"])
def test_person_ends_what_nothing_else_can_prove(sqlite_path: Path, before: str | None) -> None:
    """Data that was refused, without a request: a person's word ends it, with their name; its return is a new incident."""

    async def story(world: World) -> None:
        receipt = await world.fail(status=422, endpoint=None)
        incident_id = receipt.incident_id or ""
        await world.later(5)
        if before is not None:
            await people.act_on_incident(world.parts, incident_id, before, by="ada")
        await people.act_on_incident(world.parts, incident_id, "resolve", by="ada", reason="ordered anew by phone")
        one = await world.incident(incident_id)
        assert (one.state, one.resolved_at, one.held_reason) == (_S.RESOLVED, world.parts.clock.now(), None)
        assert one.action_taken.endswith("; on the word of ada")
        (entry,) = await world.audit("incident.resolve")
        assert (entry.actor, entry.reason) == ("ada", "ordered anew by phone")
        assert [told.incident_id for told in await world.told("recovered")] == [incident_id]
        again = await world.incident((await world.fail(status=422, endpoint=None)).incident_id)
        assert (again.id == incident_id, again.previous_id) == (False, incident_id)

    play(sqlite_path, story, running=True)


def test_incident_is_not_resolved_over_the_head_of_its_requests(sqlite_path: Path) -> None:
    """What waits or lies in quarantine would be forgotten: it is replayed or cancelled first, and the words say how."""

    async def story(world: World) -> None:
        incident_id = (await world.fail()).incident_id or ""
        await world.fail("shy")  # another incident, about which this says nothing
        await world.later(1)
        (left,) = await world.operations(incident_id=incident_id)
        with pytest.raises(
            IllegalTransition, match=rf"has 1 request in .* prunella operations --incident {incident_id}"
        ):
            await people.act_on_incident(world.parts, incident_id, "resolve", by="ada")
        assert await world.audit("incident.resolve") == []
        await operations.act(world.parts, left.id, "cancel", by="ada")
        one = await people.act_on_incident(world.parts, incident_id, "resolve", by="ada")
        assert one is not None
        assert one.state is _S.RESOLVED

    play(sqlite_path, story)


def test_incident_is_not_resolved_while_a_worker_is_at_it(sqlite_path: Path) -> None:
    """Not even where a person had taken it over: the call that is under way says how it ended first."""

    async def story(world: World) -> None:
        receipt = await world.fail("probed", endpoint=None)
        refusals: list[str] = []

        async def impatient(_: Target) -> None:
            for act in ("escalate", "resolve"):
                try:
                    await people.act_on_incident(world.parts, receipt.incident_id or "", act, by="ada")
                except IllegalTransition as error:
                    refusals.append(str(error))

        world.hands.during = impatient
        await world.heal(receipt.incident_id)
        assert refusals == [f"incident {receipt.incident_id} is being healed right now; wait for the outcome"]

    play(sqlite_path, story)


# Services -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "undo", "state"),
    [("pause", "resume", GateState.PAUSED), ("disable", "enable", GateState.DISABLED)],
)
def test_service_is_shut_and_opened_by_a_person(sqlite_path: Path, act: str, undo: str, state: GateState) -> None:
    """Shut with reason and name; opened again by the matching act only; both are noted."""

    async def story(world: World) -> None:
        gate = await people.act_on_service(world.parts, "crm", act, by="ada", reason="release")
        assert gate is not None
        assert (gate.state, gate.reason, gate.changed_by) == (state, "release", "ada")
        wrong = {"resume": "enable", "enable": "resume"}[undo]
        with pytest.raises(IllegalTransition, match=f"service crm is {state.value}; {wrong} needs"):
            await people.act_on_service(world.parts, "crm", wrong, by="ada")
        opened = await people.act_on_service(world.parts, "crm", undo, by="bob")
        assert opened is not None
        assert (opened.state, opened.changed_by) == (GateState.CLOSED, "bob")
        actors = [(entry.action, entry.actor) for entry in await world.audit()]
        assert actors == [(f"gate.{act}", "ada"), ("gate.enabled", "bob")]

    play(sqlite_path, story)


def test_pause_without_a_reason_names_the_person(sqlite_path: Path) -> None:
    """A gate that is shut always says why."""

    async def story(world: World) -> None:
        gate = await people.act_on_service(world.parts, "crm", "pause", by="ada")
        assert gate is not None
        assert gate.reason == "by ada"

    play(sqlite_path, story)


def test_pause_is_not_lifted_by_success(sqlite_path: Path) -> None:
    """Success signals and passed probes leave a person's pause where it is."""

    async def story(world: World) -> None:
        await people.act_on_service(world.parts, "probed", "pause", by="ada")
        await world.succeed("probed")
        await people.act_on_service(world.parts, "probed", "probe", by="bob")
        assert (await world.gate("probed")).state is GateState.PAUSED
        assert world.hands.deeds == []

    play(sqlite_path, story)


def test_enabling_wakes_everything_that_waited(sqlite_path: Path) -> None:
    """Nine failures disabled it; after a person's enable all nine requests go out, and people hear of it once."""

    async def story(world: World) -> None:
        incident_id = await world.fail_together(9)
        await world.later(60)
        assert world.hands.deeds == []
        await people.act_on_service(world.parts, "crm", "enable", by="ada")
        await world.later(30)
        assert not (await world.incident(incident_id)).is_open
        assert {one.state for one in await world.operations()} == {OperationState.DONE}
        resolutions = [dict(told.facts)["Resolution"] for told in await world.told("recovered")]
        assert resolutions[0] == "enabled again by ada"
        assert len(resolutions) == 2

    play(sqlite_path, story, running=True)


def test_probe_needs_an_address(sqlite_path: Path) -> None:
    """A service without a health check says what to configure."""

    async def story(world: World) -> None:
        with pytest.raises(InvalidInput, match=r"set services\.crm\.health in prunella\.yaml"):
            await people.act_on_service(world.parts, "crm", "probe", by="ada")

    play(sqlite_path, story)


@pytest.mark.parametrize("act", people.SERVICE_ACTS)
def test_unknown_service_is_none(sqlite_path: Path, act: str) -> None:
    """A service that nobody configured has no gate to act on, and none is made."""

    async def story(world: World) -> None:
        assert await people.act_on_service(world.parts, "nobody", act, by="ada") is None
        assert await world.audit() == []

    play(sqlite_path, story)


# Tokens and secrets ---------------------------------------------------------------------------------------------------


def test_new_tokens_wake_what_waited_for_a_person(sqlite_path: Path) -> None:
    """Escalated for a dead token: with new tokens the request goes out by itself, as a version that never was."""
    dead = Outcome(ok=False, detail="dead", needs_person="reconnect oauthed")

    async def story(world: World) -> None:
        await world.put_tokens(version=4)
        world.hands.script["refresh_token"] = [dead, Outcome(ok=True, token_version=6)]
        receipt = await world.fail("oauthed", status=401)
        await world.later(5)
        assert (await world.incident(receipt.incident_id)).state is _S.ESCALATED
        fresh = Credential(service="oauthed", account="", access_sealed=b"new", refresh_sealed=b"new")
        world.hands.rotate(world.store)
        await people.put_credential(world.parts, fresh, by="ada")
        async with world.parts.store.transaction() as tx:
            held = await tx.credentials.read("oauthed", "")
        assert held is not None
        assert (held.version, held.access_sealed) == (5, b"new")
        await world.later(5)
        assert not (await world.incident(receipt.incident_id)).is_open
        (entry,) = await world.audit("credentials.put")
        assert (entry.actor, entry.target, entry.reason) == ("ada", "oauthed", "account default")

    play(sqlite_path, story, running=True)


def test_first_tokens_of_an_account_are_version_one(sqlite_path: Path) -> None:
    """An account that was never connected starts at 1."""

    async def story(world: World) -> None:
        one = Credential(service="oauthed", account="ada", access_sealed=b"a", version=9)
        await people.put_credential(world.parts, one, by="ada")
        async with world.parts.store.transaction() as tx:
            held = await tx.credentials.read("oauthed", "ada")
        assert held is not None
        assert held.version == 1

    play(sqlite_path, story)


def test_secrets_come_and_go_with_a_note_but_never_show(sqlite_path: Path) -> None:
    """Put and drop are noted by name and person; dropping twice is said; the value stands nowhere in the audit."""

    async def story(world: World) -> None:
        await people.put_secret(world.parts, b"sealed-value", "crm/key", by="ada")
        assert await people.drop_secret(world.parts, "crm/key", by="bob")
        assert not await people.drop_secret(world.parts, "crm/key", by="bob")
        entries = await world.audit()
        assert [(one.action, one.target, one.actor) for one in entries] == [
            ("secret.put", "crm/key", "ada"),
            ("secret.dropped", "crm/key", "bob"),
        ]
        assert "sealed-value" not in repr(entries)

    play(sqlite_path, story)


def test_person_may_shut_a_service_in_the_middle_of_a_call(sqlite_path: Path) -> None:
    """The call under way ends, its result is written, and the gate stays as the person set it."""

    async def story(world: World) -> None:
        async def shut(_: Target) -> None:
            await people.act_on_service(world.parts, "crm", "pause", by="ada")

        world.hands.during = shut
        receipt = await world.fail()
        await world.later(60)
        assert (await world.gate()).state is GateState.PAUSED
        assert not (await world.incident(receipt.incident_id)).is_open

    play(sqlite_path, story, running=True)


def test_builders_of_these_stories_hold() -> None:
    """The probed service has a health check, the plain one has none, and busy counts nothing."""
    assert (PROBED.health is not None, CRM.health, BUSY.busy) == (True, None, True)
    assert replace(CRM, name="x").base_url == CRM.base_url
