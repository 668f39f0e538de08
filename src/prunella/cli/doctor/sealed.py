"""What is stored under a key: whether the keys at hand open it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import psycopg

from prunella.app import sqlite_path
from prunella.cli.doctor.configured import keys_text
from prunella.cli.doctor.flaw import Flaw, error
from prunella.core.clock import SystemClock
from prunella.core.errors import PrunellaError, SecretError
from prunella.settings import Settings
from prunella.store.postgres import PostgresStore
from prunella.store.sealed import SealedRows
from prunella.store.secrets import TO_OPEN_AGAIN, Keys, unopened
from prunella.store.session import Session
from prunella.store.sqlite import SqliteStore


async def examine(settings: Settings) -> list[Flaw]:
    """Look at which keys sealed what is stored; nothing is opened. Only where the tables are as they should be."""
    found = keys_text(settings)
    if found is None:
        return []
    shown, text = found
    try:
        keys = Keys.parse(text, shown)
    except SecretError:  # told with the settings
        return []
    try:
        async with _rows(settings) as rows:
            closed = await unopened(rows, keys)
    except (PrunellaError, psycopg.Error) as wrong:
        return [error("database", str(wrong))]
    return [] if closed is None else [error("key", closed, TO_OPEN_AGAIN)]


@asynccontextmanager
async def _rows(settings: Settings) -> AsyncIterator[SealedRows]:
    path = sqlite_path(settings.database_url)
    if path is not None:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:  # no lock: a process may be at work
            yield SealedRows(Session(SqliteStore(database, SystemClock())))
        return
    store = await PostgresStore.open(settings.database_url, connections_max=1)
    try:
        async with store.transaction() as tx:
            yield tx.sealed
    finally:
        await store.close()
