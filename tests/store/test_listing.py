"""Lists go on behind a row, newest first, without loss and without a row twice, on both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from prunella.core.records import Approval
from prunella.store.audit import Asked
from prunella.store.contract import Store, Transaction
from prunella.store.session import behind
from prunella.store.sql import SqliteDialect, prepare
from prunella.store.tables import audit, incidents
from store.making import at, entry, incident, notification, run

pytestmark = pytest.mark.anyio


def moment_of(row: Any) -> datetime:
    for name in ("first_seen", "started_at", "created_at", "at"):
        if hasattr(row, name):
            moment: datetime = getattr(row, name)
            return moment
    raise LookupError(row)


@pytest.mark.parametrize("noun", ["incidents", "approvals", "runs", "outbox"])
async def test_pages_hold_everything_once(store: Store, noun: str) -> None:
    """Several rows of the same moment, cut at each place: what comes behind a row is the rest."""
    moments = [at(number // 3) for number in range(10)]
    async with store.transaction() as tx:
        await _add(tx, noun, moments)
        rows = getattr(tx, noun)
        whole = await rows.list(most=100)
        assert len(whole) == 10
        for place, one in enumerate(whole):
            rest = await rows.list(most=100, before=(moment_of(one), one.id))
            assert rest == whole[place + 1 :]


async def _add(tx: Transaction, noun: str, moments: list[datetime]) -> None:
    if noun == "incidents":
        await tx.incidents.open_or_join_all([incident(n, first_seen=one) for n, one in enumerate(moments)])
    elif noun == "approvals":
        plan: dict[str, Any] = {
            "incident_id": "i",
            "procedure": "ward",
            "plan": {},
            "digest": "d",
            "expires_at": at(99),
        }
        await tx.approvals.add([Approval(id=f"approval-{n}", created_at=one, **plan) for n, one in enumerate(moments)])
    elif noun == "runs":
        await tx.runs.add([run(n, started_at=one) for n, one in enumerate(moments)])
    else:
        await tx.outbox.add([notification(n, created_at=one) for n, one in enumerate(moments)])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (
            select(incidents)
            .where(behind(incidents.c.first_seen, incidents.c.id, (at(1), "i")))
            .order_by(incidents.c.first_seen.desc(), incidents.c.id.desc()),
            "incidents_by_first_seen (first_seen<?)",
        ),
        (
            select(audit).where(*Asked(target="crm").conditions()).order_by(audit.c.id.desc()),
            "audit_by_target (target=?)",
        ),
    ],
)
def test_page_begins_at_its_place_in_an_index(sqlite_path: Path, query: Any, found: str) -> None:
    """A page far behind costs what the first one does, and so do the few entries about one thing."""
    prepared = prepare(query.limit(9), SqliteDialect())
    with closing(sqlite3.connect(sqlite_path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {prepared.text}", prepared.bind({})).fetchall()
    assert [step[-1] for step in plan] == [f"SEARCH {found.partition('_')[0]} USING INDEX {found}"]


async def test_incidents_are_found_by_title_and_time(store: Store) -> None:
    """Letters of the title whatever their case, its signs as they are, and what was seen since a moment."""
    async with store.transaction() as tx:
        titles = ("CRM: 100% of calls fail", "crm: a_b fails", "Billing is away")
        await tx.incidents.open_or_join_all(
            [incident(n, title=title, last_seen=at(n)) for n, title in enumerate(titles)]
        )

        async def found(**asked: Any) -> set[str]:
            return {one.title for one in await tx.incidents.list(most=9, **asked)}

        assert await found(title="CRM:") == await found(title="crm:") == set(titles[:2])
        assert await found(title="%") == {titles[0]}
        assert await found(title="_") == {titles[1]}
        assert await found(title="\\") == set()
        assert await found(since=at(2)) == {titles[2]}
        assert await found(since=at(1), title="fails") == {titles[1]}
        await tx.audit.add([entry(1, at=at(1)), entry(2, at=at(2))])
        assert [one.id for one in await tx.audit.asked(Asked(since=at(2)), most=9)] == [entry(2).id]
        await tx.runs.add([run(n, started_at=at(n)) for n in range(4)])
        assert [one.started_at for one in await tx.runs.list(most=9, since=at(2))] == [at(3), at(2)]
