"""What is sought follows the tables, change by change, and is what a new start would seek."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunella.core.clock import ManualClock
from prunella.core.issues import Binding, IssueState, KnownIssue
from prunella.core.records import Failure, Severity
from prunella.diagnosis.patterns import Pattern
from prunella.engine.learning.known import KnownIssues
from prunella.store.contract import Store
from prunella.store.sqlite import SqliteStore
from store.making import NOW, at

pytestmark = pytest.mark.anyio

SHIPPED = (
    Pattern(id="shipped-1", expression="card was declined", remedy="refresh_auth"),
    Pattern(id="shipped-2", expression="tunnel is down"),
)


def issue(number: object = 1, **changed: Any) -> KnownIssue:
    fields: dict[str, Any] = {
        "id": f"issue-{number}",
        "title": "it",
        "expression": f"trouble number {number}$",
        "created_at": NOW,
        "created_by": "ada",
    }
    return KnownIssue(**{**fields, **changed})


async def add(store: Store, *issues: KnownIssue, seconds: float = 0) -> None:
    async with store.transaction() as tx:
        await tx.learning.add(issues, at(seconds))


async def change(store: Store, issue_id: str, seconds: float = 0, **changed: Any) -> None:
    async with store.transaction() as tx:
        found = await tx.learning.issue(issue_id)
        assert found is not None
        await tx.learning.save(replace(found, **changed), at(seconds))


async def look(known: KnownIssues, store: Store) -> KnownIssues:
    known.forget()
    async with store.transaction() as tx:
        await known.refresh(tx)
    return known


def found(known: KnownIssues, message: str) -> str | None:
    return known.match(Failure(service="crm", message=message), kind="unknown")


async def test_store_is_asked_once_a_second_or_when_told(store: Store) -> None:
    """Two looks within a second are one; whoever changed an issue here has it at the next look."""
    clock = ManualClock()
    known = await look(KnownIssues(clock, SHIPPED), store)
    await add(store, issue())
    async with store.transaction() as tx:
        await known.refresh(tx)
        assert found(known, "trouble number 1") is None
        await clock.sleep(1.0)
        await known.refresh(tx)
    assert found(known, "trouble number 1") == "issue-1"
    await add(store, issue(2))
    assert found(await look(known, store), "trouble number 2") == "issue-2"


async def test_issue_of_the_tables_stands_for_the_shipped_one(store: Store) -> None:
    """Its words count from then on, and its remedies; one that was joined with another is that one."""
    known = await look(KnownIssues(ManualClock(), SHIPPED), store)
    assert (found(known, "the card was declined"), known.is_repaired("shipped-1")) == ("shipped-1", True)
    await add(store, issue(id="shipped-1", expression="no cover"), issue(2))
    await look(known, store)
    assert (found(known, "the card was declined"), known.is_repaired("shipped-1")) == (None, False)
    assert found(known, "no cover") == "shipped-1"
    await change(store, "shipped-1", alias_of="issue-2", remedies=[Binding(remedy="refresh_auth")])
    await look(known, store)
    assert (found(known, "no cover"), known.is_repaired("shipped-1")) == ("issue-2", True)


async def test_change_that_is_dated_earlier_is_noticed(store: Store) -> None:
    """By a minute, as a slow transaction is, and by an hour, as a host is whose clock is wrong."""
    known = await look(KnownIssues(ManualClock()), store)
    await add(store, *(issue(number) for number in range(4)), seconds=3600)
    await look(known, store)
    for seconds, number in ((3541, 1), (0, 2)):
        await change(store, f"issue-{number}", seconds, expression=f"now {number}$")
        assert found(await look(known, store), f"now {number}") == f"issue-{number}"


async def test_expression_that_can_not_be_kept_is_not_sought(store: Store) -> None:
    """It takes nothing else with it, as at a start; mended it is sought."""
    await add(store, issue())
    known = await look(KnownIssues(ManualClock()), store)
    await change(store, "issue-1", expression="(a+)+b")
    await add(store, issue(2))
    await look(known, store)
    assert [found(known, f"trouble number {number}") for number in (1, 2)] == [None, "issue-2"]
    await change(store, "issue-1", expression="a+b+c+")
    assert found(await look(known, store), "abc") == "issue-1"


async def test_what_is_sought_is_what_a_new_start_would_seek(sqlite_path: Path) -> None:
    """After any changes in any order, a few or hundreds at once: added, changed, asleep, deleted, added again."""
    store = SqliteStore.open_file(sqlite_path, ManualClock())
    rng, known = random.Random(5), KnownIssues(ManualClock(), SHIPPED)
    ids: set[str] = set()
    messages = [f"trouble number {number}" for number in range(12)] + [
        "the card was declined",
        "again",
        "tunnel is down",
    ]

    def delete(issue_id: str) -> None:
        with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as file:
            file.execute("DELETE FROM known_issues WHERE id = ?", (issue_id,))
        ids.discard(issue_id)

    async def add_one(step: int) -> None:
        kinds: list[dict[str, Any]] = [{}, {"id": "shipped-2"}, {"last_seen": at(-99)}]
        made = issue(rng.randrange(12), **rng.choice(kinds))
        if made.id not in ids:
            await add(store, made, seconds=step)
            ids.add(made.id)

    async def change_one(step: int) -> None:
        how: list[dict[str, Any]] = [
            {"expression": "trouble number [0-9]$"}, {"expression": "again"}, {"severity": Severity.CRITICAL},
            {"service": "shop"}, {"state": IssueState.RESOLVED}, {"alias_of": "issue-3"}, {"expression": "[a-z]+a+z+"},
        ]  # fmt: skip
        await change(store, rng.choice(sorted(ids)), step - rng.choice([0, 30, 500]), **rng.choice(how))

    async def fall_asleep(step: int) -> None:
        async with store.transaction() as tx:
            await tx.learning.sleep(at(-1), at(step))

    async def flood(step: int) -> None:
        crowd = [issue(f"{step}-{number}", expression=f"flood {number}") for number in range(201)]
        await add(store, *crowd, seconds=step)

    async def drop(step: int) -> None:
        delete(rng.choice(sorted(ids)))

    deeds: list[Callable[[int], Any]] = [add_one, add_one, change_one, change_one, drop, fall_asleep]
    for step in range(100):
        await (flood if step == 95 else rng.choice(deeds) if ids else add_one)(step)
        if rng.random() < 0.6:
            await look(known, store)
            anew = await look(KnownIssues(ManualClock(), SHIPPED), store)
            assert [found(known, one) for one in messages] == [found(anew, one) for one in messages], step
    await store.close()
