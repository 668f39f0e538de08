"""Many operations at once: estimated first, and then done to exactly what was estimated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.world import World, play
from prunella.core.errors import InvalidInput
from prunella.core.states import IncidentState, OperationState
from prunella.engine import bulk
from prunella.store.backlog import Wanted

_O = OperationState
CRM = Wanted(service="crm")


async def bury(world: World, **equal: object) -> None:
    """Put operations into quarantine past the engine."""
    for one in await world.operations(**equal):
        async with world.parts.store.transaction() as tx:
            await tx.operations.save(
                replace(one, state=_O.DEAD, attempts=3, last_error="outcome unknown: x"), one.state
            )


async def carry(world: World, act: str, found: bulk.Estimate, wanted: Wanted = CRM) -> bulk.Carried:
    how = {"made_at": found.made_at, "digest": found.digest, "name": "spring clean", "by": "ada", "reason": "why not"}
    return await bulk.carry_out(world.parts, act, wanted, **how)  # type: ignore[arg-type]


def test_estimate_says_what_it_would_be(sqlite_path: Path) -> None:
    """Count, per service, oldest, newest, a sample and how many died in mid-call; nothing is written."""

    async def story(world: World) -> None:
        await world.fail_together(12)
        await world.later(5)
        await world.fail(service="shy")
        await bury(world, service="shy")
        found = await bulk.estimate(world.parts, "replay", Wanted())
        assert (found.count, dict(found.services), found.unknown) == (13, {"crm": 12, "shy": 1}, 1)
        assert found.oldest is not None
        assert found.newest is not None
        assert (found.newest - found.oldest).total_seconds() == 5
        assert len(found.sample) == 10
        nothing = await bulk.estimate(world.parts, "cancel", Wanted(service="nobody"))
        assert (nothing.count, nothing.oldest, dict(nothing.services)) == (0, None, {})
        assert {one.state for one in await world.operations(service="crm")} == {_O.WAITING}

    play(sqlite_path, story)


def test_what_was_estimated_is_what_is_done(sqlite_path: Path) -> None:
    """All of a quarantine over several pages is replayed; name, person and reason stand in the audit and each trace."""

    async def story(world: World) -> None:
        await world.fail_together(bulk._PAGE + 7)
        incident_id = (await world.operations())[0].incident_id
        await bury(world)
        found = await bulk.estimate(world.parts, "replay", CRM)
        came = await carry(world, "replay", found)
        assert (came.done, dict(came.left)) == (bulk._PAGE + 7, {})
        waiting = await world.operations(state=_O.WAITING)
        assert len(waiting) == bulk._PAGE + 7
        (begun,) = await world.audit("operations.replay.ended")
        assert begun.reason == f"{came.done} of {came.done} replayed"
        async with world.parts.store.transaction() as tx:
            entries, _ = await tx.backlog.trace(waiting[-1])
        assert [(one.actor, one.reason) for one in entries] == [("ada", "spring clean: why not")]
        noted = [one for one in await world.audit("operations.replay") if one.incident_id == incident_id]
        assert len(noted) == 2  # one for each page, not one for each operation
        assert (await world.incident(incident_id)).state is IncidentState.OPEN
        assert (incident_id,) in world.queued()

    play(sqlite_path, story)


@pytest.mark.parametrize("moved", ["one less", "one more", "another act", "another filter"])
def test_what_changed_since_the_estimate_is_not_touched(sqlite_path: Path, moved: str) -> None:
    """Nothing is done, and the answer is the new estimate, which holds; what is queued later is not meant."""

    async def story(world: World) -> None:
        await world.fail_together(4)
        await bury(world)
        await revive(world)
        wanted, act = replace(CRM, states=(_O.DEAD,)), "replay"
        found = await bulk.estimate(world.parts, act, wanted)
        assert found.count == 3
        await world.later(1)
        await world.fail(endpoint="/later")
        if moved == "another act":
            act = "cancel"
        elif moved == "another filter":
            wanted = replace(wanted, service=None, incident=found.sample[0].incident_id)
        elif moved == "one more":
            await bury(world)
        else:
            await revive(world)
        with pytest.raises(bulk.EstimateChanged) as caught:
            await carry(world, act, found, wanted)
        assert await world.audit(f"operation.{act}") == []
        again = await carry(world, act, caught.value.now, wanted)
        assert again.done == caught.value.now.count > 0

    play(sqlite_path, story)


def test_what_came_later_is_not_meant(sqlite_path: Path) -> None:
    """An operation that is queued after the estimate neither spoils it nor goes with it."""

    async def story(world: World) -> None:
        await world.fail_together(2)
        found = await bulk.estimate(world.parts, "cancel", CRM)
        await world.later(1)
        await world.fail()
        came = await carry(world, "cancel", found)
        assert came.done == 2
        assert [one.state for one in await world.operations()] == [_O.CANCELLED, _O.CANCELLED, _O.WAITING]

    play(sqlite_path, story)


def test_what_can_not_be_replayed_is_left_and_counted(sqlite_path: Path) -> None:
    """The others go; each that stays is counted with its reason."""

    async def story(world: World) -> None:
        await world.fail(payload={"token": "[REDACTED:named:1234abcd]"})
        await world.fail()
        await world.fail()
        found = await bulk.estimate(world.parts, "replay", CRM)
        came = await carry(world, "replay", found)
        assert came.done == 2
        ((why, count),) = came.left.items()
        assert (count, "redaction marks" in why) == (1, True)

    play(sqlite_path, story)


@pytest.mark.parametrize(
    ("act", "state"), [("replay", _O.DONE), ("cancel", _O.RUNNING), ("quarantine", _O.DEAD), ("replay", _O.CANCELLED)]
)
def test_state_in_which_it_can_not_be_done_is_refused(sqlite_path: Path, act: str, state: OperationState) -> None:
    """The filter is wrong, and says what it may name."""

    async def story(world: World) -> None:
        with pytest.raises(InvalidInput, match=f"{act} can't be done to operations that are {state.value}; write"):
            await bulk.estimate(world.parts, act, Wanted(states=(state,)))

    play(sqlite_path, story)


async def revive(world: World) -> None:
    """Let one of those in quarantine wait again, past the engine."""
    one = (await world.operations(state=_O.DEAD))[0]
    async with world.parts.store.transaction() as tx:
        await tx.operations.save(replace(one, state=_O.WAITING), one.state)


@pytest.mark.parametrize("states", [None, (_O.WAITING,)])
def test_what_moves_while_it_is_carried_out_is_left_alone(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch, states: tuple[_O, ...] | None
) -> None:
    """Estimated as waiting and dead by its turn, its outcome unknown: nobody has seen that, so nobody cancels it."""
    page = bulk._page

    async def story(world: World) -> None:
        await world.fail_together(bulk._PAGE + 7)
        wanted = replace(CRM, states=states)
        found = await bulk.estimate(world.parts, "cancel", wanted)

        async def and_then(*given: Any) -> Any:
            done = await page(*given)
            await bury(world, state=_O.WAITING)
            return done

        monkeypatch.setattr(bulk, "_page", and_then)
        came = await carry(world, "cancel", found, wanted)
        assert (came.done, came.left) == (bulk._PAGE, {"moved meanwhile": 7})
        assert len(await world.operations(state=_O.DEAD)) == 7

    play(sqlite_path, story)
