"""The audit is appended to and sealed; the database itself refuses everything else, whoever asks."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import make_url

from prunella.core.errors import Conflict
from prunella.core.records import Seal
from prunella.store.contract import Store
from store.making import Outside, at, entry, opened, resolved

pytestmark = pytest.mark.anyio
COLUMNS = ("id", "at", "actor", "action", "target", "incident_id", "reason", "details", "seal")
SEAL_COLUMNS = ("number", "previous", "content", "digest", "entries", "sealed_at", "forgotten_at")
NEW = {
    "at": "'2026-01-02T00:00:00+00:00'",
    "sealed_at": "'2026-01-02T00:00:00+00:00'",
    "details": """'{"b": 2}'""",
    "seal": "7",
}
NEW |= {"number": "7", "entries": "7", "forgotten_at": "NULL"}


def seal(number: int = 1, **changed: object) -> Seal:
    fields: dict[str, object] = {
        "number": number, "previous": "", "content": "c", "digest": f"d{number}", "entries": 1, "sealed_at": at(-9),
    }  # fmt: skip
    return Seal(**{**fields, **changed})  # type: ignore[arg-type]  # a test names what it likes


def refused(database_url: str, statement: str) -> str:
    """Return how the database refuses a statement; "" where it does not."""
    try:
        if database_url.startswith("sqlite"):
            with closing(sqlite3.connect(make_url(database_url).database or "", isolation_level=None)) as file:
                file.execute(statement)
        else:
            with psycopg.connect(database_url, autocommit=True, options="-csearch_path=prunella") as connection:
                connection.execute(statement.encode())
    except (sqlite3.DatabaseError, psycopg.Error) as error:
        return str(error).partition("\n")[0]
    return ""


async def sealed(store: Store) -> None:
    """Write two entries, one of them sealed."""
    async with store.transaction() as tx:
        await tx.audit.add([entry(1, at=at(-9), details={"a": 1}), entry(2, at=at(-9))])
        await tx.seals.put(seal(), ["entry-1"])


@pytest.mark.parametrize("name", COLUMNS)
async def test_no_column_of_an_entry_can_be_changed(store: Store, database_url: str, name: str) -> None:
    """Neither of a sealed entry nor of one that waits, but that the latter is sealed; not even to nothing."""
    await sealed(store)
    words = "append-only; an entry is sealed once"
    value = NEW.get(name, "'x'")
    assert words in refused(database_url, f"UPDATE audit SET {name} = {value} WHERE id = 'entry-1'")
    if name != "seal":
        assert words in refused(database_url, f"UPDATE audit SET {name} = {value} WHERE id = 'entry-2'")
        assert words in refused(database_url, f"UPDATE audit SET {name} = {value}, seal = 2 WHERE id = 'entry-2'")
    assert refused(database_url, "UPDATE audit SET seal = 2 WHERE id = 'entry-2'") == ""


@pytest.mark.parametrize("name", SEAL_COLUMNS)
async def test_no_column_of_a_seal_can_be_changed(store: Store, database_url: str, name: str) -> None:
    """But that it is marked as forgotten, once."""
    await sealed(store)
    words, value = "seals are append-only", NEW.get(name, "'x'")
    mark = "forgotten_at = '2026-02-01T00:00:00+00:00'"
    assert words in refused(database_url, f"UPDATE seals SET {name} = {value}")
    if name != "forgotten_at":
        assert words in refused(database_url, f"UPDATE seals SET {name} = {value}, {mark}")
    assert refused(database_url, f"UPDATE seals SET {mark}") == ""
    assert words in refused(database_url, "UPDATE seals SET forgotten_at = NULL")
    assert words in refused(database_url, f"UPDATE seals SET {mark}")


async def test_nothing_is_deleted_but_what_stands_under_a_forgotten_seal(store: Store, database_url: str) -> None:
    """No entry, no seal, not the whole table; after retention's mark the entries go, and the seal stays."""
    await sealed(store)
    for statement in ("DELETE FROM audit WHERE id = 'entry-1'", "DELETE FROM audit WHERE id = 'entry-2'"):
        assert "entries go with their seal" in refused(database_url, statement)
    assert "seals are append-only" in refused(database_url, "DELETE FROM seals")
    if not database_url.startswith("sqlite"):
        assert "entries go with their seal" in refused(database_url, "TRUNCATE audit")
        assert "seals are append-only" in refused(database_url, "TRUNCATE seals")
    async with store.transaction() as tx:
        assert await tx.seals.forget(1, at(0)) == 1
        assert [one.id for one in await tx.audit.list(most=9)] == ["entry-2"]
        assert (await tx.seals.get(1)) == seal(forgotten_at=at(0))
    assert "seals are append-only" in refused(database_url, "DELETE FROM seals")


async def test_entry_gets_one_seal(store: Store) -> None:
    """Who puts a second seal on an entry has a conflict, and leaves no seal behind."""
    await sealed(store)
    with pytest.raises(Conflict):
        async with store.transaction() as tx:
            await tx.seals.put(seal(2), ["entry-1", "entry-2"])
    async with store.transaction() as tx:
        assert await tx.seals.last() == seal(1)
        assert (await tx.seals.count_unsealed(), await tx.seals.astray()) == (1, None)


async def test_old_are_seals_of_which_everything_may_go(store: Store, outside: Outside) -> None:
    """Sealed long ago, each entry as old, and about no incident that is still there, resolved or not."""
    await opened(store, 1)
    await resolved(store, 2, at(-5))
    entries = [
        entry("a", at=at(-9), incident_id="gone"),
        entry("b", at=at(-9)),
        entry("k1", at=at(-9), incident_id="incident-1"),
        entry("k2", at=at(-9), incident_id="incident-2"),
        entry("k3", at=at(1)),
        entry("k4", at=at(-9)),
    ]
    async with store.transaction() as tx:
        await tx.audit.add(entries)
        await tx.seals.put(seal(1, entries=2), ["entry-a", "entry-b"])
        for number, name in ((2, "k1"), (3, "k2"), (4, "k3")):
            await tx.seals.put(seal(number), [f"entry-{name}"])
        await tx.seals.put(seal(5, sealed_at=at(1)), ["entry-k4"])
        assert await tx.seals.old(at(0), 9) == [1]
        assert await tx.seals.forget(1, at(0)) == 2
        assert await tx.seals.old(at(0), 9) == []
    assert len(outside("SELECT id FROM audit")) == 4


async def test_unsealed_are_those_that_settled(store: Store) -> None:
    """Younger ones wait; the order is that of the ids."""
    async with store.transaction() as tx:
        await tx.audit.add([entry(3, at=at(-3)), entry(1, at=at(-1)), entry(2, at=at(0))])
        assert [one.id for one in await tx.seals.unsealed(at(0), 9)] == ["entry-1", "entry-3"]
        assert [one.id for one in await tx.seals.unsealed(at(0), 1)] == ["entry-1"]
