"""How columns spell time: sessions' and hosts' clocks have no say, and a night of two equal hours fools nobody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, select
from sqlalchemy.types import DateTime

from databases.shop import Shop
from prunella.checks.freshness import Freshness
from prunella.checks.stuck import Stuck
from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import FreshnessCheck
from prunella.databases.moments import Moments

from checks.test_stuck import ORDER  # isort: skip

pytestmark = pytest.mark.anyio

SESSIONS = ("UTC", "Asia/Kolkata", "America/New_York")
BERLIN = "Europe/Berlin"
NIGHT = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin for the first time; an hour later again


class Frozen(Moments):
    """Moments at a time of the test's choice."""

    def at(self, now: datetime) -> Frozen:
        """Take `now` as the database's clock."""
        self.now = now
        return self


# Sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize(("column", "zone"), [("timestamptz", None), ("timestamp", BERLIN), ("timestamp", "UTC")])
async def test_session_zone_changes_no_verdict(pg_shop: Shop, session: str, column: str, zone: str | None) -> None:
    """500 fresh and 500 stale orders are told apart whatever zone the session has."""
    now = "now()" if column == "timestamptz" else f"(now() AT TIME ZONE '{zone}')"
    pg_shop.run(
        f"CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at {column})",
        f"INSERT INTO orders SELECT n, 'PENDING', {now} - interval '20 min' FROM generate_series(1, 500) n",
        f"INSERT INTO orders SELECT n, 'PENDING', {now} - interval '40 min' FROM generate_series(501, 1000) n",
    )
    handle = pg_shop.handle(query={"options": f"-c TimeZone={session}"}, time_zone=zone)
    seen = await Stuck(handle, ORDER, cap=2000).look()
    assert {int(one.key) for one in seen.findings} == set(range(501, 1001))
    assert {one.facts["stuck_minutes"] for one in seen.findings} == {40}
    spec = FreshnessCheck(table="orders", column="updated_at", older_than_s=1800)
    assert (await Freshness(handle, spec).look()).findings == ()
    pg_shop.run("DELETE FROM orders WHERE id <= 500")
    assert [one.issue for one in (await Freshness(handle, spec).look()).findings] == ["STALE_SYNC"]


async def test_column_without_zone_is_refused_until_one_is_declared(pg_shop: Shop) -> None:
    """A look refuses a naive column too, should the check at load have been left out."""
    pg_shop.run("CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at timestamp)")
    with pytest.raises(DatabaseRefused, match="declare time_zone"):
        await Stuck(pg_shop.handle(), ORDER).look()


async def test_host_clock_has_no_say(shop: Shop) -> None:
    """A row that a host ten minutes ahead has written is a finding of its own, and the table stale all the same."""
    shop.run("CREATE TABLE stock (at MOMENT)", f"INSERT INTO stock VALUES ({shop.past(-600)}), ({shop.past(7200)})")
    seen = await Freshness(shop.handle(), FreshnessCheck(table="stock", column="at", older_than_s=3600)).look()
    assert [one.issue for one in seen.findings] == ["STALE_SYNC", "FUTURE_ROW"]


async def test_timestamps_beyond_all_calendars_are_read(pg_shop: Shop) -> None:
    """Infinity and the year 20000 are values of PostgreSQL; they lie in the future and break no look."""
    pg_shop.run(
        "CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at timestamptz, valid date, until timestamp)",
        "INSERT INTO orders VALUES (1, 'PENDING', now() - interval '2 h', 'infinity', 'infinity'), "
        "(2, 'PENDING', '-infinity', '0044-03-15 BC', '20000-01-01'), (3, 'PENDING', 'infinity', NULL, NULL)",
    )
    seen = await Stuck(pg_shop.handle(), ORDER).look()
    assert sorted(one.key for one in seen.findings) == ["1", "2"]
    spec = FreshnessCheck(table="orders", column="updated_at", older_than_s=60)
    assert [one.issue for one in (await Freshness(pg_shop.handle(), spec).look()).findings] == [
        "STALE_SYNC",
        "FUTURE_ROW",
    ]


# Numbers and texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000)])
@pytest.mark.parametrize("sort", ["bigint", "double precision"])
async def test_numbers_count_in_their_unit(shop: Shop, unit: str, factor: int, sort: str) -> None:
    """Seconds and milliseconds since 1970, whole or not."""
    epoch = "extract(epoch from now())" if shop.kind == "postgresql" else "(julianday('now') - 2440587.5) * 86400.0"
    shop.run(f"CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at {sort})")
    for key, age in ((1, 1790), (2, 1810), (3, -90000)):
        shop.run(f"INSERT INTO orders SELECT {key}, 'PENDING', cast(({epoch} - {age}) * {factor} AS {sort})")
    seen = await Stuck(shop.handle(unit=unit), ORDER).look()
    assert [(one.key, one.facts["stuck_minutes"]) for one in seen.findings] == [("2", 30)]
    spec = FreshnessCheck(table="orders", column="updated_at", older_than_s=1700, unit=unit)
    assert [one.issue for one in (await Freshness(shop.handle(), spec).look()).findings] == ["STALE_SYNC", "FUTURE_ROW"]


@pytest.fixture
def memory() -> Iterator[Connection]:
    """Open a SQLite database in memory with a table of texts."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (at text)")
        yield connection
    engine.dispose()


def spelled(at: datetime) -> list[str]:
    """Write one moment in the ways that are found in SQLite files."""
    kolkata = at.astimezone(ZoneInfo("Asia/Kolkata"))
    return [
        at.isoformat(),
        at.isoformat(" "),
        at.isoformat().replace("+00:00", "Z"),
        at.isoformat(" ", "milliseconds").replace("+00:00", " Z"),
        kolkata.isoformat(),
        kolkata.isoformat(" "),
        at.astimezone(ZoneInfo("America/New_York")).isoformat(),
        at.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None).isoformat(" "),
        at.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None).isoformat("T", "milliseconds"),
    ]


async def test_texts_of_mixed_spellings_are_compared_as_moments(tmp_path: Any) -> None:
    """Blank or T, Z, offsets or the declared zone: the cutoff falls at the same moment for all of them."""
    from databases.shop import opened

    now = datetime(2026, 7, 1, 23, 50, tzinfo=UTC)
    with opened(f"sqlite:///{tmp_path}/t.db") as shop:
        shop.run("CREATE TABLE t (old integer, at text)")
        for age, old in ((1799, 0), (1801, 1), (40 * 3600, 1), (-5, 0), (30 * 86400, 1)):
            for text in spelled(now - timedelta(seconds=age)):
                shop.run(f"INSERT INTO t VALUES ({old}, '{text}')")
        shop.run(
            "INSERT INTO t VALUES (0, 'soon'), (0, ''), (0, '1999'), (0, NULL), (0, 5), (0, '2026-02-31 10:00:00')"
        )
        handle = shop.handle(time_zone=BERLIN)

        def look(connection: Connection) -> tuple[list[int], list[int], datetime | None]:
            table = handle.table(connection, "t")
            moments = Frozen(handle, connection).at(now)
            old = select(table.c.old).where(moments.older_than(table.c.at, 1800))
            young = select(table.c.old).where(moments.since(table.c.at, 1800))
            newest = (
                connection.execute(
                    select(moments.latest(table.c.at))
                    .where(moments.not_in_future(table.c.at))
                    .order_by(moments.latest(table.c.at).desc())
                )
                .scalars()
                .first()
            )
            moments.settle()
            return (
                list(connection.execute(old).scalars()),
                list(connection.execute(young).scalars()),
                moments.read_latest(table.c.at, newest),
            )

        assert await handle.reading(look) == ([1] * 27, [0] * 18, now - timedelta(seconds=1799))


async def test_texts_without_zone_are_refused_where_none_is_declared(tmp_path: Any) -> None:
    """A look that meets one says which, instead of guessing."""
    from databases.shop import opened

    with opened(f"sqlite:///{tmp_path}/t.db") as shop:
        shop.run("CREATE TABLE orders (id integer PRIMARY KEY, status text, updated_at text)")
        shop.run("INSERT INTO orders VALUES (1, 'PENDING', '2020-01-01 10:00:00')")
        with pytest.raises(DatabaseRefused, match="'2020-01-01 10:00:00', which names no zone; set time_zone"):
            await Stuck(shop.handle(), ORDER).look()
        assert len((await Stuck(shop.handle(time_zone="UTC"), ORDER).look()).findings) == 1


# The night with two equal hours -----------------------------------------------------------------------------------


def berlin(at: datetime) -> datetime:
    """Return what a clock in Berlin shows, as a column without zone keeps it."""
    return at.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None, fold=0)


@given(
    now=st.integers(-9000, 9000).map(lambda seconds: NIGHT + timedelta(seconds=seconds)),
    age=st.integers(0, 9000),
    limit=st.sampled_from([600, 1800, 3600, 5400]),
)
@example(now=NIGHT + timedelta(minutes=40), age=300, limit=1800)
@example(now=NIGHT + timedelta(minutes=40), age=1800, limit=3600)
def test_night_of_two_equal_hours_makes_nothing_old_or_future(now: datetime, age: int, limit: int) -> None:
    """Whatever was written less than the limit ago is not old, and nothing that was written is in the future."""
    from prunella.databases.moments import _Naive

    spelling, written = _Naive(ZoneInfo(BERLIN)), berlin(now - timedelta(seconds=age))
    column = Table("t", MetaData(), Column("at", DateTime), Column("id", Integer)).c.at
    bound = {
        name: getattr(spelling, name)(column, at).right.value
        for name, at in (("before", now - timedelta(seconds=limit)), ("after", now))
    }
    if age <= limit:
        assert not written < bound["before"]
    if age > limit + 3600:
        assert written < bound["before"]  # an hour later it is certain
    assert not written > bound["after"]
    read = spelling.read(written, now)
    assert read is not None
    assert 0 <= (now - read).total_seconds() <= age


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_night_of_two_equal_hours_in_a_database(kind: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    """At 02:10 for the second time: 02:40 was 30 minutes ago, 02:05 five; only what is old either way is old."""
    from databases.shop import opened

    now = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    url = f"sqlite:///{tmp_path}/t.db" if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres_url"))
    with opened(url) as shop:
        shop.run(f"CREATE TABLE t (id integer, at {'text' if kind == 'sqlite' else 'timestamp'})")
        for key, text in enumerate(("02:40", "02:05", "01:55", "03:30")):
            shop.run(f"INSERT INTO t VALUES ({key}, '2026-10-25 {text}:00')")
        handle = shop.handle(time_zone=BERLIN)

        def look(connection: Connection) -> list[list[int]]:
            table = handle.table(connection, "t")
            moments = Frozen(handle, connection).at(now)
            asked = (
                moments.older_than(table.c.at, 1800),
                moments.in_future(table.c.at),
                moments.not_in_future(table.c.at),
            )
            return [list(connection.execute(select(table.c.id).where(one)).scalars()) for one in asked]

        assert await handle.reading(look) == [[2], [3], [0, 1, 2]]
