"""Two engines over one store keep these promises, and a planted bug in each is seen by the same story."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from engine.world import World, play
from prunella.core.events import Listeners
from prunella.engine import heal, workers
from prunella.engine.parts import Parts
from prunella.engine.reconcile import reconcile
from prunella.remedies.contract import Target
from prunella.runner.local import LocalRunner
from simulation.mutants import MUTANTS

HONEST, PLANTED = False, True


def second(world: World) -> Parts:
    """Return another worker's engine, whose runner knows nothing of the first one's."""
    return replace(world.parts, runner=LocalRunner(world.parts.clock, Listeners()), worker="worker-2")


async def due(world: World) -> str:
    """Return an incident whose replay is due now."""
    receipt = await world.fail(method="PUT")
    await world.heal(receipt.incident_id)
    await world.later(1)
    return receipt.incident_id or ""


@pytest.mark.parametrize("planted", [HONEST, PLANTED])
def test_incident_is_healed_by_one_of_two(sqlite_path: Path, planted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told of it at the same moment: one call. Where claims compare nothing, there are two at once."""

    async def story(world: World) -> None:
        incident_id, other = await due(world), second(world)
        await asyncio.gather(*(heal.heal(one, incident_id) for one in (world.parts, other)), return_exceptions=planted)

    if planted:
        MUTANTS["double_claim"].plant(monkeypatch)
    assert play(sqlite_path, story).hands.most_at_once == 1 + planted


@pytest.mark.parametrize("planted", [HONEST, PLANTED])
def test_call_is_repeated_under_its_first_key(
    sqlite_path: Path, planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies in its call, the other repeats it: one key. Where a try makes its own key, a receiver sees two calls."""

    async def story(world: World) -> None:
        incident_id, calling = await due(world), asyncio.Event()

        async def hang(_: Target) -> None:
            calling.set()
            await asyncio.Event().wait()

        world.hands.during = hang
        dying = asyncio.create_task(heal.heal(world.parts, incident_id))
        await calling.wait()
        dying.cancel()
        await asyncio.wait([dying])
        world.hands.during = None
        heir = second(world)
        await reconcile(heir, {}, alone=True)
        await heal.heal(heir, incident_id)

    if planted:
        MUTANTS["new_key_per_try"].plant(monkeypatch)
    calls = play(sqlite_path, story).hands.did()
    assert (len(calls), len({call.target.idempotency_key for call in calls})) == (2, 1 + planted)


@pytest.mark.parametrize("planted", [HONEST, PLANTED])
def test_slow_call_of_the_living_is_made_once(
    sqlite_path: Path, planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker beats all the while, the other looks after 10 s. Where the living are buried, it is made again."""

    async def story(world: World) -> None:
        incident_id, other = await due(world), second(world)
        world.hands.takes_s = 12.0
        beating = [asyncio.create_task(workers.keep_alive(one, "1")) for one in (world.parts, other)]
        slow = asyncio.create_task(heal.heal(world.parts, incident_id))
        await world.later(10)
        looking = asyncio.create_task(heal.heal(other, incident_id))
        await asyncio.wait([slow, looking])
        for one in beating:
            one.cancel()

    if planted:
        monkeypatch.setattr(workers, "STALE_S", -1.0)
    assert play(sqlite_path, story).hands.most_at_once == 1 + planted
