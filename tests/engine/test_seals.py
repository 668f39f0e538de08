"""What was written to the audit stays as it was, or the chain of seals shows where it does not."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from prunella.app import App, wire
from prunella.core.clock import ManualClock
from prunella.core.events import Event
from prunella.core.retention import Retention
from prunella.egress import Egress
from prunella.engine import retention, seals
from prunella.settings import Settings
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore
from prunella.store.secrets import Keys
from store.making import NOW, entry

pytestmark = pytest.mark.anyio
COUNT = seals.BATCH + 100
Tamper = Callable[[str], None]


@pytest.fixture
async def app(store: Store) -> AsyncIterator[App]:
    """Wire a prunella on a real store; its clock stands where the test says."""
    egress = Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    wired = wire(Settings(), store, egress, Keys([b"k" * 32]))
    yield replace(wired, parts=replace(wired.parts, clock=ManualClock(NOW)))
    await egress.close()


@pytest.fixture
def tamper(database_url: str) -> Tamper:
    """Change the database past every rule in it, as its owner can."""

    def run(statement: str) -> None:
        if database_url.startswith("sqlite"):
            with closing(sqlite3.connect(make_url(database_url).database or "", isolation_level=None)) as file:
                for trigger in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                    file.execute(f"DROP TRIGGER {trigger[0]}")
                file.execute(statement)
            return
        with psycopg.connect(database_url, autocommit=True, options="-csearch_path=prunella") as connection:
            connection.execute(b"SET session_replication_role = replica")
            connection.execute(statement.encode())

    return run


async def written(app: App, count: int = COUNT, start: int = 0) -> None:
    """Write entries that are old enough to be sealed, and seal them."""
    then = app.parts.clock.now() - timedelta(minutes=1)
    async with app.store.transaction() as tx:
        await tx.audit.add(
            [
                entry(f"{n:05}", at=then, details={"n": n, "ü": [1.5, None]}, reason="é")
                for n in range(start, start + count)
            ]
        )
    assert await seals.seal(app.parts) == count


async def test_entries_are_sealed_in_batches_and_verified(app: App) -> None:
    """Each seal follows the one before; young entries wait; a chain that nobody touched is whole."""
    told: list[Event] = []
    app.parts.listeners.subscribe(told.append)
    await written(app)
    async with app.store.transaction() as tx:
        await tx.audit.add([entry("young", at=NOW)])
        first, second = await tx.seals.after(0, 9)
    assert (first.number, first.previous, first.entries) == (1, "", seals.BATCH)
    assert (second.number, second.previous, second.entries) == (2, first.digest, 100)
    assert await seals.seal(app.parts) == 0
    found = await seals.verify(app.parts)
    assert found == seals.Checked(seals=2, entries=COUNT, forgotten=0, unsealed=1, last=second)
    assert [one.fields["digest"] for one in told if one.name == "audit.sealed"] == [first.digest, second.digest]
    assert (await seals.verify(app.parts, (1, first.digest))).broken is None


ID, AT7 = "UPDATE audit SET id", "WHERE id = 'entry-00007'"
ALL = "id, at, actor, action, target, reason, details, seal"
TAMPERED = {
    "id": ("UPDATE audit SET id = 'entry-00007x' WHERE id = 'entry-00007'", 1, "not as it was"),
    "at": ("UPDATE audit SET at = '2026-01-01T00:00:00.000001+00:00' WHERE id = 'entry-00007'", 1, "not as it was"),
    "actor": ("UPDATE audit SET actor = 'eve' WHERE id = 'entry-00507'", 2, "not as it was"),
    "action": ("UPDATE audit SET action = 'incident.closed' WHERE id = 'entry-00007'", 1, "not as it was"),
    "target": ("UPDATE audit SET target = 'another' WHERE id = 'entry-00007'", 1, "not as it was"),
    "incident": ("UPDATE audit SET incident_id = 'i' WHERE id = 'entry-00007'", 1, "not as it was"),
    "reason": ("UPDATE audit SET reason = 'e' WHERE id = 'entry-00007'", 1, "not as it was"),
    "details": ("""UPDATE audit SET details = '{"n": 8, "ü": [1.5, null]}' WHERE id = 'entry-00007'""", 1, "not as it was"),
    "deleted": ("DELETE FROM audit WHERE id = 'entry-00507'", 2, "99 entries stand under it, where there were 100"),
    "unsealed": ("UPDATE audit SET seal = NULL WHERE id = 'entry-00507'", 2, "99 entries stand under it"),
    "moved": ("UPDATE audit SET seal = 2 WHERE id = 'entry-00007'", 1, "499 entries stand under it"),
    "inserted": (f"INSERT INTO audit ({ALL}) SELECT 'forged', {ALL[4:]} FROM audit WHERE id = 'entry-00507'", 2, "101 entries stand under it"),
    "reordered": (f"{ID} = 'x' {AT7}; {ID} = 'entry-00007' WHERE id = 'entry-00008'; {ID} = 'entry-00008' WHERE id = 'x'", 1, "not as it was"),
    "all entries": ("DELETE FROM audit", 1, "0 entries stand under it"),
    "seal number": ("UPDATE seals SET number = 7 WHERE number = 2", 2, "is missing; the next one is 7"),
    "seal previous": ("UPDATE seals SET previous = 'x' WHERE number = 2", 2, "does not follow the seal before it"),
    "seal content": ("UPDATE seals SET content = 'x' WHERE number = 2", 2, "its own digest does not fit"),
    "seal digest": ("UPDATE seals SET digest = 'x' WHERE number = 1", 1, "its own digest does not fit"),
    "seal entries": ("UPDATE seals SET entries = 7 WHERE number = 2", 2, "its own digest does not fit"),
    "seal moment": ("UPDATE seals SET sealed_at = '2025-01-01T00:00:00+00:00' WHERE number = 2", 2, "its own digest does not fit"),
    "seal forgotten": ("UPDATE seals SET forgotten_at = sealed_at WHERE number = 1", 1, "sooner than retention does"),
    "forgotten, and there": (
        "UPDATE seals SET forgotten_at = '2036-01-01T00:00:00+00:00' WHERE number = 2", 2, "100 entries still stand under it",
    ),
    "first seal gone": ("DELETE FROM seals WHERE number = 1", 1, "is missing; the next one is 2"),
    "last seal gone": ("DELETE FROM seals WHERE number = 2", 2, "entries stand under seal 2, which is gone"),
    "all seals gone": ("DELETE FROM seals", 1, "entries stand under seal 1, which is gone"),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
async def test_tampering_is_found_at_its_seal(app: App, tamper: Tamper, how: str) -> None:
    """Every column changed, an entry gone, put in, moved; a seal changed or gone: the first broken one is named."""
    statement, number, why = TAMPERED[how]
    await written(app)
    assert (await seals.verify(app.parts)).broken is None
    for one in statement.split("; "):
        tamper(one)
    found = await seals.verify(app.parts)
    assert (found.broken, why in found.why) == (number, True), found.why


async def test_chain_made_anew_shows_against_a_noted_seal(app: App, tamper: Tamper) -> None:
    """Who can write everything can seal a lie; a digest that stands in a log elsewhere tells it, also where all is cut off."""
    await written(app)
    noted = (await seals.verify(app.parts)).last
    assert noted is not None
    tamper("UPDATE audit SET seal = NULL, actor = 'eve'")
    tamper("DELETE FROM seals")
    assert await seals.seal(app.parts) == COUNT
    assert (await seals.verify(app.parts)).broken is None
    found = await seals.verify(app.parts, (noted.number, noted.digest))
    assert (found.broken, found.why) == (2, "is another one than was noted")
    tamper("DELETE FROM audit")
    tamper("DELETE FROM seals")
    found = await seals.verify(app.parts, (noted.number, noted.digest))
    assert (found.broken, found.why) == (2, "was noted, and the chain ends at 0")


async def test_retention_leaves_a_chain_that_can_be_checked(app: App) -> None:
    """Old seals lose their entries and stay in the chain; what is kept is compared as before."""
    await written(app, 3)
    clock = app.parts.clock
    assert isinstance(clock, ManualClock)
    clock.advance(400 * 86_400)
    await written(app, 2, start=500)
    gone = await retention.forget(app.parts, Retention())
    assert gone["audit"] == 3
    found = await seals.verify(app.parts)
    assert (found.broken, found.seals, found.forgotten, found.entries) == (None, 2, 1, 2)


async def test_many_sealers_make_one_chain(app: App, database_url: str) -> None:
    """Processes that seal at the same moment wait for each other: no gap, no entry twice."""
    then = NOW - timedelta(minutes=1)
    async with app.store.transaction() as tx:
        await tx.audit.add([entry(f"{n:05}", at=then) for n in range(COUNT * 2)])
    others = [] if database_url.startswith("sqlite") else [await PostgresStore.open(database_url) for _ in range(3)]
    crew = [app.parts, *(replace(app.parts, store=one) for one in others)]
    sealed = await asyncio.gather(*(seals.seal(parts) for parts in crew))
    for one in others:
        await one.close()
    assert sum(sealed) == COUNT * 2
    found = await seals.verify(app.parts)
    assert (found.broken, found.entries, found.unsealed) == (None, COUNT * 2, 0)


async def test_round_comes_again(app: App) -> None:
    """It submits itself, whatever came of it."""
    await seals.seal_in_turn(app.parts)
    assert [(one.handler, one.ids) for one in await app.runner.queued()] == [(seals.HANDLER, ())]
