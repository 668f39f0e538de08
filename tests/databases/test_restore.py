"""A run is put back byte for byte where nothing stands against it, and says for each other row what does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, make_url

from databases.test_archive import TABLE, change, delete, shop
from prunella.core.errors import DatabaseRefused
from prunella.databases.archive import Archive
from prunella.databases.handle import Database
from prunella.databases.restore import Restored
from users import opened, rows, run

pytestmark = pytest.mark.anyio
__all__ = ["shop"]

ALL_OF_POSTGRES = (
    "CREATE EXTENSION citext",
    "CREATE TYPE mood AS ENUM ('sad', 'it''s fine')",
    "CREATE TYPE place AS (street text, number integer, point double precision)",
    "CREATE DOMAIN positive AS integer CHECK (value > 0)",
    """CREATE TABLE products (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        "odd ""name"" 100% :x" text,
        j json, jb jsonb, raw bytea, n numeric, n2 numeric(20, 6), f double precision, r real, b boolean,
        ts timestamptz, naive timestamp, d date, t time, tz timetz, i interval, c char(7), vc varchar(9), free bpchar,
        texts text[], numbers integer[][], m mood, moods mood[], p place, ps place[], u uuid, ip inet, net cidr,
        bits bit varying(9), range int4range, spans tstzmultirange, money money, pos positive, ci citext,
        vector tsvector, box box, doubled numeric GENERATED ALWAYS AS (n * 2) STORED, big bigint, small smallint
    )""",
    r"""INSERT INTO products ("odd ""name"" 100% :x", j, jb, raw, n, n2, f, r, b, ts, naive, d, t, tz, i, c, vc, free,
        texts, numbers, m, moods, p, ps, u, ip, net, bits, range, spans, money, pos, ci, vector, box, big, small)
    VALUES ('a "b" \ ü 🌿
 c', '{"b":1,  "a":1.50, "a":null}', 'null', '\x00ff5c27', 'NaN', 1.500000, 'NaN', 'Infinity', true,
        'infinity', '-infinity', '4713-01-01 BC', '24:00', '12:00:00.123456+05:30', '1 year -2 mons 3.000001 secs', 'ab  ', 'x ',
        'free  ', '{"",NULL,"NULL","a,b","\"q\""}', '[2:3][1:2]={{1,2},{3,NULL}}', 'it''s fine', '{sad}',
        ROW('x, "y"', NULL, 'NaN'), ARRAY[ROW(NULL, 1, 0.1)::place], '00000000-0000-0000-0000-00000000000a',
        '10.1.2.3/24', '10.1.0.0/16', B'0101', '[1,5)', '{[2026-01-01 00:00+00,2026-01-02 00:00+00)}', '12.34', 5,
        'CiText', 'a:1A fat:2', '(1,1),(0,0)', 9223372036854775807, -32768),
    (NULL, NULL, NULL, NULL, 1.50, NULL, 0.1, 1e-44, NULL, '2026-03-29 02:30:00.000001+02', NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, '', '{}', '{}', NULL, '{}', NULL, '{}', NULL, NULL, NULL, '', 'empty', '{}', NULL, NULL, '', '',
        NULL, 0, 0)""",
    "ALTER TABLE products ADD CONSTRAINT odd UNIQUE (big)",
)
ALL_OF_SQLITE = (
    """CREATE TABLE products (id integer PRIMARY KEY, "odd ""name"" 100% :x" text, t text, b blob, r real, n numeric, i integer,
        free, dated timestamp, flag boolean, doubled integer GENERATED ALWAYS AS (id * 2) STORED)""",
    """INSERT INTO products (id, "odd ""name"" 100% :x", t, b, r, n, i, free, dated, flag) VALUES
        (1, 'a "b" \\ ü 🌿', CAST(x'610062' AS TEXT), x'00ff', 9e999, 1.5, 9223372036854775807, 'x', '2026-01-01', true),
        (2, CAST(x'fffe61' AS TEXT), '', x'', -0.0, 12345678901234567890, -9223372036854775808, x'00', 17, NULL),
        (3, NULL, NULL, NULL, 0.1, '1e400x', 'no number', 5e-324, 'no date', 'maybe')""",
)
DUMP_POSTGRES = "SELECT id, products::text, n::text, free || '|' FROM products ORDER BY id"
DUMP_SQLITE = """SELECT id, typeof(t), hex(t), typeof(b), hex(b), typeof(r), quote(r), typeof(n), quote(n), typeof(i), quote(i),
    typeof(free), quote(free), typeof(dated), quote(dated), typeof(flag), quote(flag), doubled,
    hex("odd ""name"" 100% :x") FROM products ORDER BY id"""


async def undo(database: Database, run_id: str = "run-1") -> Restored:
    """Put a run back."""
    archive = Archive(database)
    return await database.writing(lambda connection: archive.undo(connection, run_id))


async def test_every_type_of_postgres_comes_back_byte_for_byte(fresh_postgres_url: str) -> None:
    """Deleted and changed rows are the same text afterwards, whatever the role's own settings are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy names the types that it does not know
        async with opened(fresh_postgres_url, *ALL_OF_POSTGRES) as database:
            before = await rows(database, DUMP_POSTGRES)
            assert await delete(database, 1, 2) == ["1", "2"]
            await run(
                database,
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = ''SQL, DMY''', current_database()); END $$",
            )
            assert await undo(database) == Restored(2)
            assert await rows(database, DUMP_POSTGRES) == before
            everything = {"jb": None, "raw": b"", "f": 1.0, "c": "", "free": "", "numbers": [1], "ts": None, "p": None}
            assert await change(database, 1, 2, run_id="run-2", values=everything) == ["1", "2"]
            assert await rows(database, DUMP_POSTGRES) != before
            assert await undo(database, "run-2") == Restored(2)
            assert await rows(database, DUMP_POSTGRES) == before


async def test_every_value_of_sqlite_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """Storage class and bytes of every value are the same afterwards, texts with NUL and broken texts included."""
    async with opened(f"sqlite:///{tmp_path}/shop.db", *ALL_OF_SQLITE) as database:
        before = await rows(database, DUMP_SQLITE)
        assert await delete(database, 1, 2, 3) == ["1", "2", "3"]
        assert await undo(database) == Restored(3)
        assert await rows(database, DUMP_SQLITE) == before
        everything = {"t": "x", "b": b"y", "r": 1.0, "n": 2, "i": 3, "free": None}
        assert await change(database, 1, 2, 3, run_id="run-2", values=everything) == ["1", "2", "3"]
        assert await rows(database, DUMP_SQLITE) != before
        assert await undo(database, "run-2") == Restored(3)
        assert await rows(database, DUMP_SQLITE) == before


async def test_row_that_was_changed_since_is_left_alone(shop: Database) -> None:
    """Where somebody changed what the run had changed, theirs stays; the other rows are put back."""
    await change(shop, 1, 2, 3, values={"visible": False, "note": "hidden"})
    await run(shop, "UPDATE products SET note = 'mine' WHERE id = 1", "DELETE FROM products WHERE id = 2")
    restored = await undo(shop)
    assert restored.rows == 1
    assert restored.refused == {"1": "changed since the run: note", "2": "the row is gone"}
    found = await rows(shop, "SELECT id, visible, note FROM products WHERE id IN (1, 3) ORDER BY id")
    assert found == [(1, False, "mine"), (3, True, "c")]


async def test_change_of_other_columns_does_not_stand_against_an_undo(shop: Database) -> None:
    """Only the columns that the run changed must still be as it left them, and only they are put back."""
    await change(shop, 1)
    await run(shop, "UPDATE products SET note = 'mine' WHERE id = 1")
    assert await undo(shop) == Restored(1)
    assert await rows(shop, "SELECT visible, note FROM products WHERE id = 1") == [(True, "mine")]


async def test_row_that_is_there_again_is_left_alone(shop: Database) -> None:
    """A deleted row whose key is taken again is refused with the reason; the others come back."""
    await delete(shop, 1, 2, 4)
    await run(shop, "INSERT INTO products (id, note) VALUES (2, 'new')")
    restored = await undo(shop)
    assert (restored.rows, list(restored.refused)) == (2, ["2"])
    assert "is there again" in restored.refused["2"]
    assert await rows(shop, "SELECT id, note FROM products ORDER BY id") == [(1, "a"), (2, "new"), (3, "c"), (4, "d")]


async def test_second_undo_refuses(shop: Database) -> None:
    """What was put back is not put back again; a run that changed nothing is named."""
    await delete(shop, 1)
    assert await undo(shop) == Restored(1)
    await run(shop, "DELETE FROM products WHERE id = 1")
    again = await undo(shop)
    assert again.rows == 0
    assert "put back already" in again.refused["1"]
    with pytest.raises(DatabaseRefused, match="the archive holds nothing of run run-9"):
        await undo(shop, "run-9")


async def test_row_whose_column_is_gone_is_refused(shop: Database) -> None:
    """A row that can't come back whole does not come back; the words name the column."""
    await delete(shop, 1)
    await run(shop, "ALTER TABLE products DROP COLUMN note")
    assert (await undo(shop)).refused == {"1": "column note is gone from table products"}


async def test_column_that_was_added_since_is_no_obstacle(shop: Database) -> None:
    """A new column takes its default; a new column that must have a value and has no default is the reason."""
    await delete(shop, 1)
    await run(shop, "ALTER TABLE products ADD COLUMN colour text NOT NULL DEFAULT 'red'")
    assert await undo(shop) == Restored(1)
    assert await rows(shop, "SELECT note, colour FROM products WHERE id = 1") == [("a", "red")]


async def test_table_that_is_gone_is_the_reason(shop: Database) -> None:
    """Where the whole table is gone each row says so."""
    await delete(shop, 1, 2)
    await run(shop, "DROP TABLE products")
    restored = await undo(shop)
    assert restored.rows == 0
    assert all("there is no table 'products'" in one for one in restored.refused.values())


async def test_row_whose_parent_is_missing_is_refused(fresh_postgres_url: str) -> None:
    """A foreign key decides per row, a deferred one included; the rest of the run comes back."""
    async with opened(
        fresh_postgres_url,
        "CREATE TABLE parents (id integer PRIMARY KEY)",
        "CREATE TABLE products (id integer PRIMARY KEY, parent integer REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO parents VALUES (1), (2)",
        "INSERT INTO products SELECT n, 1 + n % 2 FROM generate_series(1, 20) n",
    ) as shop:
        assert len(await delete(shop, *range(1, 21))) == 20
        await run(shop, "DELETE FROM parents WHERE id = 2")
        restored = await undo(shop)
        assert restored.rows == 10
        assert set(restored.refused) == {str(n) for n in range(1, 21, 2)}
        assert all(one.startswith("its parent is missing") for one in restored.refused.values())


async def test_trigger_that_changes_a_row_on_its_way_back_is_the_reason(fresh_postgres_url: str) -> None:
    """What would come back altered does not come back."""
    async with opened(
        fresh_postgres_url,
        "CREATE TABLE products (id integer PRIMARY KEY, note text)",
        "INSERT INTO products VALUES (1, 'a'), (2, 'b')",
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := upper(NEW.note); RETURN NEW; END'",
    ) as shop:
        await delete(shop, 1, 2)
        await run(
            shop, "CREATE TRIGGER t BEFORE INSERT ON products FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION shout()"
        )
        restored = await undo(shop)
        assert (restored.rows, restored.refused) == (
            1,
            {"1": "a trigger of the table changed it while it was put back"},
        )


async def test_row_changed_twice_by_a_run_goes_all_the_way_back(shop: Database) -> None:
    """The last change is undone first, so that the first state is what remains."""
    await change(shop, 1, values={"note": "one"})
    await change(shop, 1, 2, values={"note": "two"})
    await delete(shop, 1)
    assert await undo(shop) == Restored(4)
    assert await rows(shop, "SELECT note FROM products WHERE id < 3 ORDER BY id") == [("a",), (None,)]


async def test_many_rows_come_back(shop: Database) -> None:
    """More rows than one statement takes come back as well."""
    some: list[Any] = list(range(10, 1310))
    await run(shop, "INSERT INTO products (id, stock) VALUES " + ", ".join(f"({n}, 0)" for n in some))

    def numbers(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT count(*) FROM products").scalar_one())

    assert len(await delete(shop, *some)) == 1300
    assert await undo(shop) == Restored(1300)
    assert await shop.reading(numbers) == 1304


async def test_undo_reads_moments_in_whatever_zone_it_is_asked_from(fresh_postgres_url: str) -> None:
    """A role whose time zone was changed since the run still sees that its rows are as the run left them."""

    def in_zone(zone: str) -> str:
        address = make_url(fresh_postgres_url).update_query_dict({"options": f"-c TimeZone={zone}"})
        return address.render_as_string(hide_password=False)

    table = "CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible boolean, at timestamptz, ats timestamptz[])"
    filled = "INSERT INTO products VALUES (1, 0, true, '2026-10-25 00:30:00.5+00', '{2026-03-29 01:00+00}')"
    dump = "SELECT products::text FROM products"
    async with opened(in_zone("UTC"), table, filled) as shop:
        before = await rows(shop, dump)
        assert await change(shop, 1, values={"at": func.now(), "visible": False}) == ["1"]
    async with opened(in_zone("America/New_York")) as elsewhere:
        assert await undo(elsewhere) == Restored(rows=1)
    async with opened(in_zone("UTC")) as shop:
        assert await rows(shop, dump) == before


async def test_undo_of_a_change_that_a_trigger_spoils_is_refused_as_a_whole(shop: Database) -> None:
    """What comes back is the row as it was, or nothing and the reason; the other rows come back."""
    assert await change(shop, 1, 2) == ["1", "2"]
    if shop.kind == "postgresql":
        await run(
            shop,
            "CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.visible = false; RETURN NEW; END'",
            "CREATE TRIGGER hiding BEFORE UPDATE ON products FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION hide()",
        )
    else:
        await run(
            shop,
            "CREATE TRIGGER hiding AFTER UPDATE ON products WHEN NEW.id = 2 "
            "BEGIN UPDATE products SET visible = false WHERE id = NEW.id; END",
        )
    restored = await undo(shop)
    assert restored == Restored(rows=1, refused={"2": "a trigger of the table changed it while it was put back"})


@pytest.mark.parametrize(
    ("how", "why"),
    [("changed since", "changed since the run: visible"), ("taken number", "a row with its key is there again")],
)
async def test_undo_of_many_rows_that_can_not_come_back_occupies_nothing(
    fresh_postgres_url: str, how: str, why: str
) -> None:
    """Thousands of refusals leave no savepoint behind, of which a server holds so many before all its locks are gone."""
    numbers = "generate_series(11, 8010) AS n"
    async with opened(fresh_postgres_url, TABLE, f"INSERT INTO products SELECT n, 0, true FROM {numbers}") as shop:
        if how == "changed since":
            assert len(await change(shop, *range(11, 8011))) == 8000
            await run(shop, "UPDATE products SET visible = true")
        else:
            assert len(await delete(shop, *range(11, 8011))) == 8000
            await run(shop, f"INSERT INTO products SELECT n, 1, true FROM {numbers}")
        restored = await undo(shop)
        assert (restored.rows, len(restored.refused)) == (0, 8000)
        assert set(restored.refused.values()) == {why}


async def test_undo_finds_the_one_row_among_many_that_the_database_refuses(shop: Database) -> None:
    """A value that is taken keeps back its row and no other."""
    numbers = "(WITH RECURSIVE n(n) AS (SELECT 11 UNION ALL SELECT n + 1 FROM n WHERE n < 210) SELECT n FROM n)"
    await run(
        shop,
        f"INSERT INTO products SELECT n, 0, true, 'note ' || n FROM {numbers} AS n",
        "CREATE UNIQUE INDEX unlike ON products (note)",
    )
    await delete(shop, *range(11, 211))
    await run(shop, "INSERT INTO products VALUES (-1, 0, true, 'note 77')")
    restored = await undo(shop)
    assert (restored.rows, list(restored.refused)) == (199, ["77"])
    assert "unique" in restored.refused["77"]
