"""Several workers over one outbox, on PostgreSQL: a message and a tier are one, whoever is quicker, and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from prunella.app import App, open_app
from prunella.core.clock import Ids, Rng, SystemClock
from prunella.core.events import Listeners
from prunella.core.records import Notice, Notification, Severity
from prunella.core.redact import Secret
from prunella.egress import Caller, Egress
from prunella.engine import escalation, inbox, trail
from prunella.engine.notices import DASHBOARD, Route, Routes, Tier
from prunella.notify.outbox import Delivery
from prunella.runner.local import LocalRunner
from prunella.settings import Settings
from prunella.store.postgres import PostgresStore

pytestmark = pytest.mark.anyio
KEY = Secret("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
TIERS = (Tier(60.0, ("pager", "boss")), Tier(60.0, ("pager",)))
ROUTES = Routes((Route(frozenset(Severity), ("ops",), tiers=TIERS),))
ALARM = Notice(key="alarm:1", kind="SYSTEM_ALERT", severity=Severity.CRITICAL, title="t", facts=(("Why", "many"),))


@dataclass
class Slow:
    """A channel that takes its time, or never comes back."""

    name: str = "ops"
    got: list[str] = field(default_factory=list)
    dies: bool = False

    async def send(self, notification: Notification, *, caller: Caller) -> str | None:
        """Take it."""
        self.got.append(notification.id)
        await asyncio.sleep(0.01)
        if self.dies:
            raise asyncio.CancelledError
        return None


@asynccontextmanager
async def workers(url: str, count: int) -> AsyncIterator[list[App]]:
    """Open prunella several times on one database, as so many processes would."""
    settings = Settings(database_url=url, secret_key=KEY, routes=ROUTES)
    opened = [open_app(settings, tell=lambda _: None) for _ in range(count)]
    apps = [await one.__aenter__() for one in opened]
    try:
        yield apps
    finally:
        for one in opened:
            await one.__aexit__(None, None, None)


def delivery(store: PostgresStore, chat: Slow) -> Delivery:
    """Return what one worker sends with."""

    async def channel(_: str) -> Slow:
        return chat

    clock, listeners = SystemClock(), Listeners()
    return Delivery(store, LocalRunner(clock, listeners), Egress(), channel, listeners, Ids(clock, Rng()))


async def test_message_is_sent_by_one_of_two_workers(migrated_postgres_url: str) -> None:
    """Both reach for the same eight messages again and again: each goes out once."""
    stores = [await PostgresStore.open(migrated_postgres_url) for _ in range(2)]
    chat, ids = Slow(), Ids(SystemClock(), Rng())
    try:
        now = stores[0].clock.now() - timedelta(seconds=1)
        rows = [message(ids.new(), now) for _ in range(8)]
        for row in rows:
            async with stores[0].transaction() as tx:
                await tx.outbox.add([row])
            await asyncio.gather(*(delivery(store, chat).deliver("ops") for store in stores * 2))
        assert sorted(chat.got) == sorted(row.id for row in rows)
    finally:
        for store in stores:
            await store.close()


async def test_message_of_a_dead_worker_is_sent_again_under_its_own_id(migrated_postgres_url: str) -> None:
    """It died between sending and writing it down: the receiver hears it twice, by one id that it can know."""
    store = await PostgresStore.open(migrated_postgres_url)
    dying, living = Slow(dies=True), Slow()
    try:
        row = message("n-1", store.clock.now() - timedelta(seconds=1))
        async with store.transaction() as tx:
            await tx.outbox.add([row])
        with pytest.raises(asyncio.CancelledError):
            await delivery(store, dying).deliver("ops")
        await delivery(store, living).deliver("ops")
        assert living.got == []
        async with store.transaction() as tx:
            await tx.outbox.release_all(store.clock.now())
        await delivery(store, living).deliver("ops")
        assert (dying.got, living.got) == (["n-1"], ["n-1"])
    finally:
        await store.close()


async def test_tier_is_told_once_over_workers_and_never_after_an_answer(migrated_postgres_url: str) -> None:
    """Three workers climb at the same moment while somebody acknowledges: one message per tier and channel, or none."""
    async with workers(migrated_postgres_url, 3) as apps:
        for number in range(8):
            notice = replace(ALARM, key=f"alarm:{number}")
            async with apps[0].store.transaction() as tx:
                await trail.tell(apps[0].parts, tx, [notice])
                (shown,) = await tx.outbox.list(most=1, channel=DASHBOARD, key=notice.key)
                await tx.outbox.climb(shown.id, 0, shown.created_at)  # due at once, as its first tier would be
            climbs = [escalation.climb(app.parts, shown.id) for app in apps * 2]
            answer = [inbox.acknowledge(apps[number % 3].parts, shown.id, by="ada")] if number % 2 else []
            await asyncio.gather(*answer, *climbs)
            async with apps[0].store.transaction() as tx:
                told = await tx.outbox.list(most=20, key=f"{notice.key}#2")
            assert len(told) <= 1
            assert number % 2 or [row.channel for row in told] == ["pager"]


async def test_two_people_acknowledge_and_one_is_told_who_was_first(migrated_postgres_url: str) -> None:
    """At the same moment: one name counts, and the other one hears it."""
    async with workers(migrated_postgres_url, 2) as apps:
        for number in range(5):
            notice = replace(ALARM, key=f"alarm:{number}")
            async with apps[0].store.transaction() as tx:
                await trail.tell(apps[0].parts, tx, [notice])
                (shown,) = await tx.outbox.list(most=1, channel=DASHBOARD, key=notice.key)
            both = [
                inbox.acknowledge(app.parts, shown.id, by=who) for app, who in zip(apps, ("ada", "bob"), strict=True)
            ]
            done = await asyncio.gather(*both, return_exceptions=True)
            (first,) = [one.acknowledged_by for one in done if isinstance(one, Notification)]
            (late,) = [str(one) for one in done if isinstance(one, Exception)]
            assert f"was acknowledged by {first}" in late


def message(name: str, due: datetime) -> Notification:
    """Return a message that is due."""
    return Notification(
        id=name,
        key=name,
        channel="ops",
        kind="detected",
        severity=Severity.MEDIUM,
        title="t",
        facts=(),
        incident_id=None,
        link=None,
        next_at=due,
        created_at=due,
    )
