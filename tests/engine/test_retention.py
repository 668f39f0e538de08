"""The round that forgets: what is over goes in its time, everything else and every view of it stays as it was."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.world import START, World, play
from prunella.app import App, wire
from prunella.core.clock import ManualClock
from prunella.core.records import AuditEntry, Incident, Notification, Operation, Run, Signal
from prunella.core.retention import Retention
from prunella.core.states import IncidentState, OperationState, RunState
from prunella.egress import Egress
from prunella.engine import orders, patrol, retention, seals
from prunella.settings import Settings
from prunella.store.contract import Store
from prunella.store.migrations.views import VIEWS
from prunella.store.secrets import Keys
from store.conftest import outside as _outside
from store.making import Outside, entry, incident, notification, operation, run, signal

pytestmark = pytest.mark.anyio
outside = _outside
DAY = timedelta(days=1)
AGED = sorted(VIEWS.keys() - {"healing_statistics_view", "healing_metrics", "integrations"})
"""Views that show one fact per row; the others are sums, or never forgotten."""


@pytest.fixture
async def app(store: Store) -> AsyncIterator[App]:
    """Wire a prunella on a real store; nothing runs by itself."""
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    yield wire(Settings(), store, egress, Keys([b"k" * 32]))
    await egress.close()


@dataclass
class Past:
    """Write incidents of long ago with all that belongs to them."""

    store: Store

    async def write(self, name: str, days: float, *, open_: bool = False, **changed: Any) -> Incident:
        """Write an incident that began and ended so many days ago."""
        then = self.store.clock.now() - days * DAY
        state = IncidentState.ESCALATED if open_ else IncidentState.RESOLVED
        first = {"first_seen": then, "last_seen": then, "state": state, "resolved_at": None if open_ else then}
        one = incident(name, **{**first, "signal_id": f"signal-{name}-0", **changed})
        mine: dict[str, Any] = {"incident_id": one.id}
        signals: list[Signal] = [signal(f"{name}-{n}", received_at=then, occurred_at=then) for n in range(3)]
        operations: list[Operation] = [
            operation(f"{name}-{n}", state=OperationState.DONE, created_at=then, **mine) for n in range(2)
        ]
        issue = "STUCK_PENDING" if one.procedure else ""
        runs: list[Run] = [
            run(f"{name}-{n}", state=RunState.VERIFIED, started_at=then, ended_at=then, issue=issue, **mine)
            for n in range(2)
        ]
        told: list[Notification] = [
            notification(name, state="sent", next_at=None, created_at=then, sent_at=then, kind="SYSTEM_ALERT", **mine)
        ]
        entries: list[AuditEntry] = [
            entry(f"{name}-{n}", at=then, action=action, **mine)
            for n, action in enumerate(("incident.opened", "incident.escalated"))
        ]
        async with self.store.transaction() as tx:
            await tx.signals.add([(each, None, None) for each in signals])
            await tx.signals.attach(one.id, [each.id for each in signals])
            await tx.incidents.open_or_join(one)
            await tx.operations.add(operations)
            await tx.runs.add(runs)
            await tx.outbox.add(told)
            await tx.audit.add(entries)
        return one


def rows_of(outside: Outside) -> dict[str, set[str]]:
    """Return every view's rows."""
    return {view: {repr(row) for row in outside(f"SELECT * FROM {view}")} for view in AGED}


async def test_views_show_what_stays_as_it_was(app: App, outside: Outside) -> None:
    """Each row of each view stays as it was or goes whole; nothing is left without what it belongs to."""
    past = Past(app.store)
    for name, days in (("01", 200), ("02", 100), ("03", 95)):
        await past.write(name, days, procedure="stuck-order" if name == "02" else "", resource="7")
    kept = {
        "11": await past.write("11", 200, open_=True),
        "12": await past.write("12", 20),
        "13": await past.write("13", 50, procedure="stuck-order", resource="8"),
    }
    before = rows_of(outside)
    gone = await retention.forget(app.parts, Retention())
    after = rows_of(outside)
    assert {view for view in AGED if not after[view] <= before[view]} == set()
    assert outside("SELECT id FROM incidents ORDER BY id") == [(one.id,) for one in kept.values()]
    assert outside("SELECT DISTINCT incident_id FROM signals ORDER BY 1") == [(one.id,) for one in kept.values()]
    assert gone == {
        "deleted": gone["deleted"], "incidents": 3, "signals": 9, "runs": 6, "operations": 6 + 2, "notifications": 3,
    }  # fmt: skip
    assert sum(len(row) for row in after.values()) > 20
    assert (await retention.forget(app.parts, Retention()))["deleted"] == 0


async def test_each_kind_has_its_own_time(app: App, outside: Outside) -> None:
    """Operations go before their incident, the audit long after it."""
    for name, days in (("02", 100), ("01", 40)):
        await Past(app.store).write(name, days)
        long_ago = ManualClock(app.store.clock.now() - (days - 0.1) * DAY)
        await seals.seal(replace(app.parts, clock=long_ago))
    one, two = Retention(), Retention(audit_s=99 * 86_400.0)
    assert (await retention.forget(app.parts, one))["operations"] == 4
    assert outside("SELECT count(*) FROM incidents") == [(1,)]
    assert outside("SELECT count(*) FROM runs") == [(2,)]
    assert outside("SELECT count(*) FROM audit") == [(4,)]
    assert (await retention.forget(app.parts, two))["audit"] == 2
    assert {row[0][:8] for row in outside("SELECT id FROM audit")} == {"entry-01"}
    found = await seals.verify(app.parts)
    assert (found.broken, found.seals, found.forgotten, found.entries) == (None, 2, 1, 2)


async def test_time_that_is_up_leaves_the_rest_for_a_little_later(app: App, outside: Outside) -> None:
    """Nothing half: what was begun in one turn is finished in the next, and the next is soon."""
    await Past(app.store).write("01", 200)
    said = await retention.forget(app.parts, Retention(), within_s=0.0)
    assert (said["deleted"], "left" in said) == (0, True)
    queued = await app.runner.queued()
    assert [one.ids for one in queued] == [(retention.NAME,)]
    assert (await retention.forget(app.parts, Retention()))["incidents"] == 1


async def test_thousands_go_in_short_transactions(app: App, outside: Outside, database_url: str) -> None:
    """One incident with more signals than a batch holds is forgotten whole, and no statement takes more than a batch."""
    await Past(app.store).write("01", 200)
    count = retention._BATCH * 2 + 10
    then = app.store.clock.now() - 150 * DAY
    async with app.store.transaction() as tx:
        flood = [signal(f"x{number:05}", received_at=then) for number in range(count)]
        await tx.signals.add([(one, None, None) for one in flood])
        await tx.signals.attach("incident-01", [one.id for one in flood[: count // 2]])
    gone = await retention.forget(app.parts, Retention())
    assert (gone["signals"], gone["incidents"]) == (count + 3, 1)
    assert outside("SELECT count(*) FROM signals") == [(0,)]


async def test_others_have_their_turn_between_two_batches(app: App, outside: Outside) -> None:
    """Given a backlog, forgetting it holds nobody up for more than a batch, also on SQLite, whose calls give up no turn."""
    then, batches = app.store.clock.now() - 150 * DAY, 4
    async with app.store.transaction() as tx:
        flood = [signal(f"x{number:05}", received_at=then) for number in range(retention._BATCH * batches)]
        await tx.signals.add([(one, None, None) for one in flood])
    forgetting, left = asyncio.ensure_future(retention.forget(app.parts, Retention())), set()
    while not forgetting.done():
        left.update(outside("SELECT count(*) FROM signals"))
        await asyncio.sleep(0)
    assert len(left) >= batches


def test_round_says_what_went_and_rests_with_everything_else(sqlite_path: Path) -> None:
    """It runs as the scan does, its result stands with the procedures, and the kill switch holds it."""

    async def story(world: World) -> None:
        one = retention.round_of(Retention())
        assert (one.name, one.every_s, one.after(START)) == ("retention", 3600, START + timedelta(hours=1))
        await world.fail(endpoint=None)
        await world.succeed()
        await world.later(91 * 86_400)
        await orders.pause(world.parts, None, by="ada", reason="hands off")
        await patrol.run_procedure(world.parts, one)
        assert "hands off" in (await result(world))["held"]
        await orders.resume(world.parts, None, by="ada", reason="")
        await patrol.run_procedure(world.parts, one)
        assert (await result(world))["deleted"] == 1  # the success; messages about the incident are on their way still
        async with world.parts.store.transaction() as tx:
            told = [row.id for row in await tx.outbox.list(most=99)]
            await tx.outbox.settle(told, "sent", next_at=None, error=None, sent_at=START)
        await patrol.run_procedure(world.parts, one)
        said = await result(world)
        assert (said["incidents"], said["signals"]) == (1, 1)
        assert await world.incidents() == []

    play(sqlite_path, story)


async def result(world: World) -> dict[str, Any]:
    """Return what the round's last run came to."""
    async with world.parts.store.transaction() as tx:
        (row,) = [row for row in await tx.procedures.all() if row["name"] == retention.NAME]
    found: dict[str, Any] = row["last_result"]
    return found
