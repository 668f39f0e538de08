"""Duplicates become updates and missing fields their defaults, only where that was asked for, and never silently."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, Table, create_engine, insert, make_url, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from prunella.core.errors import DatabaseRefused
from prunella.databases import Healed, Healing, insert_or_update, with_defaults

TABLE = """CREATE TABLE "the products" (id integer PRIMARY KEY, sku text NOT NULL, shop text NOT NULL, ean text UNIQUE,
    price integer NOT NULL CHECK (price >= 0), note text, UNIQUE (shop, sku))"""


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """Return a connection to a shop with one product, once of each kind of database."""
    if request.param == "sqlite":
        url = make_url(f"sqlite:///{tmp_path}/shop.db")
    else:
        url = make_url(request.getfixturevalue("fresh_postgres_url")).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.connect() as opened:
        opened.exec_driver_sql(TABLE)
        opened.exec_driver_sql("""INSERT INTO "the products" VALUES (1, 'a', 's', 'e1', 5, 'old')""")
        opened.commit()
        yield opened
        opened.rollback()
    engine.dispose()


def product(id: int, sku: str = "x", **fields: Any) -> dict[str, Any]:
    """Return a record."""
    return {"id": id, "sku": sku, "shop": "s", "price": 7, **fields}


def stored(connection: Connection) -> list[tuple[Any, ...]]:
    """Return what stands in the table."""
    return [
        tuple(one) for one in connection.execute(text('SELECT id, sku, price, note FROM "the products" ORDER BY id'))
    ]


def test_each_record_has_its_result(connection: Connection) -> None:
    """New ones are inserted, a duplicate updates the row of its key, what breaks anything else fails with its reason."""
    told: list[Healed] = []
    records = [
        product(2, "b"),
        product(3, "a", note="new"),
        product(4, "d", ean="e1"),
        product(1, "e"),
        product(6, "f", price=-1),
        product(7, "b", price=8),
    ]
    results = insert_or_update(connection, "the products", records, conflict=["shop", "sku"], listener=told.append)
    assert [one.action for one in results] == ["inserted", "upserted", "failed", "failed", "failed", "upserted"]
    assert all(one.reason for one in results if one.action == "failed")
    assert stored(connection) == [(1, "a", 7, "new"), (2, "b", 8, None)]
    assert told == [Healed(procedure="HEAL_SYNC_003", table="the products", columns=("shop", "sku"))] * 2


def test_only_the_named_key_turns_an_insert_into_an_update(connection: Connection) -> None:
    """A duplicate of another unique key is a failure, even where the records are otherwise fine."""
    (result,) = insert_or_update(connection, "the products", [product(9, "a")], conflict=["ean"])
    assert result.action == "failed"
    (taken,) = insert_or_update(
        connection, "the products", [product(9, "z", ean="e1")], conflict=["ean"], update=["price"]
    )
    assert taken.action == "upserted"
    assert stored(connection) == [(1, "a", 7, "old")]


def test_many_records_go_in_few_statements(connection: Connection) -> None:
    """One bad record among many costs some statements more, and none of the others."""
    records = [product(n, f"k{n}", price=-1 if n == 777 else 1) for n in range(2, 1002)]
    results = insert_or_update(connection, "the products", records, conflict=["shop", "sku"])
    assert [one.record["id"] for one in results if one.action == "failed"] == [777]
    assert [one.record["id"] for one in results] == [one["id"] for one in records]
    assert len(stored(connection)) == 1000


def test_missing_field_gets_its_default_and_is_told(connection: Connection) -> None:
    """A required field without a value is filled from a constant or a function; the result and the listener say so."""
    told: list[Healed] = []
    record = {"id": 2, "sku": "b", "price": None}
    defaults = {"shop": lambda: "s", "price": 0, "note": "unused"}
    result = with_defaults(connection, "the products", record, defaults, listener=told.append)
    assert (result.action, result.filled) == ("inserted", {"shop": "s", "price": 0})
    assert result.record == {"id": 2, "sku": "b", "shop": "s", "price": 0}
    assert stored(connection)[1] == (2, "b", 0, None)
    assert [(one.procedure, set(one.columns)) for one in told] == [("HEAL_DATA_001", {"shop", "price"})]
    assert record == {"id": 2, "sku": "b", "price": None}


@pytest.mark.parametrize("record", [{"id": 2, "shop": "s", "price": 1}, product(1), product(2, price=-1)])
def test_what_no_default_heals_is_raised_unchanged(connection: Connection, record: Any) -> None:
    """Without a declared default, or where something else is wrong, the database's own error reaches the caller."""
    with pytest.raises(IntegrityError):
        with_defaults(connection, "the products", record, {"shop": "s", "price": 0})
    assert stored(connection) == [(1, "a", 5, "old")]


def test_default_never_replaces_what_stands_there(connection: Connection) -> None:
    """A record that lacks a price, and whose key is taken, leaves the price of the row as it is."""
    record = {"id": 9, "sku": "a", "shop": "s", "note": "new"}
    (result,) = insert_or_update(connection, "the products", [record], conflict=["shop", "sku"], defaults={"price": 0})
    assert (result.action, result.filled) == ("upserted", {})
    assert [one[2:] for one in stored(connection)] == [(5, "new")]


def test_rows_of_a_trigger_are_not_the_records_own(connection: Connection) -> None:
    """A violation in another table, met by a trigger, heals nothing here."""
    if connection.dialect.name != "postgresql":
        connection.exec_driver_sql("CREATE TABLE other (price integer NOT NULL)")
        connection.exec_driver_sql(
            'CREATE TRIGGER t AFTER INSERT ON "the products" BEGIN INSERT INTO other VALUES (NULL); END'
        )
    else:
        connection.exec_driver_sql("CREATE TABLE other (price integer NOT NULL)")
        connection.exec_driver_sql(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO other VALUES (NULL); RETURN NEW; END'"
        )
        connection.exec_driver_sql('CREATE TRIGGER t AFTER INSERT ON "the products" FOR EACH ROW EXECUTE FUNCTION f()')
    with pytest.raises(IntegrityError):
        with_defaults(connection, "the products", product(2), {"price": 0})


def test_unknown_column_is_refused(connection: Connection) -> None:
    """A key or a default of a column that does not exist is a mistake of the caller."""
    with pytest.raises(DatabaseRefused, match="did you mean sku"):
        insert_or_update(connection, "the products", [], conflict=["skuu"])


class Base(DeclarativeBase):
    """What mapped classes of these tests are made of."""


class Product(Base):
    """A mapped class."""

    __tablename__ = "the products"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    shop: Mapped[str]
    amount: Mapped[int | None] = mapped_column("price")


def test_session_heals_what_it_inserts(connection: Connection) -> None:
    """Core inserts and mapped objects heal through one wrapper; other statements pass."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        healing = Healing(session, conflict={"the products": ["shop", "sku"]}, defaults={"the products": {"price": 3}})
        products = Table("the products", MetaData(), autoload_with=connection)
        assert healing.execute(insert(products), product(2, "a"))[0].action == "upserted"
        (added,) = healing.add(Product(id=5, sku="n", shop="s"))
        assert (added.action, added.filled) == ("inserted", {"price": 3})
        assert healing.execute(text("SELECT 1")).scalar() == 1
        session.commit()
    assert [one[1:3] for one in stored(connection)] == [("a", 7), ("n", 3)]
