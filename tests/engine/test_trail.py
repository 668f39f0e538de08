"""Traces stand or fall with the change they speak of: audit, messages and the delivery that is woken for them."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path

import pytest

from engine.world import START, World, play
from prunella.core.procedures import Window
from prunella.core.records import Notice, Severity
from prunella.engine import trail
from prunella.engine.notices import DASHBOARD, Route, Routes, Tier
from prunella.engine.pauses import Pauses
from prunella.engine.quiet import Quiet


def notice(key: str = "k", severity: Severity = Severity.HIGH) -> Notice:
    return Notice(key=key, kind="detected", severity=severity, title="t", facts=(("Service", "crm"),))


def test_note_says_who_did_what_to_which_and_why(sqlite_path: Path) -> None:
    """An entry without an actor is prunella's own; a person's carries their name."""

    async def story(world: World) -> None:
        async with world.parts.store.transaction() as tx:
            await trail.note(world.parts, tx, "gate.pause", "crm", reason="release", by="ada")
            await trail.note(world.parts, tx, "gate.opened", "crm", reason="5 failed calls")
        first, second = await world.audit()
        assert (first.actor, first.action, first.target, first.reason) == ("ada", "gate.pause", "crm", "release")
        assert (second.actor, second.at, second.incident_id) == ("prunella", START, None)
        assert first.id < second.id

    play(sqlite_path, story)


def test_traces_fall_with_their_change(sqlite_path: Path) -> None:
    """A transaction that fails leaves no entry, no message, and wakes no delivery."""

    async def story(world: World) -> None:
        async def broken() -> None:
            async with world.parts.store.transaction() as tx:
                await trail.note(world.parts, tx, "a.b", "crm", reason="r")
                await trail.tell(world.parts, tx, [notice()])
                raise RuntimeError("the change failed")

        with pytest.raises(RuntimeError):
            await broken()
        assert (await world.audit(), await world.told(), world.queued("deliver")) == ([], [], [])

    play(sqlite_path, story)


def test_message_is_queued_and_its_delivery_woken_at_its_time(sqlite_path: Path) -> None:
    """Each channel is woken when its row is due: at once, or at the end of its interval."""

    async def story(world: World) -> None:
        routes = Routes((Route(frozenset(Severity), ("ops",)), Route(frozenset(Severity), ("log",), digest_s=60)))
        object.__setattr__(world.parts, "routes", routes)
        async with world.parts.store.transaction() as tx:
            await trail.tell(world.parts, tx, [notice()])
            assert world.queued("deliver") == []
        assert {row.channel: row.next_at for row in await world.told()} == {
            "ops": START,
            "log": START + timedelta(seconds=60),
        }
        assert (world.due_in_s("ops", handler="deliver"), world.due_in_s("log", handler="deliver")) == (0.0, 60.0)

    play(sqlite_path, story)


def test_window_that_ends_in_quiet_hours_wakes_nobody(sqlite_path: Path) -> None:
    """Held until two in the morning, a small thing waits on until seven; a grave one goes out at two."""
    window = Window(name="work", cron="0 0 * * *", lasts_s=7200, pause=frozenset({"notifications"}))
    night = Quiet(begins=time(1), ends=time(7), zone="UTC")
    tiers = (Tier(60.0, ("pager",)),)
    routes = Routes((Route(frozenset(Severity), ("ops",), tiers=tiers),), quiet=night)

    async def story(world: World) -> None:
        object.__setattr__(world.parts, "pauses", Pauses(world.store, world.parts.clock, [window]))
        await world.parts.pauses.now()
        async with world.parts.store.transaction() as tx:
            await trail.tell(world.parts, tx, [notice("low", Severity.LOW), notice("high", Severity.HIGH)])
        told = {(row.key, row.channel): row for row in await world.told()}
        assert told["low", "ops"].next_at == START + timedelta(hours=7)
        assert told["high", "ops"].next_at == START + timedelta(hours=2)
        async with world.parts.store.transaction() as tx:
            (shown,) = await tx.outbox.list(most=2, channel=DASHBOARD, key="low")
        assert shown.escalates_at == START + timedelta(hours=7, minutes=1)

    play(sqlite_path, story, routes=routes)


def test_same_notice_is_stored_once(sqlite_path: Path) -> None:
    """However often it is raised: one row per channel."""

    async def story(world: World) -> None:
        for _ in range(3):
            async with world.parts.store.transaction() as tx:
                await trail.tell(world.parts, tx, [notice(), notice("other")])
        assert sorted(row.key for row in await world.told()) == ["k", "other"]

    play(sqlite_path, story)


def test_telling_nobody_wakes_nobody(sqlite_path: Path) -> None:
    """Without a route there is no row but the dashboard's, and no delivery."""

    async def story(world: World) -> None:
        object.__setattr__(world.parts, "routes", Routes())
        async with world.parts.store.transaction() as tx:
            await trail.tell(world.parts, tx, [notice()])
        assert (await world.told(), world.queued("deliver")) == ([], [])

    play(sqlite_path, story)


def test_link_leads_to_the_incident(sqlite_path: Path) -> None:
    """Links stand on the public address."""

    async def story(world: World) -> None:
        assert trail.link(world.parts, "i-1") == "https://prunella.example/incidents/i-1"

    play(sqlite_path, story)
