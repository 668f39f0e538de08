"""The acceptance scenarios of procedures, by their numbers, on engines over scripted wards."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.crew import Jump, Tables, engine
from engine.ward import ORDER, Treatment, Ward, procedure
from engine.world import World, play
from prunella.core.errors import IllegalTransition, InvalidInput
from prunella.core.outcomes import Outcome
from prunella.core.procedures import Limits, Window
from prunella.core.records import Approval, Incident, Level, Run
from prunella.core.states import ApprovalState, IncidentState, RunState
from prunella.engine import figures, orders, people, proposals
from prunella.engine.gatekeeper import Answer
from prunella.engine.pauses import Pauses
from prunella.engine.sweep import sweep
from prunella.store.contract import Store

_FAILED = Outcome.failed("no vendor is free")


async def incidents(world: World) -> list[Incident]:
    return await Tables(world.store).incidents()


async def runs(world: World) -> Sequence[Run]:
    return await Tables(world.store).runs()


async def approvals(world: World) -> list[Approval]:
    async with world.store.transaction() as tx:
        return (await tx.approvals.list(most=100))[::-1]


async def approve(world: World, approval: Approval, by: str = "ada") -> None:
    await proposals.answer(world.parts, approval.id, ApprovalState.APPROVED, by=by, digest=approval.digest)


def keys_of(ward: Ward) -> dict[str, set[str]]:
    """Return the keys under which each thing was treated."""
    found: dict[str, set[str]] = {}
    for _, thing, key in ward.treated:
        found.setdefault(thing, set()).add(key)
    return found


def many(count: int) -> dict[str, str]:
    return {f"k{n:03}": "SICK" for n in range(count)}


@pytest.mark.anyio
async def test_8_four_workers_make_exactly_400_calls(store: Store) -> None:
    """Scenario 8: four engines sweep 400 stuck things at once: each is treated once, under a key of its own."""
    ward = Ward(store.clock, sick=many(400))
    ready = procedure(ward, entity=ORDER)
    await asyncio.gather(*(sweep(engine(store, f"worker-{n}"), ready) for n in range(4)))
    assert set(Counter(thing for _, thing, _ in ward.treated).values()) == {1}
    assert len({key for _, _, key in ward.treated}) == len(ward.treated) == 400
    assert {one.state for one in await Tables(store).incidents()} == {IncidentState.RESOLVED}
    assert {one.state for one in await Tables(store).runs()} == {RunState.VERIFIED}


@pytest.mark.anyio
@pytest.mark.parametrize("stalls_at", [1, 20, 150])
async def test_8_worker_that_stalls_past_its_lease_calls_under_the_same_keys(store: Store, stalls_at: int) -> None:
    """Scenario 8: frozen in mid-wave and going on later, it and its heir use one key per thing: 400 in all."""
    clock = Jump(store.clock)
    ward = Ward(clock, sick=many(400))
    remedy = Treatment(ward, idempotent=True)
    ready = procedure(ward, entity=ORDER, remedies={"treat": remedy})
    slow, heir = (engine(store, name, clock=clock) for name in ("slow", "heir"))

    async def freeze(_: object) -> None:
        if len(ward.treated) == stalls_at:
            clock.ahead_s += 61
            await sweep(heir, ready)

    ward.during = freeze
    await sweep(slow, ready)
    await sweep(heir, ready)
    assert {len(keys) for keys in keys_of(ward).values()} == {1}
    assert len({key for _, _, key in ward.treated}) == 400
    assert {one.state for one in await Tables(store).incidents()} == {IncidentState.RESOLVED}
    assert RunState.RUNNING not in {one.state for one in await Tables(store).runs()}


def test_11_fix_that_heals_nothing_is_ineffective(sqlite_path: Path) -> None:
    """Scenario 11: it ends well and heals nothing: ineffective, each wait twice the last, no recovery is credited."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, cures=False)
        ready = procedure(ward, limits=Limits(cool_down_s=600))
        for _ in range(200):
            await sweep(world.parts, ready)
            await world.later(60)
        assert [round(later - earlier) for earlier, later in zip(ward.times(), ward.times()[1:], strict=False)] == [
            600,
            1200,
        ]
        assert {one.state for one in await runs(world)} == {RunState.INEFFECTIVE}
        (one,) = await incidents(world)
        assert (one.state, one.attempts) == (IncidentState.ESCALATED, 3)
        async with world.store.transaction() as tx:
            figured = figures.targets(await tx.metrics.since("2026-01-01"))
        assert [one["value"] for one in figured][:2] == [0.0, None]

    play(sqlite_path, story)


def test_12_flapping_is_escalated_once_and_actions_stop(sqlite_path: Path) -> None:
    """Scenario 12: well for 7 minutes after each fix: after 3 regressions one message, and nothing is done any more."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock)
        ready = procedure(ward)
        for _ in range(12):
            ward.sick["a"] = "SICK"
            await sweep(world.parts, ready)
            await world.later(7 * 60)
            await sweep(world.parts, ready)
            await world.later(3 * 60)
        assert len(ward.treated) == 3
        last = (await incidents(world))[-1]
        assert (last.state, last.regressions) == (IncidentState.ESCALATED, 3)
        assert "flapping: it came back 3 times" in (last.held_reason or "")
        assert [one.kind for one in await world.told()] == ["MANUAL_INTERVENTION_REQUIRED"]

    play(sqlite_path, story)


def test_12_flapping_ends_after_four_quiet_hours_only(sqlite_path: Path) -> None:
    """Scenario 12: each return in between begins the quiet time anew."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock)
        ready = procedure(ward)
        for _ in range(4):
            ward.sick["a"] = "SICK"
            await sweep(world.parts, ready)
            await world.later(700)
        ward.sick.clear()
        for minute in range(0, 10 * 60, 10):
            ward.sick = {"a": "SICK"} if minute == 3 * 60 else {}
            await sweep(world.parts, ready)
            is_open = (await incidents(world))[-1].is_open
            assert is_open is (minute <= 3 * 60 + 4 * 60), minute
            await world.later(600)

    play(sqlite_path, story)


def test_13_storm_is_probed_and_released_in_waves(sqlite_path: Path) -> None:
    """Scenario 13: 80 % sick: one incident above all, one probe at a time; when one heals, 1, 2, 4, 8 and the rest."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(80), active=100, script=[_FAILED] * 3)
        ready = procedure(ward, entity=ORDER)
        per_sweep = []
        for _ in range(9):
            before = len(ward.treated)
            await sweep(world.parts, ready)
            per_sweep.append(len(ward.treated) - before)
            await world.later(300)
        assert per_sweep == [1, 1, 0, 1, 0, 0, 0, 81 - 1, 0]
        assert len({thing for _, thing, _ in ward.treated[:4]}) == 4  # each probe is another thing
        assert len({key for _, _, key in ward.treated}) == len(ward.treated)
        assert {one.state for one in await incidents(world)} == {IncidentState.RESOLVED}
        assert [one.kind for one in await world.told()] == ["HELD"]

    play(sqlite_path, story)


def test_13_probe_that_ends_well_and_proves_nothing_releases_nobody(sqlite_path: Path) -> None:
    """Scenario 13: not the exit code of the probe opens the way, but its proof, also where that comes late."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(80), active=100, cures=False)
        ready = procedure(ward, entity=ORDER)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 1
        ward.cures = True
        del ward.sick[ward.treated[0][1]]
        await world.later(300)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 80
        assert ward.sick == {}

    play(sqlite_path, story)


def test_13_bad_wave_ends_the_release(sqlite_path: Path) -> None:
    """Scenario 13: the first bad wave stops it, what is left says why, and the next sweep begins with a probe."""

    async def story(world: World) -> None:
        good = Outcome.done()
        ward = Ward(world.parts.clock, sick=many(80), active=100, script=[good, good, _FAILED, _FAILED])
        ready = procedure(ward, entity=ORDER)
        swept = await sweep(world.parts, ready)
        assert len(ward.treated) == 4
        assert len(swept.waiting) == 76
        held = [one for one in await incidents(world) if one.held_reason is not None and one.resource != "storm"]
        assert len(held) == 78

    play(sqlite_path, story)


@pytest.mark.parametrize("level", list(Level))
def test_15_sixty_percent_of_a_table_is_held(sqlite_path: Path, level: Level) -> None:
    """Scenario 15: a check that suddenly matches 60 % of a table is held with the ratio, at any level."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(60), rows=True, total=100)
        swept = await sweep(world.parts, procedure(ward, level=level))
        assert swept.verdict is not None
        assert swept.verdict.answer is Answer.WAIT
        (one,) = await incidents(world)
        assert (one.held_reason or "").startswith("60% of beds matches (60 of 100 rows), and share_max is 20%")
        assert (ward.treated, await approvals(world)) == ([], [])
        assert [one.kind for one in await world.told()] == ["HELD"]

    play(sqlite_path, story)


def test_16_empty_target_list_is_a_no_op(sqlite_path: Path) -> None:
    """Scenario 16: nothing is found, nothing is done, and the log says so."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock)
        swept = await sweep(world.parts, procedure(ward))
        assert swept.as_log() == {"found": 0, "held": "there is nothing to do"}
        assert (ward.treated, await incidents(world), await approvals(world)) == ([], [], [])

    play(sqlite_path, story)


def test_17_stale_approval_does_not_run_what_is_left(sqlite_path: Path) -> None:
    """Scenario 17: approved after 3 h while 5 of 20 healed by themselves: the 15 are shown anew, nothing has run."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(20))
        ready = procedure(ward, level=Level.L2)
        await sweep(world.parts, ready)
        await world.later(3 * 3600)
        (first,) = await approvals(world)
        for key in list(ward.sick)[:5]:
            del ward.sick[key]
        await approve(world, first)
        await sweep(world.parts, ready)
        assert ward.treated == []
        first, second = await approvals(world)
        assert (first.state, first.superseded_by) == (ApprovalState.SUPERSEDED, second.id)
        assert (second.state, second.plan["count"]) == (ApprovalState.WAITING, 15)
        await approve(world, second)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 15

    play(sqlite_path, story)


def test_17_same_plan_runs_once(sqlite_path: Path) -> None:
    """Scenario 17: unchanged by mere time it keeps its digest, runs when approved, and is good for one time."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(20), cures=False)
        ready = procedure(ward, level=Level.L2, limits=Limits(cool_down_s=60, waves=(20,)))
        for _ in range(20):
            await sweep(world.parts, ready)
            await world.later(300)
        (one,) = await approvals(world)
        assert [told.kind for told in await world.told()] == ["APPROVAL_REQUIRED"]
        await approve(world, one)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 20
        await world.later(300)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 20
        _, again = await approvals(world)
        assert (again.state, again.digest == one.digest) == (ApprovalState.WAITING, True)

    play(sqlite_path, story)


def test_18_expiry_is_a_named_outcome(sqlite_path: Path) -> None:
    """Scenario 18: nobody answers: expired by name, its things are people's, the next tier hears of it, once."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(3))
        ready = procedure(ward, level=Level.L2)
        world = replace(world, parts=replace(world.parts, procedures={"ward": ready}))
        await sweep(world.parts, ready)
        (one,) = await approvals(world)
        await proposals.expire(world.parts, one.id)
        assert (await approvals(world))[0].state is ApprovalState.WAITING
        await world.later(4 * 3600)
        for _ in range(2):
            await proposals.expire(world.parts, one.id)
        (one,) = await approvals(world)
        assert (one.state, one.reason) == (ApprovalState.EXPIRED, "nobody answered in time")
        found = await incidents(world)
        assert {each.state for each in found} == {IncidentState.ESCALATED}
        assert all("expired: nobody answered until" in (each.held_reason or "") for each in found)
        assert [told.kind for told in await world.told()] == ["APPROVAL_REQUIRED", "APPROVAL_EXPIRED"]
        await sweep(world.parts, ready)
        assert (ward.treated, len(await approvals(world))) == ([], 1)

    play(sqlite_path, story)


def test_19_forged_and_foreign_answers_are_refused(sqlite_path: Path) -> None:
    """Scenario 19: another digest, the proposer itself, a replay, an expired one: refused, and nothing runs by it."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick=many(3))
        ready = procedure(ward, level=Level.L2)
        await sweep(world.parts, ready)
        (one,) = await approvals(world)

        async def answer(digest: str | None, by: str = "ada") -> Any:
            return await proposals.answer(world.parts, one.id, ApprovalState.APPROVED, by=by, digest=digest)

        for forged in (None, "0" * 32):
            with pytest.raises(IllegalTransition, match="look at the plan again"):
                await answer(forged)
        with pytest.raises(InvalidInput, match="somebody else has to answer it"):
            await answer(one.digest, by=one.proposed_by)
        assert await proposals.answer(world.parts, "nobody", ApprovalState.APPROVED, by="ada", digest="x") is None
        assert (await approvals(world))[0].state is ApprovalState.WAITING
        await answer(one.digest)
        with pytest.raises(IllegalTransition, match="is approved; only one that waits can be answered"):
            await answer(one.digest, by="eve")
        assert {entry.actor for entry in await world.audit("approval.refused")} == {"ada", "prunella", "eve"}
        assert [entry.actor for entry in await world.audit("approval.approved")] == ["ada"]
        await sweep(world.parts, ready)
        await sweep(world.parts, ready)
        assert len(ward.treated) == 3

    play(sqlite_path, story)


def test_26_window_lets_nothing_act_and_ends_without_a_stampede(sqlite_path: Path) -> None:
    """Scenario 26: detected, not treated, not told; at its end one look per procedure, each at a moment of its own."""

    async def story(world: World) -> None:
        night = Window(name="night", cron="0 0 * * *", lasts_s=7200)
        pauses = Pauses(world.store, world.parts.clock, [night])
        wards = {f"ward-{n}": Ward(world.parts.clock, sick=many(5)) for n in range(5)}
        readies = {name: procedure(ward, name=name) for name, ward in wards.items()}
        parts = replace(world.parts, pauses=pauses, procedures=readies)
        for _ in range(20):
            for ready in readies.values():
                swept = await sweep(parts, ready)
                assert swept.found == 5
            await world.later(300)
        assert (await world.told(), [ward.treated for ward in wards.values()]) == ([], [[]] * 5)
        dues = [world.due_in_s(name, handler="procedure") + world.now_s() for name in wards]
        assert all(7200 <= due <= 7260 for due in dues)
        assert len(set(dues)) == 5
        await world.later(7260 - world.now_s() + 1)
        for ready in readies.values():
            await sweep(parts, ready)
        assert [len(ward.treated) for ward in wards.values()] == [5] * 5

    play(sqlite_path, story)


@pytest.mark.anyio
async def test_27_kill_switch_is_heard_within_two_seconds_by_every_worker(store: Store) -> None:
    """Scenario 27: thrown at one worker in mid-wave, the other begins nothing 2 s later; looking goes on."""
    clock = Jump(store.clock)
    wards = [Ward(clock, sick=many(60)) for _ in range(2)]
    readies = [procedure(ward, name=name) for ward, name in zip(wards, ("one", "two"), strict=True)]
    here, there = (engine(store, name, clock=clock) for name in ("here", "there"))

    async def throw(_: object) -> None:
        clock.ahead_s += 0.5  # each act takes its time
        if len(wards[1].treated) == 20:
            await orders.pause(here, None, by="ada", reason="stop")

    wards[1].during = throw
    await sweep(there, readies[1])
    assert 20 <= len(wards[1].treated) <= 24  # what was under way has ended
    swept = await sweep(here, readies[0])
    assert (swept.found, wards[0].treated) == (60, [])
    held = await Tables(store).incidents(state=["open"])
    assert all("everything is paused by ada: stop" in (one.held_reason or "") for one in held)


@pytest.mark.parametrize("act", ["escalate", "suppress"])
def test_21_person_outranks_the_machine_in_mid_act(sqlite_path: Path, act: str) -> None:
    """Scenario 21: what a person takes over while it is treated stays theirs when the act fails."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[_FAILED] * 9)

        async def take_over(_: object) -> None:
            (one,) = await incidents(world)
            if act == "suppress":
                return
            await people.act_on_incident(world.parts, one.id, act, by="ada")

        ward.during = take_over
        ready = procedure(ward)
        await sweep(world.parts, ready)
        if act == "suppress":
            (one,) = await incidents(world)
            await people.act_on_incident(world.parts, one.id, act, by="ada")
        for _ in range(5):
            await world.later(3600)
            await sweep(world.parts, ready)
        (one,) = await incidents(world)
        assert (one.state.value, len(ward.treated)) == ({"escalate": "escalated", "suppress": "suppressed"}[act], 1)
        assert one.held_reason == f"{one.state.value} by ada"

    play(sqlite_path, story)


def test_person_can_not_declare_well_what_a_check_looks_at(sqlite_path: Path) -> None:
    """What is sick is in the user's own tables: the procedure says when it is well, whatever a person says."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[_FAILED] * 9)
        await sweep(world.parts, procedure(ward))
        (one,) = await incidents(world)
        with pytest.raises(IllegalTransition, match="is resolved when procedure ward finds it well; retry has it look"):
            await people.act_on_incident(world.parts, one.id, "resolve", by="ada")
        assert [left.is_open for left in await incidents(world)] == [True]

    play(sqlite_path, story)


def test_retry_of_a_person_begins_anew(sqlite_path: Path) -> None:
    """Attempts are forgiven, the procedure looks at it at once, and a second giving-up is told again."""

    async def story(world: World) -> None:
        ward = Ward(world.parts.clock, sick={"a": "SICK"}, script=[_FAILED] * 9)
        ready = procedure(ward, entity=ORDER)
        assert isinstance(world.parts.procedures, dict)
        world.parts.procedures["ward"] = ready
        for _ in range(2):
            for _ in range(4):
                await sweep(world.parts, ready)
                await world.later(timedelta(minutes=5).total_seconds())
            (one,) = await incidents(world)
            assert one.state is IncidentState.ESCALATED
            await people.act_on_incident(world.parts, one.id, "retry", by="ada")
            assert (world.queued("procedure"), world.queued("heal")) == ([("ward",)], [])
        assert len(ward.treated) == 6
        kinds = [told.kind for told in await world.told()]
        assert kinds.count("MANUAL_INTERVENTION_REQUIRED") == 2

    play(sqlite_path, story)
