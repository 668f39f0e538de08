"""Orphans: the parent does not exist, certainly and for a while; a NULL reference is none."""

from __future__ import annotations

import pytest

from databases.shop import Shop
from prunella.checks.orphans import Orphans
from prunella.core.procedures import OrphansCheck

pytestmark = pytest.mark.anyio

SPEC = OrphansCheck(
    child="messages", column="conversation_id", parent="conversations", older_than={"created_at": 600.0}
)


def messages(shop: Shop) -> None:
    """Make conversations 1 and 2 and messages: with parent, without, without reference, without and young."""
    shop.run(
        "CREATE TABLE conversations (id integer PRIMARY KEY)",
        "CREATE TABLE messages (id integer PRIMARY KEY, conversation_id integer, created_at MOMENT)",
        "INSERT INTO conversations VALUES (1), (2)",
    )
    for key, parent, age in ((1, "1", 9000), (2, "7", 9000), (3, "NULL", 9000), (4, "8", 5), (5, "9", 700)):
        shop.run(f"INSERT INTO messages VALUES ({key}, {parent}, {shop.past(age)})")


async def test_orphans_are_old_rows_whose_parent_is_missing(shop: Shop) -> None:
    """The young one may get its parent yet, and the one without a reference has no parent to miss."""
    messages(shop)
    (found,) = (await Orphans(shop.handle(), SPEC).look()).findings
    assert (found.key, found.keys, found.count, found.total) == ("messages", (2, 5), 2, 5)


async def test_orphans_of_a_table_within_itself(shop: Shop) -> None:
    """A tree of categories is a child of itself."""
    shop.run(
        "CREATE TABLE tree (id integer PRIMARY KEY, up integer)", "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 9)"
    )
    (found,) = (await Orphans(shop.handle(), OrphansCheck(child="tree", column="up", parent="tree")).look()).findings
    assert found.keys == (3,)


async def test_orphans_whose_parent_came_are_no_finding(shop: Shop) -> None:
    """The look after the parent's commit sees none."""
    messages(shop)
    shop.run("INSERT INTO conversations VALUES (7), (9)")
    assert (await Orphans(shop.handle(), SPEC).look("messages")).findings == ()


async def test_orphans_are_not_believed_where_parents_may_be_hidden(pg_shop: Shop) -> None:
    """A policy that shows some parents makes every other child look like an orphan: the look is blind, and says so."""
    messages(pg_shop)
    url = pg_shop.role("reader", "GRANT SELECT ON conversations, messages TO {role}")
    pg_shop.run(
        "ALTER TABLE conversations ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY first ON conversations FOR SELECT USING (id = 1)",
    )
    seen = await Orphans(pg_shop.handle(url=url), SPEC).look()
    assert seen.findings == ()
    assert "hidden parents look like missing ones" in (seen.blind or "")
