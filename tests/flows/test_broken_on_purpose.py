"""What users get wrong, and what breaks under way: every message names the subject, the fact and the next step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from databases.shop import Shop, opened
from flows.running import Up, eventually, start
from flows.shops import Store
from prunella.testing import FaultyServer

HEAD = """\
service: {listen: "${LISTEN}"PLUGINS}
databases: {shop: {url: "${SHOP_DATABASE_URL}"}}
procedures:
"""
PROCEDURE = """\
  NAME:
    database: shop
    check: CHECK
    remedy: REMEDY
    every: 1h
    first_run: wait
"""


def config(*procedures: tuple[str, str, str], plugins: str = "") -> str:
    """Return a configuration of procedures: name, check, remedy."""
    made = [
        PROCEDURE.replace("NAME", name).replace("CHECK", check).replace("REMEDY", remedy)
        for name, check, remedy in procedures
    ]
    return HEAD.replace("PLUGINS", f", plugins: [{plugins}]" if plugins else "") + "".join(made)


@contextmanager
def looking_after(folder: Path, url: str, text: str) -> Iterator[Up]:
    """Start a prunella for a configuration of its own."""
    with FaultyServer() as nobody:
        up = start(folder, nobody, f"sqlite:///{folder / 'p.db'}", text, SHOP_DATABASE_URL=url)
        try:
            yield up
        finally:
            up.end()


def refusal(folder: Path, url: str, text: str) -> str:
    """Start a prunella that must not come up; return what it said."""
    with pytest.raises(AssertionError, match="did not come up") as refused, looking_after(folder, url, text):
        pass
    return str(refused.value)


@pytest.fixture(params=["sqlite", "postgresql"])
def shelf(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> Iterator[Shop]:
    """A shop with one table, once of each kind."""
    if request.param == "sqlite":
        with opened(f"sqlite:///{tmp_path / 'shop.db'}") as shop:
            yield stocked(shop)
        return
    with new_database() as url, opened(url) as shop:
        yield stocked(shop)


def stocked(shop: Shop) -> Shop:
    """Make the table."""
    shop.run("CREATE TABLE products (id integer PRIMARY KEY, stock_level integer, shown boolean)")
    shop.run("INSERT INTO products VALUES " + ", ".join(f"({n}, {0 if n < 3 else 5}, true)" for n in range(1, 51)))
    return shop


# At the start ---------------------------------------------------------------------------------------------------------


def test_every_wrong_name_is_told_at_once_with_its_place(shelf: Shop, tmp_path: Path) -> None:
    """A table, a column and a function that do not exist: each with file, line, column and what was probably meant."""
    text = config(
        ("one", "{rows: {table: product, where: {stock_level: 0}}}", "{set: {shown: false}}"),
        ("two", "{rows: {table: products, where: {stock_levle: 0}}}", "{set: {shown: false}}"),
        ("three", "{rows: {table: products, where: {stock_level: 0}}}", "reasign_vendor"),
    )
    said = refusal(tmp_path, shelf.url, text)
    assert re.search(r"prunella\.yaml:6:\d+ procedures\.one\.check\.rows\.table: .*did you mean products", said), said
    assert re.search(r"prunella\.yaml:12:\d+ procedures\.two\.check\.rows\.where\.stock_levle: .*stock_level", said), (
        said
    )
    assert re.search(r"prunella\.yaml:19:\d+ procedures\.three\.remedy.*reasign_vendor", said), said


def test_names_with_quotes_and_rules_without_a_filter_do_not_load(shelf: Shop, tmp_path: Path) -> None:
    """A quote in a name, a rule without a filter, `all` at L0 and a delete of young rows: refused with their places."""
    text = config(
        ("quoted", "{rows: {table: 'pro\"ducts', where: {stock_level: 0}}}", "{set: {shown: false}}"),
        ("unfiltered", "{rows: {table: products}}", "{set: {shown: false}}"),
        ("everything", "{rows: {table: products, where: all}}", "{set: {shown: false}}"),
        ("young", "{rows: {table: products, where: {stock_level: 0}}}", "archive_and_delete"),
    )
    said = refusal(tmp_path, shelf.url, text)
    for words in ("holds a quote", "where: is missing", "never healed without being told", "may be deleted only when"):
        assert words in said, said
    assert len(re.findall(r"prunella\.yaml:\d+:\d+ ", said)) >= 4


def test_a_plug_in_that_is_not_there_is_named(shelf: Shop, tmp_path: Path) -> None:
    """The module, why it can't be imported, and what to do."""
    check = "{rows: {table: products, where: {stock_level: 0}}}"
    said = refusal(tmp_path, shelf.url, config(("one", check, "mine"), plugins="shop.nowhere"))
    assert "shop.nowhere can't be imported" in said
    assert "PYTHONPATH" in said


def test_a_pool_of_a_file_is_refused(tmp_path: Path) -> None:
    """SQLite has no connections to count."""
    with opened(f"sqlite:///{tmp_path / 'shop.db'}") as shop:
        said = refusal(tmp_path, stocked(shop).url, config(("pool", "{pool: {above: 0.8}}", "end_idle_connections")))
        assert "prunella.yaml:6:19 procedures.pool.check.pool: database shop is SQLite, a file" in said


def test_a_database_that_is_away_at_the_start_is_looked_after_once_it_is_back(
    tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """It comes up, says what waits for what, answers 503 meanwhile, and heals when the database answers."""
    with new_database() as url, opened(url) as shop:
        stocked(shop)
        socket = str(psycopg.conninfo.conninfo_to_dict(url)["host"])
        door = tmp_path / "door"
        away = make_url(url).set(query={**make_url(url).query, "host": str(door)}).render_as_string(hide_password=False)
        check = "{rows: {table: products, where: {stock_level: 0, shown: true}}}"
        with looking_after(tmp_path, away, config(("hide", check, "{set: {shown: false}}"))) as up:
            assert any("shop" in line and "wait until it answers" in line for line in up.lines), up.lines
            reply = up.act("POST", "/api/v1/procedures/hide/run", {})
            assert (reply.status_code, "database shop" in reply.json()["detail"]) == (503, True)
            door.symlink_to(socket)
            eventually(lambda: up.act("POST", "/api/v1/procedures/hide/run", {}).status_code == 200)
            assert shop.rows("SELECT count(*) FROM products WHERE NOT shown") == [(2,)]


# Under way ------------------------------------------------------------------------------------------------------------


def test_a_table_that_goes_under_way_stops_its_procedure_only(healed_shop: Store) -> None:
    """The next look says which table is gone; nothing else stops; once it is back it is looked after again."""
    healed_shop.fill("DROP TABLE drafts")
    reply = healed_shop.ask("POST", "/api/v1/procedures/drop-drafts/run", {})
    assert (reply.status_code, "drafts" in reply.json()["detail"]) == (502, True), reply.text
    assert healed_shop.ask("POST", "/api/v1/procedures/hide-shelves/run", {}).status_code == 200
    healed_shop.fill("CREATE TABLE drafts (id integer PRIMARY KEY, state text NOT NULL, created_at MOMENT)")
    assert healed_shop.run("drop-drafts")["found"] == 0


def test_plug_ins_that_raise_hang_or_talk_nonsense_fail_with_their_reason(healed_shop: Store) -> None:
    """Each attempt fails with its reason, without secrets; the worker lives and heals the next one."""
    healed_shop.fill("DELETE FROM odd_orders")
    states = ("PENDING", "CONFIRMED", "ACCEPTED", "PROCESSING")
    rows = ", ".join(f"({n}, '{state}', AGO(7200))" for n, state in enumerate(states, 900))
    healed_shop.fill(f"INSERT INTO odd_orders VALUES {rows}")
    for number in range(900, 904):
        healed_shop.ask("POST", f"/api/v1/self-healing/heal/{number}?entity=odd-order", {})
    runs = {one["resource"]: one for one in healed_shop.items("runs", procedure="stuck-odd-order")}
    assert "explodes raised RuntimeError: boom" in runs["900"]["detail"]
    assert "sk_live_1234567890abcdef" not in runs["900"]["detail"]
    assert "hangs did not end within 0.3 s" in runs["901"]["detail"]
    assert "talks_nonsense returned int" in runs["902"]["detail"]
    assert {runs[one]["state"] for one in ("900", "902")} == {"failed"}
    assert runs["901"]["state"] == "timed_out"
    assert runs["903"]["state"] == "verified"


def test_more_rows_than_may_be_touched_are_taken_in_parts(healed_shop: Store) -> None:
    """60 rows match and targets_max is 30: one run changes 30 and says that 60 match."""
    healed_shop.fill("DELETE FROM shelves")
    healed_shop.run("hide-shelves")
    healed_shop.fill(
        "INSERT INTO shelves VALUES " + ", ".join(f"({n}, {0 if n <= 60 else 5}, true)" for n in range(1, 601))
    )
    swept = healed_shop.run("hide-shelves")
    assert (swept["plan"]["count"], swept["plan"]["matching"], swept["runs"][0]["rows"]) == (30, 60, 30)
    assert healed_shop.rows("SELECT count(*) FROM shelves WHERE NOT shown") == [(30,)]


def test_names_of_every_kind_are_quoted(healed_shop: Store) -> None:
    """A table called `select; DROP` with columns called `Group By` and `moved at` is healed like any other."""
    healed_shop.fill('INSERT INTO "select; DROP" VALUES (1, 1, AGO(600)), (2, 7, AGO(600))')
    assert healed_shop.run("odd-names")["runs"][0]["rows"] == 1
    assert healed_shop.rows('SELECT "Id", "Group By" FROM "select; DROP" ORDER BY 1') == [(1, 2), (2, 7)]


def test_a_role_that_sees_or_may_too_little_is_told_so(
    tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """Row-level security that hides everything is no "nothing to heal"; a missing right names the command that helps."""
    with new_database() as url, opened(url) as shop:
        stocked(shop)
        shop.run("CREATE TABLE hidden (id integer PRIMARY KEY, stock integer, shown boolean)")
        shop.run("INSERT INTO hidden VALUES (1, 0, true)", "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
        role = shop.role("little", "GRANT SELECT ON hidden TO {role}")
        text = config(
            ("blind", "{rows: {table: hidden, where: {stock: 0}}}", "{set: {shown: false}}"),
            ("forbidden", "{rows: {table: products, where: {stock_level: 0}}}", "{set: {shown: false}}"),
        )
        with looking_after(tmp_path, role, text) as up:
            for name, table in (("blind", "hidden"), ("forbidden", "products")):
                reply = up.act("POST", f"/api/v1/procedures/{name}/run", {})
                assert reply.status_code == 502, reply.text
                assert table in reply.json()["detail"]
                assert "prunella db grant --print" in reply.json()["detail"]
