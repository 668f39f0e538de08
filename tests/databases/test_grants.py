"""The role that is printed can do what the configuration asks for, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ProgrammingError

from checks.test_stuck import ORDER
from databases.shop import Shop
from prunella.core.errors import ConfigError
from prunella.core.procedures import (
    ArchiveAndDeleteRemedy,
    DatabaseSource,
    EndIdleRemedy,
    FreshnessCheck,
    OrphansCheck,
    PluginCheck,
    PoolCheck,
    Procedure,
    RowsCheck,
    SetRemedy,
)
from prunella.core.redact import Secret
from prunella.databases.grants import grant_sql


def procedure(name: str, check: Any, remedy: Any = None, database: str = "shop") -> Procedure:
    """Return a procedure."""
    return Procedure(name=name, id=name, check=check, remedy=remedy, database=database)


HIDE = procedure("hide", RowsCheck(table="products", where={"stock": 0}), SetRemedy(values={"visible": False}))
ORPHANS = procedure(
    "orphans", OrphansCheck(child="messages", column="up", parent="conversations"), ArchiveAndDeleteRemedy()
)
FRESH = procedure("fresh", FreshnessCheck(table="stock", column="at", older_than_s=1))
POOL = procedure("pool", PoolCheck(), EndIdleRemedy())
ELSEWHERE = procedure("other", FreshnessCheck(table="secrets", column="at", older_than_s=1), database="other")


def source(url: str = "postgresql://boss:hunter2@db.example/shop", **options: Any) -> DatabaseSource:
    """Return a database of the configuration."""
    return DatabaseSource(name="shop", url=Secret(url), **options)


def test_grants_do_what_is_needed_and_nothing_else(pg_shop: Shop) -> None:
    """Run as printed: every act of the procedures works, every other is refused by the database."""
    pg_shop.run(
        "CREATE TABLE products (id int PRIMARY KEY, stock int, visible boolean)",
        "CREATE TABLE messages (id int PRIMARY KEY, up int)",
        "CREATE TABLE conversations (id int PRIMARY KEY)",
        "CREATE TABLE stock (at timestamptz)",
        "CREATE TABLE orders (id int PRIMARY KEY, status text, updated_at timestamptz, total int)",
        "CREATE TABLE secrets (at timestamptz)",
        "REVOKE ALL ON SCHEMA public FROM public",
    )
    role = f"healer_{make_url(pg_shop.url).database}"
    script = grant_sql([HIDE, ORPHANS, FRESH, ELSEWHERE], [ORDER], source(pg_shop.url), role)
    pg_shop.run(script)
    pg_shop.run(f"ALTER ROLE {role} PASSWORD 'none'")
    pg_shop.roles.append(role)
    url = make_url(pg_shop.url).set(drivername="postgresql+psycopg", username=role, password="none")
    engine = create_engine(url)

    def allowed(statement: str) -> bool:
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(statement)
        except ProgrammingError as error:
            return not re.search("permission denied|must be", str(error))
        return True

    may = (
        "SELECT * FROM products, messages, conversations, stock, orders",
        "UPDATE products SET visible = false WHERE id = 1",
        "SELECT * FROM products FOR UPDATE",
        "DELETE FROM messages WHERE id = 1",
        "INSERT INTO messages VALUES (1, 2)",
        "UPDATE orders SET status = 'x', updated_at = now()",
        "INSERT INTO prunella.archive (run_id, table_name, key, before) VALUES ('r', 't', 'k', '{}')",
        "UPDATE prunella.archive SET undone_at = now()",
    )
    may_not = (
        "SELECT * FROM secrets",
        "UPDATE products SET stock = 5",
        "DELETE FROM products",
        "DELETE FROM conversations",
        "UPDATE messages SET up = 1",
        "UPDATE stock SET at = now()",
        "UPDATE orders SET total = 0",
        "DELETE FROM orders",
        "DELETE FROM prunella.archive",
        "DROP TABLE messages",
        "CREATE TABLE public.mine (id int)",
        "CREATE ROLE another",
    )
    try:
        assert [one for one in may if not allowed(one)] == []
        assert [one for one in may_not if allowed(one)] == []
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"
    finally:
        engine.dispose()


def test_grants_give_no_view_of_connections_without_a_pool() -> None:
    """pg_monitor and pg_signal_backend come with the procedure that needs them."""
    assert "pg_" not in grant_sql([HIDE], [], source(), "healer")
    script = grant_sql([POOL], [], source(), "healer")
    assert 'GRANT pg_monitor TO "healer"' in script
    assert 'GRANT pg_signal_backend TO "healer"' in script
    assert "archive" not in script


def test_grants_hold_no_password_and_quote_every_name() -> None:
    """The owner's password is not in it; a name with a quote or a line break stays a name."""
    evil = procedure("x", RowsCheck(table='a"; DROP TABLE b; --', where={}), SetRemedy(values={'c"d': 1}))
    plugin = procedure("line\nDROP TABLE c;", PluginCheck(name="mine"))
    script = grant_sql([evil, plugin], [replace(ORDER, name="x\nDROP TABLE d;")], source(schema="s s"), 'ro"le')
    assert "hunter2" not in script
    assert '"s s"."a""; DROP TABLE b; --"' in script
    assert 'GRANT UPDATE ("c""d")' in script
    assert 'TO "ro""le"' in script
    assert not [line for line in script.splitlines() if line.startswith("DROP")]
    for name in ("", "a\0b", "x" * 64):
        with pytest.raises(ConfigError, match="can't be a name in PostgreSQL"):
            grant_sql([], [], source(), name)


def test_grants_say_where_there_are_no_roles() -> None:
    """SQLite has none; for MySQL the tables are named."""
    assert "knows no roles" in grant_sql([HIDE], [], source("sqlite:///shop.db"), "healer")
    assert "products" in grant_sql([HIDE], [], source("mysql+pymysql://boss@db.example/shop"), "healer")
