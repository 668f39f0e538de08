"""What a remedy changes or deletes is archived with the change, only where it is still as it was seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Connection, Table, and_, true

from prunella.core.errors import DatabaseRefused
from prunella.databases.archive import Archive, among
from prunella.databases.handle import Database
from users import opened, rows, run

pytestmark = pytest.mark.anyio

TABLE = "CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible boolean, note text)"
FILLED = "INSERT INTO products VALUES (1, 0, true, 'a'), (2, 0, true, NULL), (3, 5, true, 'c'), (4, 0, false, 'd')"


@pytest.fixture(params=["sqlite", "postgresql"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    """Return a shop with four products, once of each kind of database."""
    kind = request.param
    url = f"sqlite:///{tmp_path}/shop.db" if kind == "sqlite" else request.getfixturevalue("fresh_postgres_url")
    async with opened(url, TABLE, FILLED) as database:
        yield database


def chosen(database: Database, connection: Connection, name: str, keys: Any, still: Any) -> tuple[Table, Any]:
    """Return a table and the condition that its rows of these keys meet."""
    table = database.table(connection, name)
    return table, and_(among(table, keys), still(connection, table) if still else true())


def out_of_stock(connection: Connection, table: Table) -> ColumnElement[bool]:
    """Return what the check of these tests looks for."""
    return table.c.stock == 0


async def delete(database: Database, *keys: Any, run_id: str = "run-1", still: Any = None) -> list[str]:
    """Archive and delete products in one transaction."""
    archive = Archive(database)

    def work(connection: Connection) -> list[str]:
        archive.ready(connection)
        return archive.delete(connection, *chosen(database, connection, "products", keys, still), run_id=run_id)

    return sorted(await database.writing(work))


async def change(
    database: Database, *keys: Any, run_id: str = "run-1", values: Any = None, still: Any = None
) -> list[str]:
    """Archive and change products in one transaction."""
    archive, wanted = Archive(database), values or {"visible": False}

    def work(connection: Connection) -> list[str]:
        archive.ready(connection)
        table, where = chosen(database, connection, "products", keys, still)
        return archive.change(connection, table, where, wanted, run_id=run_id)

    return sorted(await database.writing(work))


async def archived(database: Database) -> list[tuple[Any, ...]]:
    """Return what stands in the archive."""
    table = "prunella_archive" if database.kind == "sqlite" else "prunella.archive"
    found = await rows(database, f"SELECT run_id, table_name, key, before, after FROM {table} ORDER BY id")
    return [(*one[:3], json.loads(one[3]), one[4] and json.loads(one[4])) for one in found]


async def test_delete_archives_what_it_deletes(shop: Database) -> None:
    """Every column of a deleted row stands in the archive, under the run and the key."""
    assert await delete(shop, 1, 2) == ["1", "2"]
    assert await rows(shop, "SELECT id FROM products ORDER BY id") == [(3,), (4,)]
    (first, second) = await archived(shop)
    assert first[:3] == ("run-1", "products", "1")
    assert set(first[3]) == {"id", "stock", "visible", "note"}
    assert (second[3]["note"], second[4]) == (None, None)


async def test_change_archives_both_images(shop: Database) -> None:
    """A changed row is archived with its key and the changed columns, before and after."""
    assert await change(shop, 1, 2, values={"stock": 9, "note": None}) == ["1", "2"]
    ((_, _, key, before, after), _) = await archived(shop)
    letters = ("i:", "t:") if shop.kind == "sqlite" else ("", "")
    assert key == "1"
    assert before == {"id": f"{letters[0]}1", "stock": f"{letters[0]}0", "note": f"{letters[1]}a"}
    assert after == {"id": f"{letters[0]}1", "stock": f"{letters[0]}9", "note": None}


@pytest.mark.parametrize("act", [delete, change])
async def test_row_that_changed_meanwhile_is_left_alone(shop: Database, act: Any) -> None:
    """A row that no longer is as the check saw it is neither changed nor archived."""
    await run(shop, "UPDATE products SET stock = 7 WHERE id = 1")
    assert await act(shop, 1, 2, 99, still=out_of_stock) == ["2"]
    assert [one[2] for one in await archived(shop)] == ["2"]
    assert await rows(shop, "SELECT stock, visible FROM products WHERE id = 1") == [(7, True)]


async def test_nothing_to_change_is_no_change(shop: Database) -> None:
    """An empty set of keys changes and archives nothing."""
    assert await change(shop) == []
    assert await delete(shop) == []
    assert await archived(shop) == []


async def test_transaction_that_fails_leaves_neither_change_nor_image(shop: Database) -> None:
    """What is rolled back is not in the archive, either; the archive itself is made anew the next time."""
    archive = Archive(shop)

    def work(connection: Connection) -> None:
        archive.ready(connection)
        archive.delete(connection, *chosen(shop, connection, "products", [1], None), run_id="run-1")
        raise RuntimeError("struck")

    with pytest.raises(RuntimeError, match="struck"):
        await shop.writing(work)
    assert len(await rows(shop, "SELECT id FROM products")) == 4
    assert await delete(shop, 1) == ["1"]
    assert len(await archived(shop)) == 1


async def test_key_of_several_columns_names_a_row(shop: Database) -> None:
    """A table whose key has two columns is changed and put back as any other."""
    await run(
        shop,
        "CREATE TABLE lines (basket text, number integer, amount integer, PRIMARY KEY (basket, number))",
        "INSERT INTO lines VALUES ('a', 1, 1), ('a', 2, 2), ('b', 1, 3)",
    )
    archive = Archive(shop)

    def work(connection: Connection) -> tuple[list[str], list[str]]:
        archive.ready(connection)
        lines = shop.table(connection, "lines")
        deleted = archive.delete(connection, lines, among(lines, [("a", 1)]), run_id="run-1")
        return deleted, archive.change(
            connection, lines, among(lines, [("a", 2), ("b", 9)]), {"amount": 7}, run_id="run-1"
        )

    deleted, changed = await shop.writing(work)
    assert [json.loads(one) for one in (*deleted, *changed)] in ([["a", "1"], ["a", "2"]], [["a", 1], ["a", 2]])
    restored = await shop.writing(lambda connection: archive.undo(connection, "run-1"))
    assert (restored.rows, restored.refused) == (2, {})
    assert await rows(shop, "SELECT * FROM lines ORDER BY 1, 2") == [("a", 1, 1), ("a", 2, 2), ("b", 1, 3)]


async def test_table_without_a_key_is_refused(shop: Database) -> None:
    """Rows that nobody can name are not changed; the words say what to do."""
    await run(shop, "CREATE TABLE heap (a integer)")
    archive = Archive(shop)
    with pytest.raises(DatabaseRefused, match="table heap: it has no primary key"):
        await shop.writing(
            lambda connection: archive.delete(connection, shop.table(connection, "heap"), true(), run_id="r")
        )


async def test_key_itself_is_not_changed(shop: Database) -> None:
    """A remedy that would change the primary key is refused: its rows could not be found again."""
    with pytest.raises(DatabaseRefused, match="does not change the primary key"):
        await change(shop, 1, values={"id": 7})


async def test_role_that_may_not_make_the_archive_is_told_the_next_step(fresh_postgres_url: str) -> None:
    """Without an archive nothing is changed; the words name the command that prints the grants."""
    async with opened(
        fresh_postgres_url, TABLE, FILLED, "CREATE ROLE narrow", "GRANT ALL ON products TO narrow"
    ) as shop:
        archive = Archive(shop)

        def work(connection: Connection) -> None:
            connection.exec_driver_sql("SET LOCAL ROLE narrow")
            archive.ready(connection)

        try:
            with pytest.raises(DatabaseRefused, match="prunella db grant --print"):
                await shop.writing(work)
        finally:
            await run(shop, "DROP OWNED BY narrow", "DROP ROLE narrow")


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
async def test_row_that_takes_others_with_it_is_left_alone(fresh_postgres_url: str, action: str) -> None:
    """Rows that a deletion would delete or change elsewhere would be in no archive, so that it does not happen."""
    child = f"CREATE TABLE parts (id integer PRIMARY KEY, product integer REFERENCES products ON DELETE {action})"
    async with opened(fresh_postgres_url, TABLE, FILLED, child, "INSERT INTO parts VALUES (1, 2)") as shop:
        assert await delete(shop, 1, 2) == ["1"]
        assert await rows(shop, "SELECT * FROM parts") == [(1, 2)]


async def test_archive_is_made_by_many_at_once(fresh_postgres_url: str) -> None:
    """Workers that all find the archive missing make it once, and none of them fails."""
    async with opened(fresh_postgres_url, TABLE, FILLED) as shop, opened(fresh_postgres_url) as other:
        results = await asyncio.gather(
            *(delete(one, key) for one, key in zip((shop, other) * 2, (1, 2, 3, 4), strict=True))
        )
        assert results == [["1"], ["2"], ["3"], ["4"]]


async def test_archive_holds_a_column_that_is_younger_than_the_last_look(shop: Database) -> None:
    """What a migration added while prunella runs goes into the archive, or undo would bring back half a row."""
    assert await delete(shop, 1) == ["1"]
    await run(shop, "ALTER TABLE products ADD COLUMN secret text", "UPDATE products SET secret = 'precious'")
    assert await delete(shop, 2) == ["2"]
    assert "precious" in (await archived(shop))[1][3]["secret"]


async def test_delete_sees_a_follower_that_is_younger_than_the_last_delete(shop: Database) -> None:
    """A table that refers to this one since a migration is asked, too."""
    archive = Archive(shop)

    def deleted(key: int) -> Any:
        def work(connection: Connection) -> list[str]:
            archive.ready(connection)
            return archive.delete(connection, *chosen(shop, connection, "products", [key], None), run_id="run")

        return work

    assert await shop.writing(deleted(1)) == ["1"]
    await run(
        shop,
        "CREATE TABLE notes (id integer PRIMARY KEY, product integer REFERENCES products ON DELETE CASCADE)",
        "INSERT INTO notes VALUES (1, 2)",
    )
    assert await shop.writing(deleted(2)) == []
    assert await rows(shop, "SELECT * FROM notes") == [(1, 2)]


async def test_delete_obeys_a_foreign_key(shop: Database) -> None:
    """A row that others refer to stays, on SQLite too, which has to be told that its foreign keys count."""
    await run(
        shop,
        "CREATE TABLE notes (id integer PRIMARY KEY, product integer REFERENCES products)",
        "INSERT INTO notes VALUES (1, 2)",
    )
    with pytest.raises(DatabaseRefused, match=r"(?i)foreign key"):
        await delete(shop, 1, 2)
    assert await rows(shop, "SELECT count(*) FROM products") == [(4,)]
    assert await delete(shop, 1) == ["1"]
    assert [one[2] for one in await archived(shop)] == ["1"]


async def test_delete_that_a_trigger_keeps_from_happening_is_not_archived(shop: Database) -> None:
    """What stands in the archive is gone from the table, whatever triggers do."""
    if shop.kind == "sqlite":
        keeping = ("CREATE TRIGGER kept BEFORE DELETE ON products WHEN OLD.id = 2 BEGIN SELECT RAISE(IGNORE); END",)
        await run(shop, *keeping)
        with pytest.raises(DatabaseRefused, match="a trigger of the table keeps rows from being deleted"):
            await delete(shop, 1, 2)
        assert await delete(shop, 1) == ["1"]
    else:
        await run(
            shop,
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER kept BEFORE DELETE ON products FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION keep()",
        )
        assert await delete(shop, 1, 2) == ["1"]
    assert [one[2] for one in await archived(shop)] == ["1"]
    assert await rows(shop, "SELECT id FROM products ORDER BY id") == [(2,), (3,), (4,)]


async def test_tables_that_others_inherit_from_are_not_touched(fresh_postgres_url: str) -> None:
    """The rows of a heir have columns that this table doesn't know, and keys that may stand twice; partitions are no heirs."""
    heirs = (
        "CREATE TABLE heirs (secret text) INHERITS (products)",
        "INSERT INTO heirs VALUES (1, 0, true, 'a', 'precious')",
    )
    parts = (
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF parts DEFAULT",
        "INSERT INTO parts VALUES (1), (2)",
    )
    async with opened(fresh_postgres_url, TABLE, FILLED, *heirs, *parts) as shop:
        for way in (delete, change):
            with pytest.raises(DatabaseRefused, match="table products: other tables inherit from it"):
                await way(shop, 1)
        archive = Archive(shop)

        def work(connection: Connection) -> list[str]:
            archive.ready(connection)
            return archive.delete(connection, *chosen(shop, connection, "parts", [1], None), run_id="run")

        assert await shop.writing(work) == ["1"]
        assert await rows(shop, "SELECT secret FROM heirs") == [("precious",)]
