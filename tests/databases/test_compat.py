"""The documents' SQL functions, installed in a real PostgreSQL database of the user and called as a user would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import make_url

from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import DatabaseSource, Entity, StuckRule
from prunella.core.redact import Secret
from prunella.core.states import StateMachine
from prunella.databases import compat
from prunella.databases.handle import Database
from prunella.store import migrations

pytestmark = pytest.mark.anyio

Ask = Callable[..., list[tuple[Any, ...]]]

ORDER = Entity(
    name="order",
    database="shop",
    table="orders",
    key="id",
    status="status",
    since="updated_at",
    transitions=StateMachine({"PENDING": ["CONFIRMED"], "CONFIRMED": ["PENDING"]}),
    stuck={
        "PENDING": StuckRule(after_s=1800.0, remedy="reassign_vendor"),
        "CONFIRMED": StuckRule(after_s=3600.0, remedy="retry_workflow"),
    },
)
ORDERS = "CREATE TABLE orders (id bigint PRIMARY KEY, status text, updated_at timestamptz)"
NASTY = 'o\'ddly "named" $1 %s $body$; :x \\ DROP'


@pytest.fixture
def url(fresh_postgres_url: str) -> str:
    """Return a database of the user with nothing in it."""
    return fresh_postgres_url


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Database]:
    """Open it as the engine does."""
    database = Database(DatabaseSource(name="shop", url=Secret(url)))
    yield database
    await database.close()


@pytest.fixture
def ask(url: str) -> Ask:
    """Run SQL as the user's own program does."""

    def run(query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    return run


def insert(ask: Ask, number: int, status: str, minutes: float) -> None:
    """Put an order that has been in its status for so long."""
    ask("INSERT INTO orders VALUES (%s, %s, now() - make_interval(secs => %s))", number, status, minutes * 60)


# Detection ------------------------------------------------------------------------------------------------------------


async def test_stuck_orders_are_detected(shop: Database, ask: Ask) -> None:
    """Document D's columns: older than their threshold, longest first, with minutes rounded down and the action."""
    ask(ORDERS)
    for number, status, minutes in [
        (1, "PENDING", 45.9),
        (2, "PENDING", 29.9),
        (3, "CONFIRMED", 61),
        (4, "SHIPPED", 999),
    ]:
        insert(ask, number, status, minutes)
    await compat.install(shop, [ORDER])
    assert ask("SELECT order_id, issue_type, stuck_minutes, recommended_action FROM detect_stuck_orders()") == [
        (3, "STUCK_CONFIRMED", 61, "RETRY_WORKFLOW"),
        (1, "STUCK_PENDING", 45, "REASSIGN_VENDOR"),
    ]
    shown = "order_id, status, stuck_since < now(), stuck_minutes, active_healing_count, total_healing_attempts"
    rows = ask(f"SELECT {shown} FROM stuck_orders_view ORDER BY stuck_minutes DESC")
    assert rows == [(3, "CONFIRMED", True, 61, 0, 0), (1, "PENDING", True, 45, 0, 0)]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize(
    ("kind", "spelled", "unit"),
    [
        ("timestamp", "(now() - interval '45 min 30 s') AT TIME ZONE 'Europe/Berlin'", None),
        ("bigint", "extract(epoch FROM now() - interval '45 min 30 s') * 1000", "ms"),
        ("integer", "extract(epoch FROM now() - interval '45 min 30 s')", "s"),
        ("double precision", "extract(epoch FROM now() - interval '45 min 30 s')", "s"),
    ],
)
async def test_every_spelling_of_time_is_understood(
    url: str, ask: Ask, kind: str, spelled: str, unit: str | None, zone: str
) -> None:
    """Timestamps without a zone in the declared one, numbers in their unit; the session's zone changes nothing."""
    ask(f"CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at {kind})")
    ask(f"INSERT INTO orders VALUES (1, 'PENDING', {spelled})")
    source = DatabaseSource(name="shop", url=Secret(url), time_zone="Europe/Berlin", unit=unit)
    shop = Database(source)
    await compat.install(shop, [ORDER])
    await shop.close()
    with psycopg.connect(url, options=f"-c timezone={zone}") as connection:
        rows = connection.execute("SELECT order_id, stuck_minutes FROM detect_stuck_orders()").fetchall()
    assert rows == [(1, 45)]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("timestamp", "has no time zone"), ("bigint", "is a number"), ("text", "is no time"), ("jsonb", "is no time")],
)
async def test_time_that_says_too_little_is_refused(shop: Database, ask: Ask, kind: str, said: str) -> None:
    """A column that could mean any moment is refused, with the setting that helps; nothing is installed."""
    ask(f"CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at {kind})")
    with pytest.raises(DatabaseRefused, match=said):
        await compat.install(shop, [ORDER])
    assert ask("SELECT to_regclass('prunella.heal_requests'), to_regproc('detect_stuck_orders')") == [(None, None)]


async def test_missing_columns_are_named(shop: Database, ask: Ask) -> None:
    """A column that is not in the catalogue is refused with those that are."""
    ask("CREATE TABLE orders (id int PRIMARY KEY, state text)")
    with pytest.raises(DatabaseRefused, match="no column 'updated_at'; it has id, state"):
        await compat.install(shop, [ORDER])


async def test_names_that_mean_harm_are_only_names(shop: Database, ask: Ask, url: str) -> None:
    """Quotes, dollars, percent signs and colons in schema, table, columns, entity and states end nothing early."""
    quoted = '"' + NASTY.replace('"', '""') + '"'
    state = '"st;a\'te"'
    ask(f"CREATE SCHEMA {quoted}")
    ask(f"CREATE TYPE {quoted}.{state} AS ENUM ('PENDING', 'it''s \\ %s')")
    ask(f"CREATE TABLE {quoted}.{quoted} ({quoted} text PRIMARY KEY, status {quoted}.{state}, updated_at timestamptz)")
    ask(f"INSERT INTO {quoted}.{quoted} VALUES ('a''b', 'it''s \\ %s', now() - interval '2 h')")
    rules = {"it's \\ %s": StuckRule(after_s=60.0, remedy="don't")}
    odd = replace(ORDER, name="o\"d'd", table=NASTY, key=NASTY, stuck=rules)
    database = Database(DatabaseSource(name="sh'op]", url=Secret(url), schema=NASTY))
    assert len(await compat.install(database, [odd])) == 7
    assert await compat.install(database, [odd]) == []
    assert ask(f'SELECT * FROM {quoted}."detect_stuck_o""d\'ds"()') == [("a'b", "STUCK_IT'S \\ %S", 120, "DON'T")]
    healing = ask(f"""SELECT {quoted}."auto_heal_o""d'd"('a''b', 'STUCK_IT''S \\ %S', 'DON''T')""")
    assert [(one.id, one.key, one.action) for one in await compat.take_requests(database)] == [
        (healing[0][0], "a'b", "DON'T")
    ]
    await database.close()


# Requests -------------------------------------------------------------------------------------------------------------


async def test_request_is_taken_and_answered(shop: Database, ask: Ask) -> None:
    """auto_heal_order leaves a request, one per order; while it is open its order is left out, then it is back."""
    ask(ORDERS)
    insert(ask, 123, "PENDING", 45)
    await compat.install(shop, [ORDER])
    [(healing,)] = ask("SELECT auto_heal_order(123, 'STUCK_PENDING', 'REASSIGN_VENDOR')")
    assert ask("SELECT auto_heal_order(123, 'STUCK_PENDING', 'MANUAL_INTERVENTION')") == [(healing,)]
    assert ask("SELECT * FROM detect_stuck_orders()") == []
    assert ask("SELECT active_healing_count, total_healing_attempts FROM stuck_orders_view") == [(1, 1)]
    [taken] = await compat.take_requests(shop)
    assert (taken.id, taken.entity, taken.key) == (healing, "order", "123")
    assert (taken.issue, taken.action) == ("STUCK_PENDING", "REASSIGN_VENDOR")
    assert await compat.take_requests(shop) == []
    assert await compat.answer(shop, healing, "FAILED: no other vendor")
    assert not await compat.answer(shop, healing, "SUCCESS")
    assert ask("SELECT answer FROM prunella.heal_requests") == [("FAILED: no other vendor",)]
    assert ask("SELECT order_id FROM detect_stuck_orders()") == [(123,)]


async def test_requests_at_once_are_one(shop: Database, ask: Ask) -> None:
    """Several programs that ask for the same order at the same moment get one healing, and it is taken once."""
    ask(ORDERS)
    insert(ask, 1, "PENDING", 45)
    await compat.install(shop, [ORDER])
    call = "SELECT auto_heal_order(1, 'STUCK_PENDING', 'REASSIGN_VENDOR')"
    with ThreadPoolExecutor(8) as programs:
        healings = {healing for [(healing,)] in programs.map(lambda _: ask(call), range(16))}
    taken = await asyncio.gather(*(compat.take_requests(shop) for _ in range(4)))
    assert [one.id for part in taken for one in part] == list(healings)


async def test_request_of_a_dead_worker_comes_back(shop: Database, ask: Ask) -> None:
    """What was taken and not answered for ten minutes is given out again."""
    ask(ORDERS)
    insert(ask, 1, "PENDING", 45)
    await compat.install(shop, [ORDER])
    ask("SELECT auto_heal_order(1, 'STUCK_PENDING', 'REASSIGN_VENDOR')")
    [first] = await compat.take_requests(shop)
    ask("UPDATE prunella.heal_requests SET taken_at = taken_at - interval '10 min 1 s'")
    assert await compat.take_requests(shop) == [first]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            "1, 'STUCK', 'REASSIGN_VENDOR'",
            errors.InvalidParameterValue,
            "unknown issue type 'STUCK'; known: STUCK_PENDING",
        ),
        ("1, NULL, 'REASSIGN_VENDOR'", errors.InvalidParameterValue, "unknown issue type NULL"),
        (
            "1, 'STUCK_PENDING', 'x'",
            errors.InvalidParameterValue,
            "unknown recovery action 'x'; known: REASSIGN_VENDOR",
        ),
        ("2, 'STUCK_PENDING', 'REASSIGN_VENDOR'", errors.NoDataFound, "there is no order '2'"),
        ("NULL, 'STUCK_PENDING', 'REASSIGN_VENDOR'", errors.NoDataFound, "there is no order NULL"),
    ],
)
async def test_unknown_words_are_clear_errors(
    shop: Database, ask: Ask, call: str, error: type[Exception], said: str
) -> None:
    """An issue, action or order that is none is refused with what is known, and leaves no request."""
    ask(ORDERS)
    insert(ask, 1, "PENDING", 45)
    await compat.install(shop, [ORDER], remedies=["cancel_order"])
    with pytest.raises(error, match=said):
        ask(f"SELECT auto_heal_order({call})")
    assert ask("SELECT count(*) FROM prunella.heal_requests") == [(0,)]
    assert len(ask("SELECT auto_heal_order(1, 'STUCK_PENDING', 'CANCEL_ORDER')")) == 1


async def test_incidents_in_the_same_database_count(shop: Database, ask: Ask, url: str) -> None:
    """Where prunella's own tables stand beside the orders, what it heals is left out and its attempts are counted."""
    ask(ORDERS)
    insert(ask, 1, "PENDING", 45)
    insert(ask, 2, "PENDING", 45)
    migrations.upgrade(url)
    await compat.install(shop, [ORDER])
    ask(
        "INSERT INTO prunella.incidents (id, service, account, fingerprint, signal_id, title, category, kind, confidence,"
        " because, advice, severity, level, state, version, count, attempts, wave, first_seen, last_seen, action_taken,"
        " regressed, forced, refresh_failed, procedure, resource) VALUES ('i', 'shop', '', 'f', 's', '', 'data', '', 1, '',"
        " '', 'LOW', 'L0', 'healing', 0, 1, 1, 1, now(), now(), '', false, false, false, 'stuck-order', '1')"
    )
    ask(
        "INSERT INTO prunella.runs (id, incident_id, service, procedure, remedy, state, attempt, idempotency_key, worker,"
        " started_at, detail, resource, issue) VALUES ('r', 'i', 'shop', 'stuck-order', 'x', 'running', 1, 'k', 'w', now(),"
        " '', '1', 'STUCK_PENDING')"
    )
    assert ask("SELECT order_id FROM detect_stuck_orders()") == [(2,)]
    columns = "order_id, active_healing_count, total_healing_attempts"
    assert ask(f"SELECT {columns} FROM stuck_orders_view ORDER BY 1") == [(1, 1, 1), (2, 0, 0)]


# Orphans --------------------------------------------------------------------------------------------------------------


async def test_orphans_are_found(shop: Database, ask: Ask) -> None:
    """Rows without their parent, as JSON; a reference that is NULL is none; names with quotes are only names."""
    ask('CREATE TABLE "pa""rent; --" (id int PRIMARY KEY)')
    ask('CREATE TABLE "Chi\'ld" (c int, "f k" int)')
    ask('INSERT INTO "pa""rent; --" VALUES (1)')
    ask('INSERT INTO "Chi\'ld" VALUES (10, 1), (11, 2), (12, NULL)')
    await compat.install(shop, [])
    query = "SELECT * FROM find_orphan_records(child_table => %s, parent_table => %s, fk_column => %s)"
    assert ask(query, "Chi'ld", 'pa"rent; --', "f k") == [({"c": 11, "f k": 2},)]
    ask('DELETE FROM "Chi\'ld"')
    assert ask(query, "Chi'ld", 'pa"rent; --', "f k") == []


async def test_parent_is_found_by_its_key(shop: Database, ask: Ask) -> None:
    """The parent's primary key is asked for, whatever its name; without one it is the column id."""
    ask("CREATE TABLE named (number int PRIMARY KEY, id int); CREATE TABLE bare (id int); CREATE TABLE child (ref int)")
    ask("INSERT INTO named VALUES (1, 7); INSERT INTO bare VALUES (7); INSERT INTO child VALUES (1), (7)")
    await compat.install(shop, [])
    assert ask("SELECT * FROM find_orphan_records('child', 'named', 'ref')") == [({"ref": 7},)]
    assert ask("SELECT * FROM find_orphan_records('child', 'bare', 'ref')") == [({"ref": 1},)]


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (("nobody", "parent", "ref"), errors.UndefinedTable, "no table 'nobody' in schema public"),
        (("child", "child; DROP TABLE child", "ref"), errors.UndefinedTable, "no table 'child; DROP TABLE child'"),
        (("child", "parent", "id) OR (1=1"), errors.UndefinedColumn, "has no column"),
        (("child", "child", "ref"), errors.UndefinedColumn, "no primary key of one column and no id"),
    ],
)
async def test_names_that_are_not_in_the_catalogue_are_refused(
    shop: Database, ask: Ask, names: tuple[str, str, str], error: type[Exception], said: str
) -> None:
    """Only tables and columns that exist are asked."""
    ask("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (ref int)")
    await compat.install(shop, [])
    with pytest.raises(error, match=said):
        ask("SELECT * FROM find_orphan_records(%s, %s, %s)", *names)


async def test_hidden_parents_make_no_orphans(shop: Database, ask: Ask, url: str) -> None:
    """Who may not see every parent is refused: rows would look like orphans because of row-level security."""
    ask("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (ref int)")
    ask("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1)")
    ask("ALTER TABLE parent ENABLE ROW LEVEL SECURITY; ALTER TABLE parent FORCE ROW LEVEL SECURITY")
    await compat.install(shop, [])
    role = url.rpartition("/")[2] + "_reader"
    ask(f'CREATE ROLE "{role}"; GRANT SELECT ON parent, child TO "{role}"')
    ask(f'GRANT EXECUTE ON FUNCTION find_orphan_records TO "{role}"')
    try:
        with (
            psycopg.connect(url) as connection,
            pytest.raises(errors.InsufficientPrivilege, match="row-level security"),
        ):
            connection.execute(f'SET ROLE "{role}"'.encode())
            connection.execute("SELECT * FROM find_orphan_records('child', 'parent', 'ref')")
    finally:
        ask(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


# Connections ----------------------------------------------------------------------------------------------------------


async def test_connections_are_counted(shop: Database, ask: Ask, url: str) -> None:
    """Document A's answer: active, idle and max; the asking session is an active one."""
    await compat.install(shop, [])
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT 1")
        [(stats,)] = ask("SELECT get_connection_stats()")
    assert set(stats) == {"active", "idle", "max"}
    assert stats["active"] >= 1
    assert stats["idle"] >= 1
    assert [(str(stats["max"]),)] == ask("SHOW max_connections")


async def test_idle_connections_are_ended(shop: Database, ask: Ask, url: str) -> None:
    """Those idle for so long; never one in a transaction, never prunella's, never the asking one; others stay."""
    await compat.install(shop, [])
    with (
        psycopg.connect(url, autocommit=True) as idle,
        psycopg.connect(url) as working,
        psycopg.connect(url, autocommit=True, application_name="prunella") as ours,
    ):
        for connection in (idle, working, ours):
            connection.execute("SELECT 1")
        assert ask("SELECT release_idle_connections()") == [(0,)]
        assert ask("SELECT release_idle_connections('0 seconds')") == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        assert working.execute("SELECT 1").fetchall() == ours.execute("SELECT 1").fetchall()
    for wrong in ("NULL", "'-1 second'"):
        with pytest.raises(errors.InvalidParameterValue, match="idle must be 0 or longer"):
            ask(f"SELECT release_idle_connections({wrong})")


# Installing -----------------------------------------------------------------------------------------------------------


async def test_installing_again_changes_nothing(shop: Database, ask: Ask) -> None:
    """The second time every object is the same one, with the grants that it was given."""
    ask(ORDERS)
    assert len(await compat.install(shop, [ORDER])) == 7
    ask("GRANT EXECUTE ON FUNCTION detect_stuck_orders TO pg_monitor")
    objects = "SELECT p.oid, p.proacl::text FROM pg_proc p WHERE pronamespace IN ('public'::regnamespace, 'prunella'::regnamespace)"
    before = ask(f"{objects} ORDER BY 1")
    assert await compat.install(shop, [ORDER]) == []
    assert ask(f"{objects} ORDER BY 1") == before


async def test_everything_says_what_it_is(shop: Database, ask: Ask) -> None:
    """Each function and view has a comment that names prunella, the database and what it does."""
    ask(ORDERS)
    await compat.install(shop, [ORDER])
    comments = ask(
        "SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE pronamespace IN ('public'::regnamespace,"
        " 'prunella'::regnamespace) UNION ALL SELECT obj_description('stuck_orders_view'::regclass, 'pg_class')"
    )
    assert len(comments) == 7
    assert all(comment.startswith("prunella (shop): ") for (comment,) in comments)


async def test_nobody_else_may_call_it(shop: Database, ask: Ask) -> None:
    """Rights that new objects get by default, as Supabase gives them to anon, are taken back at once."""
    ask(ORDERS)
    ask("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO pg_monitor")
    ask("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pg_monitor")
    await compat.install(shop, [ORDER])
    ask("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM pg_monitor")
    ask("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM pg_monitor")
    called = ask(
        "SELECT has_function_privilege('pg_monitor', oid, 'EXECUTE') FROM pg_proc WHERE proname ~ 'order|idle' AND pronamespace = 'public'::regnamespace"
    )
    assert set(called) == {(False,)}
    assert ask("SELECT has_table_privilege('pg_monitor', 'stuck_orders_view', 'SELECT')") == [(False,)]


async def test_changes_are_taken_over(shop: Database, ask: Ask) -> None:
    """A threshold or a key's type that changes renews what hangs on it, grants stay; what is not wanted is dropped."""
    ask(ORDERS)
    insert(ask, 1, "PENDING", 20)
    await compat.install(shop, [ORDER])
    ask("GRANT EXECUTE ON FUNCTION detect_stuck_orders TO pg_monitor; GRANT SELECT ON stuck_orders_view TO pg_monitor")
    sooner = replace(ORDER, stuck={"PENDING": StuckRule(after_s=600.0, remedy="reassign_vendor")})
    told = await compat.install(shop, [sooner])
    assert 'renewed "public"."stuck_orders_view"' in told
    assert ask("SELECT order_id FROM detect_stuck_orders()") == [(1,)]
    ask("ALTER TABLE orders ALTER id TYPE text")
    await compat.install(shop, [sooner])
    assert ask("SELECT order_id FROM detect_stuck_orders()") == [("1",)]
    assert ask("SELECT has_function_privilege('pg_monitor', 'detect_stuck_orders()', 'EXECUTE')") == [(True,)]
    assert ask("SELECT has_table_privilege('pg_monitor', 'stuck_orders_view', 'SELECT')") == [(True,)]
    told = await compat.install(shop, [])
    assert [line for line in told if not line.startswith("dropped")] == []
    assert ask("SELECT to_regproc('detect_stuck_orders'), to_regclass('stuck_orders_view')") == [(None, None)]


async def test_functions_of_the_user_are_never_replaced(shop: Database, ask: Ask) -> None:
    """A function with one of the names that is not prunella's stops the whole installation."""
    ask(ORDERS)
    ask("CREATE FUNCTION auto_heal_order(a int) RETURNS int LANGUAGE sql AS 'SELECT a'")
    with pytest.raises(DatabaseRefused, match=r"public.auto_heal_order\(integer\) is there already"):
        await compat.install(shop, [ORDER])
    assert ask("SELECT auto_heal_order(5), to_regproc('get_connection_stats')") == [(5, None)]


async def test_missing_right_says_who_may(ask: Ask, url: str) -> None:
    """A role that may not create is told to let the owner do it once; nothing is left half-way."""
    role = f"{make_url(url).database}_app"
    ask(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'x'")
    address = make_url(url).set(username=role, password="x").render_as_string(hide_password=False)
    shop = Database(DatabaseSource(name="shop", url=Secret(address)))
    try:
        with pytest.raises(DatabaseRefused, match=r"permission denied .*; run this once as the owner"):
            await compat.install(shop, [])
    finally:
        await shop.close()
        ask(f'DROP ROLE "{role}"')


async def test_name_that_would_be_cut_is_refused(shop: Database, ask: Ask) -> None:
    """PostgreSQL cuts names after 63 bytes in silence, and two would become one."""
    ask(ORDERS)
    with pytest.raises(DatabaseRefused, match="PostgreSQL allows 63"):
        await compat.install(shop, [replace(ORDER, name="o" * 50)])


async def test_other_databases_have_no_functions(tmp_path: Any) -> None:
    """SQLite is refused with the reason, and has no requests."""
    database = Database(DatabaseSource(name="shop", url=Secret(f"sqlite:///{tmp_path}/shop.db")))
    with pytest.raises(DatabaseRefused, match="need PostgreSQL, this is sqlite"):
        await compat.install(database, [])
    assert await compat.take_requests(database) == []
    await database.close()


async def test_nothing_installed_means_no_requests(shop: Database) -> None:
    """A database in which nothing was installed is asked without harm."""
    assert await compat.take_requests(shop) == []
