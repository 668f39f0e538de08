"""Stuck entities: strictly too long in a state, by the database's clock, oldest first, never more than the cap."""

from __future__ import annotations

import pytest

from databases.shop import Shop
from prunella.checks.stuck import Stuck
from prunella.core.procedures import Entity, StuckRule
from prunella.core.states import StateMachine

pytestmark = pytest.mark.anyio

ORDER = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine({"PENDING": ["CONFIRMED"], "CONFIRMED": ["DONE"]}),
    stuck={
        "PENDING": StuckRule(after_s=1800, remedy="reassign_vendor"),
        "CONFIRMED": StuckRule(after_s=3600, remedy="retry_workflow"),
    },
)


def orders(shop: Shop, *rows: tuple[int, str, float]) -> None:
    """Make the table and put in orders of (id, status, age in seconds)."""
    shop.run("CREATE TABLE orders (id integer PRIMARY KEY, status varchar(20), updated_at MOMENT, note text)")
    for key, status, age in rows:
        shop.run(f"INSERT INTO orders VALUES ({key}, '{status}', {shop.past(age)}, 'n')")


async def test_stuck_orders_are_found_oldest_first_with_their_rule(shop: Shop) -> None:
    """Each comes with its minutes, its state and its rule's remedy; who is within the threshold is left alone."""
    orders(
        shop,
        (1, "PENDING", 2700),
        (2, "CONFIRMED", 7200),
        (3, "PENDING", 1700),
        (4, "DONE", 90000),
        (5, "CONFIRMED", 2000),
    )
    seen = await Stuck(shop.handle(), ORDER).look()
    assert [(one.key, one.issue, one.remedy) for one in seen.findings] == [
        ("2", "STUCK_CONFIRMED", "retry_workflow"),
        ("1", "STUCK_PENDING", "reassign_vendor"),
    ]
    assert seen.findings[1].facts == {"stuck_minutes": 45, "status": "PENDING"}
    assert dict(seen.findings[1].row or {}).keys() == {"id", "status", "updated_at", "note"}
    assert (seen.count, seen.active, seen.blind) == (2, 4, None)


async def test_stuck_is_strictly_longer_and_minutes_are_rounded_down(shop: Shop) -> None:
    """29:58 is not stuck, 30:59 is stuck for 30 minutes."""
    orders(shop, (1, "PENDING", 1798), (2, "PENDING", 1859))
    seen = await Stuck(shop.handle(), ORDER).look()
    assert [(one.key, one.facts["stuck_minutes"]) for one in seen.findings] == [("2", 30)]


async def test_stuck_looks_at_one_order(shop: Shop) -> None:
    """A look at one key sees that order if it is still stuck, and nothing else."""
    orders(shop, (1, "PENDING", 2700), (2, "PENDING", 2700), (3, "PENDING", 10))
    check = Stuck(shop.handle(), ORDER)
    assert [[one.key for one in (await check.look(only)).findings] for only in ("1", "3", "77")] == [["1"], [], []]


@pytest.mark.parametrize(
    "only", ["", "abc", "1; DROP", "1.0", "9" * 30, "9999999999", "\0", "\ud800", "\\xzz", "NULL", "１"]
)
async def test_stuck_looks_for_keys_that_no_order_can_have(shop: Shop, only: str) -> None:
    """A key comes from an address: what is none finds nothing, and breaks nothing."""
    orders(shop, (1, "PENDING", 2700))
    assert (await Stuck(shop.handle(), ORDER).look(only)).findings == ()


@pytest.mark.parametrize("sort", ["uuid", "text", "bytea", "numeric", "char(40)"])
async def test_stuck_finds_again_by_the_key_it_named(shop: Shop, sort: str) -> None:
    """Whatever the key's type, the finding's key leads back to its row."""
    value = {"bytea": "\\x00ff" if shop.kind == "postgresql" else "", "numeric": "1.50"}.get(
        sort, "8d6cd7a4-6f5c-4c6c-9a52-000000000001"
    )
    shop.run(f"CREATE TABLE orders (id {sort} PRIMARY KEY, status char(12), updated_at MOMENT)")
    written = f"'{value}'" if value else "x'00ff'"
    shop.run(f"INSERT INTO orders VALUES ({written}, 'PENDING', {shop.past(2700)})")
    check = Stuck(shop.handle(), ORDER)
    (found,) = (await check.look()).findings
    assert [one.row for one in (await check.look(found.key)).findings] == [found.row]


async def test_stuck_never_names_more_than_the_cap(shop: Shop) -> None:
    """The oldest are named, all are counted, and of the active ones as many as the storm guard needs."""
    orders(shop, *((number, "PENDING" if number % 2 else "CONFIRMED", 5000 + number) for number in range(1, 31)))
    shop.run(f"INSERT INTO orders SELECT id + 100, 'PENDING', {shop.past(5)}, 'n' FROM orders")
    seen = await Stuck(shop.handle(), ORDER, cap=5).look()
    assert [one.key for one in seen.findings] == ["30", "29", "28", "27", "26"]
    assert (seen.count, seen.active) == (30, 60)


async def test_stuck_with_nothing_stuck_finds_nothing(shop: Shop) -> None:
    """An empty table is an empty sighting, not an error."""
    orders(shop)
    seen = await Stuck(shop.handle(), ORDER).look()
    assert (seen.findings, seen.count) == ((), 0)
