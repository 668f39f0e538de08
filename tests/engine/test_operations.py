"""A person replays, cancels or quarantines one operation; its incident goes on, and the audit says who and why."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from engine.world import World, play, refused
from prunella.core.errors import IllegalTransition
from prunella.core.records import Operation
from prunella.core.states import IncidentState, OperationState
from prunella.engine import operations, patrol, people
from prunella.remedies.contract import Target
from prunella.store.secrets import Keys

_O, _I = OperationState, IncidentState
CANARY = "canary-4711-swordfish"


async def only(world: World) -> Operation:
    (one,) = await world.operations()
    return one


async def set_state(world: World, state: OperationState, **changed: object) -> Operation:
    """Write the only operation's state past the engine."""
    one = await only(world)
    async with world.parts.store.transaction() as tx:
        await tx.operations.save(replace(one, state=state, **changed), one.state)  # type: ignore[arg-type]
    return await only(world)


@pytest.mark.parametrize("wish", sorted(operations.ALLOWED))
@pytest.mark.parametrize("state", sorted(_O))
def test_only_what_is_in_a_fitting_state_is_touched(sqlite_path: Path, wish: str, state: OperationState) -> None:
    """A wrong state is refused by name and nothing is written; a dry run says the same and writes nothing at all."""

    async def story(world: World) -> None:
        await world.fail()
        before = await set_state(world, state)
        fits = state in operations.ALLOWED[wish]
        for dry_run in (True, False):
            refusal = nullcontext() if fits else pytest.raises(IllegalTransition, match=before.id)
            with refusal:
                await operations.act(world.parts, before.id, wish, by="ada", reason="because", dry_run=dry_run)
            if dry_run or not fits:
                assert await only(world) == before
                assert await world.audit(f"operation.{wish}") == []

    play(sqlite_path, story)


def test_unknown_operation_is_none(sqlite_path: Path) -> None:
    """Nobody knows it: None, with and without a dry run, and to look at."""

    async def story(world: World) -> None:
        for dry_run in (True, False):
            assert await operations.act(world.parts, "nobody", "replay", by="ada", dry_run=dry_run) is None
        assert await operations.look(world.parts, "nobody") is None

    play(sqlite_path, story)


def test_unknown_outcome_is_replayed_by_a_person_only(sqlite_path: Path) -> None:
    """No scan, wake-up, success or retry of its incident sends it again; a person's replay does, with its old key."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        await world.heal(receipt.incident_id)
        await world.later(1)
        await world.heal_and_be_taken_for_dead(receipt.incident_id)
        dead = await only(world)
        assert operations.outcome_unknown(dead)
        sent = len(world.hands.did())
        await patrol.scan(world.parts, window_minutes=60, limit=50)
        async with world.parts.store.transaction() as tx:
            await patrol.wake_service(world.parts, tx, "crm", by_person=True)
        await people.act_on_incident(world.parts, receipt.incident_id or "", "retry", by="ada")
        await world.heal(receipt.incident_id)
        await world.succeed()
        assert len(world.hands.did()) == sent
        await operations.act(world.parts, dead.id, "replay", by="ada", reason="it never arrived")
        await world.heal(receipt.incident_id)
        assert len(world.hands.did()) == sent + 1
        assert world.hands.did()[-1].target.idempotency_key == dead.idempotency_key
        assert (await only(world)).state is _O.DONE
        assert (await world.incident(receipt.incident_id)).state is _I.RESOLVED
        (entry,) = await world.audit("operation.replay")
        assert (entry.actor, entry.target, entry.reason) == ("ada", dead.id, "it never arrived")

    play(sqlite_path, story)


def test_replay_of_one_leaves_its_resting_neighbours(sqlite_path: Path) -> None:
    """What a person did not name is not sent with it."""

    async def story(world: World) -> None:
        incident_id = await world.fail_together(3)
        for one in await world.operations():
            async with world.parts.store.transaction() as tx:
                await tx.operations.save(replace(one, attempts=3), one.state)
        first, *others = await world.operations()
        await operations.act(world.parts, first.id, "replay", by="ada")
        await world.heal(incident_id)
        assert [one.state for one in await world.operations()] == [_O.DONE, _O.WAITING, _O.WAITING]
        assert len(world.hands.did()) == 1
        assert {one.due_at for one in others} == {None}

    play(sqlite_path, story)


def test_cancelling_the_last_one_lets_what_went_through_be_the_proof(sqlite_path: Path) -> None:
    """Two of three went through, the third is cancelled: resolved by the two. Nothing went through: no proof."""

    async def story(world: World) -> None:
        world.hands.by_endpoint["/bad"] = refused(422)
        incident_id = await world.fail_together(2)
        await world.fail(endpoint="/bad")
        await world.later(120)
        (bad,) = await world.operations(state=_O.DEAD)
        assert (await world.incident(incident_id)).state is _I.ESCALATED
        await operations.act(world.parts, bad.id, "cancel", by="ada", reason="sent by hand")
        one = await world.incident(incident_id)
        assert one.state is _I.RESOLVED
        assert one.action_taken.endswith("2 of 2 replayed requests answered as expected")
        assert (await world.operations(state=_O.CANCELLED))[0].last_error == "cancelled by ada: sent by hand"

    play(sqlite_path, story, running=True)


def test_incident_whose_only_operation_was_cancelled_waits_for_a_proof(sqlite_path: Path) -> None:
    """Nothing was sent, so nothing is proven: the next success of the service resolves it."""

    async def story(world: World) -> None:
        world.hands.script["replay"] = [refused(422)]
        receipt = await world.fail()
        await world.later(60)
        await operations.act(world.parts, (await only(world)).id, "cancel", by="ada", reason="obsolete")
        await world.later(5)
        assert (await world.incident(receipt.incident_id)).state is _I.VERIFYING
        await world.succeed()
        assert (await world.incident(receipt.incident_id)).state is _I.RESOLVED

    play(sqlite_path, story, running=True)


def test_quarantined_by_a_person_is_a_persons(sqlite_path: Path) -> None:
    """It is never sent, and its incident says what it waits for."""

    async def story(world: World) -> None:
        receipt = await world.fail()
        one = await operations.act(world.parts, (await only(world)).id, "quarantine", by="ada", reason="wrong amount")
        assert one is not None
        assert (one.state, one.last_error) == (_O.DEAD, "quarantined by ada: wrong amount")
        await world.later(3600)
        assert world.hands.did() == []
        incident = await world.incident(receipt.incident_id)
        assert incident.state is _I.ESCALATED
        assert "wrong amount" in (incident.held_reason or "")

    play(sqlite_path, story, running=True)


def test_running_call_is_left_to_its_worker(sqlite_path: Path) -> None:
    """In mid-call nothing can be cancelled; the incident's lease stays, and the neighbour that was cancelled is not sent."""

    async def story(world: World) -> None:
        incident_id = await world.fail_together(2)
        first, second = await world.operations()
        refusals: list[str] = []

        async def cancels(_: Target) -> None:
            world.hands.during = None
            with pytest.raises(IllegalTransition) as caught:
                await operations.act(world.parts, first.id, "cancel", by="ada", reason="no")
            refusals.append(str(caught.value))
            await operations.act(world.parts, second.id, "cancel", by="ada", reason="no")

        world.hands.during = cancels
        await world.later(60)
        assert "is being tried right now" in refusals[0]
        assert len(world.hands.did()) == 1
        assert (await world.incident(incident_id)).state is _I.RESOLVED

    play(sqlite_path, story, running=True)


def test_what_is_shown_is_the_structure(sqlite_path: Path) -> None:
    """Names and types of the payload, never a value; what people wrote is scrubbed; what may be done stands with it."""

    async def story(world: World) -> None:
        await world.fail(payload={"email": CANARY, "lines": [{"sku": CANARY, "n": 1}]}, endpoint=f"/o?token={CANARY}")
        one = await only(world)
        await operations.act(world.parts, one.id, "quarantine", by="ada", reason=f"password={CANARY}")
        seen = await operations.look(world.parts, one.id)
        assert seen is not None
        assert seen.shape == {"email": "string", "lines": [{"sku": "string", "n": "integer"}]}
        assert CANARY not in repr(
            (seen.shape, seen.entries, seen.runs, seen.operation.endpoint, seen.operation.last_error)
        )
        assert seen.acts == ("replay", "cancel")

    play(sqlite_path, story)


def test_what_can_not_be_replayed_says_so(sqlite_path: Path) -> None:
    """A payload with redaction marks, a lost key, a resolved incident: each is refused with what to do instead."""

    async def story(world: World) -> None:
        await world.fail(payload={"token": "[REDACTED:named:1234abcd]"})
        one = await only(world)
        with pytest.raises(IllegalTransition, match="redaction marks"):
            await operations.act(world.parts, one.id, "replay", by="ada")
        fine = (await world.fail(service="shy")).incident_id
        (kept,) = await world.operations(service="shy")
        lost = replace(world.parts, unseal=_no_key)
        with pytest.raises(IllegalTransition, match="a key that this deployment no longer has"):
            await operations.act(lost, kept.id, "replay", by="ada")
        await world.save(replace(await world.incident(fine), state=_I.RESOLVED))
        with pytest.raises(IllegalTransition, match="incident that is resolved"):
            await operations.act(world.parts, kept.id, "replay", by="ada")

    play(sqlite_path, story)


def _no_key(sealed: bytes, row: str) -> bytes:
    return Keys([b"o" * 32]).open(sealed, row)
