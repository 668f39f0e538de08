"""What a user's function wants changed is written where the row still is as it was seen, by lawful transitions only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prunella.core.findings import Finding
from prunella.core.outcomes import Outcome
from prunella.core.procedures import Entity, StuckRule
from prunella.core.states import StateMachine
from prunella.databases.handle import Database
from prunella.plugin import RemedyFunction
from prunella.remedies.contract import Assignment, Undone
from prunella.remedies.entities import EntityRemedy, retry_workflow
from users import opened, rows, run

pytestmark = pytest.mark.anyio

TABLE = """CREATE TABLE orders (id {key} PRIMARY KEY, status varchar(20) CHECK (vendor IS NULL OR vendor <> 13),
    vendor integer, tags {list}, updated_at {moment})"""
FILLED = "INSERT INTO orders VALUES " + ", ".join(
    f"({n}, 'ACCEPTED', {n % 3}, NULL, '2026-01-01 00:00:{n:02}.123456+00:00')" for n in range(1, 21)
)
ORDER = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine({"PENDING": ["ACCEPTED"], "ACCEPTED": ["PENDING", "CANCELLED"]}, name="order"),
    stuck={"ACCEPTED": StuckRule(after_s=60, remedy="reassign_vendor")},
)


@pytest.fixture(params=["sqlite", "postgresql"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    """Return a shop with 20 accepted orders, once of each kind of database."""
    if request.param == "sqlite":
        url, words = f"sqlite:///{tmp_path}/shop.db", {"key": "integer", "list": "text", "moment": "text"}
    else:
        url = request.getfixturevalue("fresh_postgres_url")
        words = {"key": "bigint", "list": "text[]", "moment": "timestamptz"}
    async with opened(url, TABLE.format(**words), FILLED) as database:
        yield database


def function(body: Any, **how: Any) -> RemedyFunction:
    """Return a registered function."""
    given: dict[str, Any] = {"idempotent": True, "reversible": True, "per": "row", "timeout_s": 5.0, **how}
    return RemedyFunction(name="reassign_vendor", function=body, **given)


async def seen(database: Database, *keys: int) -> list[Assignment]:
    """Return assignments for orders as they are now."""

    def look(connection: Any) -> list[dict[str, Any]]:
        table = database.table(connection, "orders")
        return [dict(one) for one in connection.execute(table.select().order_by(table.c.id)).mappings()]

    found = {row["id"]: row for row in await database.reading(look)}
    return [
        Assignment(
            run_id=f"run-{key}",
            incident_id=f"incident-{key}",
            attempt=1,
            idempotency_key=f"key-{key}",
            finding=Finding(key=str(key), issue="STUCK_ACCEPTED", message="…", row=found[key]),
        )
        for key in keys
    ]


async def back_to_pending(ctx: Any, row: Any) -> Outcome:
    """Give the order another vendor."""
    return Outcome.changed(status="PENDING", vendor=row["vendor"] + 100, note="another vendor")


async def test_wave_is_written_with_its_images(shop: Database) -> None:
    """Each row gets its own values, the moment of its new state, and an image under its own run."""
    before = await rows(shop, "SELECT id, status, vendor, updated_at FROM orders ORDER BY id")
    remedy = EntityRemedy(shop, ORDER, function(back_to_pending))
    outcomes = await remedy.apply(await seen(shop, 3, 1, 2))
    assert [(one.ok, one.touched, one.detail) for one in outcomes] == [(True, 1, "another vendor")] * 3
    assert outcomes[0].changes == {"status": "PENDING", "vendor": 100, "updated_at": "now"}
    changed = "SELECT id, vendor FROM orders WHERE status = 'PENDING' AND updated_at > '2026-02-01' ORDER BY id"
    assert await rows(shop, changed) == [(1, 101), (2, 102), (3, 100)]
    assert await remedy.undo("run-2") == Undone(restored=1)
    assert await rows(shop, changed) == [(1, 101), (3, 100)]
    await remedy.undo("run-1")
    await remedy.undo("run-3")
    assert await rows(shop, "SELECT id, status, vendor, updated_at FROM orders ORDER BY id") == before


async def test_row_that_moved_on_is_skipped(shop: Database) -> None:
    """A row with another status, or another moment, than was seen is left alone; the rest of the wave is written."""
    wave = await seen(shop, 1, 2, 3)
    await run(
        shop,
        "UPDATE orders SET status = 'CANCELLED' WHERE id = 1",
        "UPDATE orders SET updated_at = '2026-01-02 00:00:00+00:00' WHERE id = 2",
    )
    outcomes = await EntityRemedy(shop, ORDER, function(back_to_pending)).apply(wave)
    assert [(one.ok, one.skipped, one.touched) for one in outcomes] == [
        (True, True, 0),
        (True, True, 0),
        (True, False, 1),
    ]
    assert outcomes[0].detail == "it moved on meanwhile"
    assert await rows(shop, "SELECT id FROM orders WHERE status = 'PENDING'") == [(3,)]


async def test_two_workers_change_a_row_once(shop: Database) -> None:
    """Of two remedies with the same sight of a row one writes, and the other finds that it moved on."""
    wave, again = await seen(shop, *range(1, 21)), await seen(shop, *range(1, 21))
    first = await EntityRemedy(shop, ORDER, function(back_to_pending)).apply(wave)
    second = await EntityRemedy(shop, ORDER, function(back_to_pending)).apply(again)
    assert sum(one.touched for one in first + second) == 20


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"status": "SHIPPED"}, "order: ACCEPTED -> SHIPPED is not allowed; from ACCEPTED: PENDING, CANCELLED"),
        ({"statsu": "PENDING"}, "table orders has no column 'statsu'; did you mean status?"),
        ({"vendor": 13}, "database shop:"),
        ({"vendor": "no number"}, "database shop:"),
    ],
)
async def test_change_that_must_not_be_is_a_failure_with_its_reason(shop: Database, wanted: Any, words: str) -> None:
    """A transition, a column or a value that is refused fails its own row and no other one of the wave."""
    if shop.kind == "sqlite" and wanted == {"vendor": "no number"}:
        wanted = {"vendor": 13}  # a file of SQLite takes any text for a number

    async def body(ctx: Any, row: Any) -> Outcome:
        return Outcome.changed(**(wanted if row["id"] == 1 else {"vendor": 7}))

    outcomes = await EntityRemedy(shop, ORDER, function(body)).apply(await seen(shop, 1, 2, 3))
    assert [one.ok for one in outcomes] == [False, True, True]
    assert words in outcomes[0].detail
    assert await rows(shop, "SELECT id FROM orders WHERE vendor = 7") == [(2,), (3,)]


async def test_moment_that_the_outcome_names_is_written(shop: Database) -> None:
    """A moment of the function's own beats ours; without a status no moment is written."""

    async def body(ctx: Any, row: Any) -> Outcome:
        if row["id"] == 1:
            return Outcome.changed(status="PENDING", updated_at="2026-03-01 00:00:00+00:00")
        return Outcome.changed(vendor=9)

    await EntityRemedy(shop, ORDER, function(body)).apply(await seen(shop, 1, 2))
    day = "substr(updated_at, 1, 10)" if shop.kind == "sqlite" else "(updated_at AT TIME ZONE 'UTC')::date::text"
    found = await rows(shop, f"SELECT {day} FROM orders WHERE id < 3 ORDER BY id")
    assert found == [("2026-03-01",), ("2026-01-01",)]


async def test_column_that_cannot_travel_in_a_wave_is_written_all_the_same(fresh_postgres_url: str) -> None:
    """Arrays are written row by row, in the same transaction."""
    words = {"key": "bigint", "list": "text[]", "moment": "timestamptz"}

    async def body(ctx: Any, row: Any) -> Outcome:
        return Outcome.changed(tags=["a", str(row["id"])])

    async with opened(fresh_postgres_url, TABLE.format(**words), FILLED) as shop:
        outcomes = await EntityRemedy(shop, ORDER, function(body)).apply(await seen(shop, 1, 2))
        assert [one.touched for one in outcomes] == [1, 1]
        assert await rows(shop, "SELECT tags FROM orders WHERE id < 3 ORDER BY id") == [(["a", "1"],), (["a", "2"],)]


async def test_batch_gets_all_rows_at_once(shop: Database) -> None:
    """`per="batch"` calls once with every row; what it wants is written to each."""
    calls: list[Any] = []

    async def body(ctx: Any, found: Any) -> Outcome:
        calls.append((ctx.idempotency_key, [one["id"] for one in found]))
        return Outcome.changed(status="CANCELLED")

    remedy = EntityRemedy(shop, ORDER, function(body, per="batch"))
    outcomes = await remedy.apply(await seen(shop, 1, 2, 3))
    assert [one.touched for one in outcomes] == [1, 1, 1]
    assert [found for _, found in calls] == [[1, 2, 3]]
    assert await remedy.apply([]) == []


async def test_retry_enters_the_state_anew(shop: Database) -> None:
    """The ladder's own remedy moves the moment and nothing else, so that the workflow begins again."""
    remedy = EntityRemedy(shop, ORDER, retry_workflow(ORDER))
    (outcome,) = await remedy.apply(await seen(shop, 1))
    assert (outcome.touched, outcome.detail) == (1, "the workflow starts anew")
    assert await rows(shop, "SELECT id, status FROM orders WHERE updated_at > '2026-02-01'") == [(1, "ACCEPTED")]


async def test_function_that_is_not_reversible_is_not_undone(shop: Database) -> None:
    """Only what was declared reversible is put back; the words say where to declare it."""
    remedy = EntityRemedy(shop, ORDER, function(back_to_pending, reversible=False))
    await remedy.apply(await seen(shop, 1))
    assert "reversible=True" in (await remedy.undo("run-1")).refused["run-1"]


async def test_preview_calls_nothing(shop: Database) -> None:
    """A preview shows the row and does not call the function."""

    async def body(ctx: Any, row: Any) -> Outcome:
        raise AssertionError("called")

    (one,) = await seen(shop, 1)
    preview = await EntityRemedy(shop, ORDER, function(body)).preview(one.finding)
    assert preview.words.startswith("calls reassign_vendor for 1")
    assert preview.before[0]["status"] == "ACCEPTED"
    assert preview.after is None
