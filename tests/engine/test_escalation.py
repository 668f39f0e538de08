"""Tiers of people: each told once, in its time, until somebody answers or it is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path

from engine.world import START, World, play
from prunella.core.clock import Ids, Rng
from prunella.core.events import Listeners
from prunella.core.records import Notice, Severity
from prunella.engine import escalation, inbox, notices, people, trail
from prunella.engine.notices import DASHBOARD, Route, Routes, Tier
from prunella.engine.quiet import Quiet
from prunella.engine.reconcile import reconcile
from prunella.runner.local import LocalRunner

MINUTE = 60.0
GRAVE = frozenset({Severity.HIGH, Severity.CRITICAL})
ROUTES = Routes((Route(GRAVE, ("ops",), tiers=(Tier(15 * MINUTE, ("pager",)), Tier(30 * MINUTE, ("boss", "ops")))),))


def grave(incident_id: str | None = None) -> Notice:
    return Notice(
        key="alarm:1",
        kind="SYSTEM_ALERT",
        severity=Severity.CRITICAL,
        title="Healing fails too often",
        facts=(("Why", "many"),),
        incident_id=incident_id,
    )


async def tell(world: World, notice: Notice) -> str:
    """Tell, and return the dashboard's entry."""
    async with world.store.transaction() as tx:
        await trail.tell(world.parts, tx, [notice])
        (shown,) = await tx.outbox.list(most=2, channel=DASHBOARD, key=notice.key)
    return shown.id


async def heard(world: World) -> list[tuple[str, float]]:
    """Return who was told, and when in minutes."""
    told = [one for one in await world.told() if one.key.startswith("alarm")]
    return sorted((one.channel, round((one.created_at - START).total_seconds() / MINUTE, 1)) for one in told)


def test_each_tier_is_told_in_its_time_and_says_why(sqlite_path: Path) -> None:
    """Nobody answers: the pager after 15 minutes, the boss and the chat once more 30 later, and then nobody."""

    async def story(world: World) -> None:
        entry = await tell(world, grave())
        await world.later(5 * 3600)
        assert await heard(world) == [("boss", 45.0), ("ops", 0.0), ("ops", 45.0), ("pager", 15.0)]
        (paged,) = [one for one in await world.told() if one.channel == "pager"]
        assert paged.facts[-1] == ("Escalated", "tier 1 of 2: nobody acknowledged for 15 min")
        assert [len(one.reason) > 0 for one in await world.audit("notification.escalated")] == [True, True]
        (told,) = await inbox.pending(world.parts, most=5)
        assert set(told.delivery) == {"ops", "pager", "boss", DASHBOARD}
        assert (told.notification.id, told.notification.escalates_at) == (entry, None)

    play(sqlite_path, story, running=True, routes=ROUTES)


def test_answer_ends_it(sqlite_path: Path) -> None:
    """Acknowledged between the tiers: the second one hears nothing."""

    async def story(world: World) -> None:
        entry = await tell(world, grave())
        await world.later(20 * MINUTE)
        await inbox.acknowledge(world.parts, entry, by="ada")
        await world.later(5 * 3600)
        assert await heard(world) == [("ops", 0.0), ("pager", 15.0)]

    play(sqlite_path, story, running=True, routes=ROUTES)


def test_recovery_ends_it(sqlite_path: Path) -> None:
    """The incident is over before the first tier's time: nobody is woken."""

    async def story(world: World) -> None:
        incident = (await world.fail("shy", endpoint=None)).incident_id
        await tell(world, grave(incident))
        await world.later(5 * MINUTE)
        await world.succeed("shy")
        assert not (await world.incident(incident)).is_open
        await world.later(5 * 3600)
        assert await heard(world) == [("ops", 0.0)]

    play(sqlite_path, story, running=True, routes=ROUTES)


def test_acknowledged_incident_ends_it(sqlite_path: Path) -> None:
    """Who takes an incident over has answered all that is said about it."""

    async def story(world: World) -> None:
        incident = (await world.fail("shy", endpoint=None)).incident_id
        await tell(world, grave(incident))
        assert incident is not None
        await people.act_on_incident(world.parts, incident, "ack", by="ada")
        await world.later(5 * 3600)
        assert await heard(world) == [("ops", 0.0)]

    play(sqlite_path, story, running=True, routes=ROUTES)


def test_service_that_is_used_again_ends_it(sqlite_path: Path) -> None:
    """A disablement that a person lifted is no alarm any more; one that stands is."""

    async def story(world: World) -> None:
        for name in ("crm", "shy"):
            gate = await people.act_on_service(world.parts, name, "disable", by="ada")
            assert gate is not None
            await tell(world, replace(notices.disabled(gate, 3, ""), key=f"alarm:{name}"))
        await people.act_on_service(world.parts, "crm", "enable", by="ada")
        await world.later(16 * MINUTE)
        paged = [one.key for one in await world.told() if one.channel == "pager"]
        assert paged == ["alarm:shy#1"]

    play(sqlite_path, story, running=True, routes=ROUTES)


def test_two_workers_tell_a_tier_once(sqlite_path: Path) -> None:
    """Both reach for it at the same moment, again and again: one row per channel and tier."""

    async def story(world: World) -> None:
        entry = await tell(world, grave())
        second = replace(world.parts, worker="worker-2", ids=Ids(world.parts.clock, Rng(99)))
        for _ in range(3):
            await world.later(16 * MINUTE)
            both = (escalation.climb(parts, entry) for parts in (world.parts, second, world.parts))
            await asyncio.gather(*both)
        channels = [channel for channel, _ in await heard(world)]
        assert channels == ["boss", "ops", "ops", "pager"]

    play(sqlite_path, story, routes=ROUTES)


def test_restart_goes_on_where_it_stood(sqlite_path: Path) -> None:
    """A new process with an empty queue finds what climbs, at its time; what was acknowledged it leaves alone."""

    async def story(world: World) -> None:
        entry = await tell(world, grave())
        done = await tell(world, replace(grave(), key="alarm:2"))
        await inbox.acknowledge(world.parts, done, by="ada")
        await world.later(5 * MINUTE)
        runner = LocalRunner(world.parts.clock, Listeners())
        await reconcile(replace(world.parts, runner=runner), {}, alone=True)
        found = [(one.ids, one.due_in_s) for one in runner.in_memory() if one.handler == escalation.HANDLER]
        assert found == [((entry,), 600.0)]

    play(sqlite_path, story, routes=ROUTES)


def test_tier_called_too_early_waits_for_its_time(sqlite_path: Path) -> None:
    """A handler that is brought back before its time tells nobody, and comes again."""

    async def story(world: World) -> None:
        entry = await tell(world, grave())
        await escalation.climb(world.parts, entry)
        assert await heard(world) == [("ops", 0.0)]
        assert world.due_in_s(entry, handler=escalation.HANDLER) == timedelta(minutes=15).total_seconds()
        await escalation.climb(world.parts, "nobody")

    play(sqlite_path, story, routes=ROUTES)


def test_tiers_count_from_when_the_first_could_know(sqlite_path: Path) -> None:
    """Held until the morning, the next tier is told a quarter of an hour after it, and not at the same moment."""
    night = Quiet(begins=time(22), ends=time(7), zone="UTC")
    late = frozenset({Severity.MEDIUM})
    routes = Routes((Route(late, ("ops",), tiers=(Tier(15 * MINUTE, ("pager",)),)),), quiet=night)

    async def story(world: World) -> None:
        await tell(world, replace(grave(), severity=Severity.MEDIUM))
        await world.later(8 * 3600)
        due = {one.channel: one.next_at for one in await world.told()}
        assert due == {"ops": START + timedelta(hours=7), "pager": START + timedelta(hours=7, minutes=15)}

    play(sqlite_path, story, running=True, routes=routes)


def test_notice_that_escalates_is_on_the_dashboard_however_quiet(sqlite_path: Path) -> None:
    """A LOW notice with tiers has an entry that can be acknowledged."""
    routes = Routes((Route(frozenset({Severity.LOW}), ("ops",), tiers=(Tier(60, ("pager",)),)),))

    async def story(world: World) -> None:
        entry = await tell(world, replace(grave(), severity=Severity.LOW))
        await inbox.acknowledge(world.parts, entry, by="ada")
        await world.later(120)
        assert [channel for channel, _ in await heard(world)] == ["ops"]

    play(sqlite_path, story, running=True, routes=routes)
