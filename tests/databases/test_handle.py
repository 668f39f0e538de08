"""The handle: short transactions with limits, exact names, and the database's own clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, insert, make_url, select, text

from databases.shop import Shop
from prunella.core.clock import SystemClock
from prunella.core.errors import DatabaseRefused, DatabaseUnavailable
from prunella.databases.columns import column_of, declared

pytestmark = pytest.mark.anyio

NASTY = (
    'with"quote',
    "it's",
    "select",
    "Order Items",
    "semi;colon--",
    "percent%s %(x)s",
    "ümläut ＂full＂ ‚low‛",
    "colon:name",
    "back\\slash",
    "dot.ted",
    "x" * 63,
)


@pytest.mark.parametrize("name", NASTY)
async def test_handle_works_on_exactly_the_table_that_is_named(shop: Shop, name: str) -> None:
    """Whatever a table and a column are called, it is them that are read, and nothing else is run."""
    quoted = '"' + name.replace('"', '""') + '"'
    with shop.engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {quoted} (id integer PRIMARY KEY, {quoted} text)".replace(":", "\\:")))
    handle = shop.handle()

    def write(connection: Connection) -> None:
        table = handle.table(connection, name)
        connection.execute(insert(table).values({"id": 1, name: name}))

    def read(connection: Connection) -> list[Any]:
        table = handle.table(connection, name)
        column = column_of(table, name)
        return list(connection.execute(select(column).where(column == name)).scalars())

    await handle.writing(write)
    assert await handle.reading(read) == [name]


async def test_handle_counts_the_bytes_of_a_name(pg_shop: Shop) -> None:
    """32 letters of two bytes are more than PostgreSQL keeps; the database is not even asked."""
    with pytest.raises(DatabaseRefused, match="a name has 1 to 63 bytes"):
        await pg_shop.handle().reading(lambda connection: pg_shop.handles[-1].table(connection, "ü" * 32))


@pytest.mark.parametrize(
    "name", ["", "orders\0x", "y" * 64, "ü" * 32, "y" * 5000, "\ud800", 'orders"; DROP TABLE orders; --']
)
async def test_handle_refuses_what_names_no_table(pg_shop: Shop, name: str) -> None:
    """A name that PostgreSQL would cut is refused before it finds another table."""
    pg_shop.run(
        "CREATE TABLE orders (id int)", f'CREATE TABLE "{"y" * 63}" (id int)', f'CREATE TABLE "{"ü" * 31}" (id int)'
    )
    with pytest.raises(DatabaseRefused, match=r"can't name a table|there is no table"):
        await pg_shop.handle().reading(lambda connection: pg_shop.handles[-1].table(connection, name))
    assert pg_shop.rows("SELECT count(*) FROM orders")[0][0] == 0


@pytest.mark.parametrize("name", ["", "orders\0x", "y" * 5000, "\ud800", "orders; DROP TABLE orders"])
async def test_handle_refuses_the_same_on_sqlite(tmp_path: Any, name: str) -> None:
    """SQLite would read a name up to its NUL."""
    from databases.shop import opened

    with opened(f"sqlite:///{tmp_path}/shop.db") as shop:
        shop.run("CREATE TABLE orders (id int)")
        with pytest.raises(DatabaseRefused, match=r"can't name a table|there is no table"):
            await shop.handle().reading(lambda connection: shop.handles[-1].table(connection, name))


async def test_handle_reads_only_and_then_writes_again(shop: Shop) -> None:
    """A write in a look is refused by the database; the next transaction on that connection may write."""
    shop.run("CREATE TABLE orders (id integer PRIMARY KEY)")
    handle = shop.handle()

    def write(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO orders VALUES (1)")

    for _ in range(2):
        with pytest.raises(DatabaseRefused, match=r"read-?only"):
            await handle.reading(write)
    await handle.writing(write)
    with pytest.raises(DatabaseRefused, match=r"read-?only"):
        await handle.reading(write)
    assert shop.rows("SELECT count(*) FROM orders")[0][0] == 1
    if shop.kind == "sqlite":
        with handle._engine.connect() as connection:  # nothing of a look stays on its connection
            assert connection.exec_driver_sql("PRAGMA query_only").scalar() == 0


async def test_handle_ends_a_statement_that_takes_too_long(shop: Shop) -> None:
    """The limit holds for one transaction and leaves nothing behind: a longer one may follow."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT count(*) FROM n"
    handle = shop.handle(statement_timeout_s=0.2)
    with pytest.raises(DatabaseUnavailable):
        await handle.reading(lambda connection: connection.exec_driver_sql(endless.format(10**12)).all())
    assert await handle.reading(lambda connection: connection.exec_driver_sql(endless.format(10)).scalar()) == 10
    if shop.kind == "sqlite":
        clock = SystemClock()

        def slow(connection: Connection) -> list[Any]:
            until, counts = clock.monotonic() + 0.3, []
            while clock.monotonic() < until:
                counts.append(connection.exec_driver_sql(endless.format(1000)).scalar())
            return counts

        assert set(await handle.writing(slow)) == {1000}  # many short statements may take longer together


async def test_handle_sees_one_state_in_one_look(shop: Shop) -> None:
    """What others commit in between shows in the next look."""
    if shop.kind == "sqlite":
        shop.run("PRAGMA journal_mode = WAL")
    shop.run("CREATE TABLE orders (id integer PRIMARY KEY)")

    def twice(connection: Connection) -> tuple[Any, Any]:
        first = connection.exec_driver_sql("SELECT count(*) FROM orders").scalar()
        shop.run("INSERT INTO orders VALUES (1)")
        return first, connection.exec_driver_sql("SELECT count(*) FROM orders").scalar()

    assert await shop.handle().reading(twice) == (0, 0)


async def test_handle_tells_the_databases_time(shop: Shop) -> None:
    """Aware, in UTC, and that of the transaction's beginning is not after now."""
    handle = shop.handle(query={"options": "-c TimeZone=Asia/Kolkata"} if shop.kind == "postgresql" else None)
    begun, now = await handle.reading(lambda connection: (handle.begun(connection), handle.now(connection)))
    assert begun.tzinfo is UTC
    assert abs((begun - datetime.now(UTC)).total_seconds()) < 60
    assert begun <= now


async def test_handle_keeps_sqlite_values_as_they_are_stored(tmp_path: Any) -> None:
    """A declared type is only a word there: nothing is parsed, rounded or refused on the way."""
    from databases.shop import opened

    with opened(f"sqlite:///{tmp_path}/shop.db") as shop:
        shop.run(
            "CREATE TABLE t (a DATETIME, b DECIMAL(4, 2), c BOOLEAN, d JSON)",
            "INSERT INTO t VALUES ('last week', 1.123456789, 7, '{')",
        )
        handle = shop.handle()
        rows = await handle.reading(lambda connection: connection.execute(select(handle.table(connection, "t"))).all())
    assert [tuple(row) for row in rows] == [("last week", 1.123456789, 7, "{")]


async def test_handle_survives_a_restart_of_the_server(pg_shop: Shop) -> None:
    """A pooled connection that was ended in the meantime is replaced unnoticed."""
    handle = pg_shop.handle()
    pid = await handle.reading(lambda connection: connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
    pg_shop.run(f"SELECT pg_terminate_backend({pid}, 5000)")
    assert await handle.reading(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1


async def test_handle_knows_a_table_as_it_is_now(shop: Shop) -> None:
    """A column that came, went or changed its type since the last look is seen; an old picture would lose its values."""
    shop.run("CREATE TABLE orders (id integer PRIMARY KEY, gone text)")
    handle = shop.handle()

    def columns(connection: Connection) -> dict[str, str]:
        return {one.name: str(declared(one)) for one in handle.table(connection, "orders").columns}

    assert list(await handle.reading(columns)) == ["id", "gone"]
    shop.run("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP COLUMN gone")
    assert list(await handle.reading(columns)) == ["id", "note"]
    shop.run("ALTER TABLE orders RENAME COLUMN note TO words")
    assert list(await handle.writing(columns)) == ["id", "words"]
    shop.run("DROP TABLE orders", "CREATE TABLE orders (id integer PRIMARY KEY, words integer)")
    assert await handle.reading(columns) == {"id": "INTEGER", "words": "INTEGER"}
    if shop.kind == "postgresql":
        shop.run("ALTER TABLE orders ALTER COLUMN words TYPE bigint")
        assert (await handle.reading(columns))["words"] == "BIGINT"


async def test_handle_keeps_the_picture_of_a_table_that_stays_as_it_is(shop: Shop) -> None:
    """Rows, statistics and other tables change nothing of it."""
    shop.run("CREATE TABLE orders (id integer PRIMARY KEY)", "CREATE TABLE others (id integer PRIMARY KEY)")
    handle = shop.handle()

    def picture(connection: Connection) -> Any:
        return handle.table(connection, "orders"), handle.table(connection, "others")

    first = await handle.reading(picture)
    shop.run("INSERT INTO orders VALUES (1)", "ANALYZE orders")
    shop.run(*(["ALTER TABLE others ADD COLUMN note text"] if shop.kind == "postgresql" else []))
    orders, others = await handle.reading(picture)
    assert (orders is first[0]) is (shop.kind == "postgresql" or others is first[1])
    assert (others is first[1]) is (shop.kind == "sqlite" and orders is first[0])


async def test_handle_leaks_no_connection_whatever_fails(pg_shop: Shop) -> None:
    """200 looks that fail, each in its way, leave one connection, and the next look works."""
    handle = pg_shop.handle()

    def raising(connection: Connection) -> None:
        raise ValueError("not of the database")

    def cut_off(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    ways: list[Any] = [
        raising,
        cut_off,
        lambda connection: connection.exec_driver_sql("SET LOCAL statement_timeout = 20; SELECT pg_sleep(9)"),
        lambda connection: connection.exec_driver_sql("SELECT 1 / 0"),
        lambda connection: handle.table(connection, "nothing"),
    ]
    for way in ways * 40:
        with pytest.raises((ValueError, DatabaseRefused, DatabaseUnavailable)):
            await handle.reading(way)
    assert await handle.reading(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'prunella' AND datname = current_database()"
    assert pg_shop.rows(ours) == [(1,)]


@pytest.mark.parametrize("silent", [False, True])
async def test_handle_closes_although_the_database_hangs(pg_shop: Shop, silent: bool) -> None:
    """Nobody waits for a statement that takes long, or for a server that says nothing more, to be able to stop."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(silenced(pg_shop.url)) if silent else pg_shop.url
        handle, clock = pg_shop.handle(url=url), SystemClock()
        assert await handle.reading(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
        hanging = [
            asyncio.create_task(handle.reading(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(25)")))
            for _ in range(6)  # more than there are connections
        ]
        while len(handle._open) < 4:
            await asyncio.to_thread(pg_shop.rows, "SELECT 1")
        begun = clock.monotonic()
        await handle.close(within_s=0.2)
        ended = await asyncio.gather(*hanging, return_exceptions=True)
        assert clock.monotonic() - begun < 5
    assert {type(one) for one in ended} <= {DatabaseUnavailable, asyncio.CancelledError}


@asynccontextmanager
async def silenced(url: str) -> AsyncIterator[str]:
    """Return an address that leads to the server; a statement that asks it to sleep is swallowed on the way."""
    address = make_url(url)
    place = str(address.query["host"])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(65536):
            if b"pg_sleep" not in some:
                writer.write(some)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{place}/.s.PGSQL.{address.port or 5432}")
        with suppress(ConnectionError):
            await asyncio.gather(carry(reader, back), carry(there, writer))
        for one in (writer, back):
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    rest = {name: value for name, value in address.query.items() if name != "host"}
    yield address.set(host="127.0.0.1", port=port, query=rest).render_as_string(hide_password=False)
    server.close()
    await server.wait_closed()


async def test_handle_calls_a_value_that_can_not_be_sent_refused(pg_shop: Shop) -> None:
    """A NUL in a text is the caller's mistake; the database is not away, and waiting would not help."""
    pg_shop.run("CREATE TABLE orders (id text)")
    handle = pg_shop.handle()

    def ask(connection: Connection) -> Any:
        table = handle.table(connection, "orders")
        return connection.execute(select(table).where(table.c.id == "a\0b")).all()

    with pytest.raises(DatabaseRefused, match="NUL"):
        await handle.reading(ask)


async def test_handle_says_nothing_secret_about_what_failed(pg_shop: Shop) -> None:
    """Neither the address nor a value that the server repeats comes into the words of an error."""
    token = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    with pytest.raises(DatabaseRefused) as refused:
        await pg_shop.handle().reading(lambda connection: connection.exec_driver_sql(f"SELECT CAST('{token}' AS int)"))
    away = make_url(pg_shop.url).set(password="hunter2-hunter2", host="127.0.0.1", port=9, query={})
    with pytest.raises(DatabaseUnavailable) as unavailable:
        await pg_shop.handle(url=away.render_as_string(hide_password=False)).reading(lambda connection: None)
    assert token not in str(refused.value)
    assert str(unavailable.value) == "database shop: OperationalError"
