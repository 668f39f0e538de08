"""What `where` means, on both databases, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from databases.shop import Shop
from prunella.core.errors import DatabaseRefused
from prunella.databases import conditions
from prunella.databases.moments import Moments

pytestmark = pytest.mark.anyio


async def keys(shop: Shop, where: dict[str, Any]) -> list[int]:
    """Return the keys of the rows that a condition holds for."""
    handle = shop.handle()

    def look(connection: Connection) -> list[int]:
        table = handle.table(connection, "t")
        return list(
            connection.execute(
                select(table.c.id).where(conditions.matching(table, where)).order_by(table.c.id)
            ).scalars()
        )

    return await handle.reading(look)


@pytest.fixture
def rows(shop: Shop) -> Shop:
    """Fill a table with numbers, words, truths and nothing."""
    true, false = ("true", "false") if shop.kind == "postgresql" else ("1", "0")
    shop.run(
        "CREATE TABLE t (id integer PRIMARY KEY, n integer, price numeric, word text, seen boolean)",
        f"INSERT INTO t VALUES (1, 0, 0.1, 'a', {true}), (2, 1, 0.2, 'b', {false}), (3, NULL, NULL, NULL, NULL), (4, 2, 0.3, 'it''s', {true})",
    )
    return shop


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"n": 0}, [1]),
        ({"n": 0, "seen": True}, [1]),
        ({"n": 0, "seen": False}, []),
        ({"seen": True}, [1, 4]),
        ({"n": None}, [3]),
        ({"n": [0, 2]}, [1, 4]),
        ({"n": [0, None]}, [1, 3]),
        ({"n": []}, []),
        ({"word": "it's"}, [4]),
        ({"word": "a' OR 1 = 1 --"}, []),
        ({"price": 0.1}, [1]),
        ({"price": {"gt": 0.1, "le": 0.3}}, [2, 4]),
        ({"n": {"lt": 1}}, [1]),
        ({"n": {"ge": 1}}, [2, 4]),
        ({"n": {"ne": 1}}, [1, 4]),
        ({"n": {"ne": None}}, [1, 2, 4]),
        ({"n": {"eq": None}}, [3]),
        ({"word": {"in": ["a", "b"]}}, [1, 2]),
        ({"word": {"not_in": ["a", "b"]}}, [4]),
        ({"word": {"not_in": ["a", None]}}, [2, 4]),
    ],
)
async def test_conditions_hold_for_the_rows_they_say(rows: Shop, where: dict[str, Any], expected: list[int]) -> None:
    """NULL is equal to nothing and outside of no list; a list that is empty matches nothing; words stay words."""
    assert await keys(rows, where) == expected


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"m": 1}, "table t has no column 'm'"),
        ({"n": {"like": "%"}}, "'like' is no operator"),
        ({"n": {"in": 5}}, "in needs a list"),
        ({"n": {"not_in": []}}, "not_in needs a list"),
        ({"n": {"lt": None}}, "lt: null holds for no row"),
        ({"n": {"lt": [1]}}, "needs one value"),
        ({"n": {}}, "is empty"),
    ],
)
async def test_conditions_refuse_what_they_do_not_know(rows: Shop, where: dict[str, Any], said: str) -> None:
    """Nothing that is misspelt is left out silently."""
    with pytest.raises(DatabaseRefused, match=said.replace("(", r"\(")):
        await keys(rows, where)


async def test_conditions_compare_words_with_every_type_of_postgresql(pg_shop: Shop) -> None:
    """A text of the configuration is read by the column's own type, as a literal is."""
    pg_shop.run(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN sku AS text;"
        "CREATE TABLE t (id uuid PRIMARY KEY, m mood, s sku, d date, i inet, c char(8))",
        "INSERT INTO t VALUES ('8d6cd7a4-6f5c-4c6c-9a52-000000000001', 'glad', 'x', '2026-01-31', '10.0.0.1', 'ab')",
    )
    where = {
        "id": "8d6cd7a4-6f5c-4c6c-9a52-000000000001",
        "m": ["glad"],
        "s": "x",
        "d": {"le": "2026-01-31"},
        "i": "10.0.0.1",
        "c": "ab",
    }
    assert len(await keys(pg_shop, where)) == 1


def test_conditions_in_words_show_no_secret() -> None:
    """People read the condition; a secret in it and an endless list are cut."""
    assert conditions.words({"n": 0, "seen": True, "gone": None, "k": {"ge": 2}}, {"at": 60.0}) == (
        "n = 0 and seen = true and gone is NULL and k >= 2 and at older than 1 min"
    )
    assert conditions.words({}) == "all rows"
    assert (
        conditions.words({"a": {"ne": None}, "b": {"eq": None}, "c": {"ne": 1}})
        == "a is not NULL and b is NULL and c <> 1"
    )
    ages = {"a": 2_592_000.0, "b": 21_600.0, "c": 90.0, "d": 0.0}
    assert (
        conditions.words({}, ages)
        == "a older than 30 d and b older than 6 h and c older than 90 s and d older than 0 s"
    )
    assert conditions.words({"n": list(range(9))}) == "n in (0, 1, 2, 3, 4, …)"
    assert "sk_live" not in conditions.words({"word": "sk_live_abcdefghijklmnop1234567890"})


async def test_conditions_shown_as_sql_can_be_read(rows: Shop) -> None:
    """The statement is shown with its values in place."""
    handle = rows.handle()

    def show(connection: Connection) -> str:
        table = handle.table(connection, "t")
        statement = (
            update(table)
            .values(word=conditions.as_value("100% it's"))
            .where(conditions.matching(table, {"n": [0, 1], "seen": None}))
        )
        return " ".join(conditions.shown(statement, rows.kind).split())

    shown = await handle.reading(show)
    assert (
        shown == "UPDATE t SET word='100% it''s' WHERE true AND (false OR t.n IN (0, 1)) AND t.seen IS NULL"
        or shown.startswith("UPDATE t SET word='100% it''s' WHERE ")
    )
    assert "t.n IN (0, 1)" in shown


async def test_statements_show_time_as_people_read_it(shop: Shop) -> None:
    """What a look at texts of time takes on SQLite is nobody's to read: one line, one comparison, no function of ours."""
    spelled = "timestamptz" if shop.kind == "postgresql" else "timestamp"
    moment = "'2026-01-01 10:00:00+00:00'"
    shop.run(f"CREATE TABLE t (id integer PRIMARY KEY, at {spelled})", f"INSERT INTO t VALUES (1, {moment})")
    handle = shop.handle()

    def look(connection: Connection) -> tuple[str, list[int]]:
        table = handle.table(connection, "t")
        moments = Moments(handle, connection)
        old = select(table.c.id).where(moments.older_than(table.c["at"], 60), moments.older_than(table.c["at"], 30))
        return conditions.shown(old, shop.kind), list(connection.execute(old).scalars())

    said, found = await handle.reading(look)
    assert found == [1]
    assert "prunella_" not in said and "\n" not in said
    assert said.count("t.at < '20") == 2
