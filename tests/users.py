"""A user's database for tests: opened, filled by plain SQL, closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prunella.core.procedures import DatabaseSource
from prunella.core.redact import Secret
from prunella.databases.handle import Database


@asynccontextmanager
async def opened(url: str, *statements: str, **source: Any) -> AsyncIterator[Database]:
    """Open a database, run statements in it, and close it at the end."""
    database = Database(DatabaseSource(name="shop", url=Secret(url), **source))
    try:
        await run(database, *statements)
        yield database
    finally:
        await database.close()


async def run(database: Database, *statements: str) -> None:
    """Run statements as they are, in one transaction."""

    def all_of_them(connection: Any) -> None:
        for one in statements:
            connection.exec_driver_sql(one.replace("%", "%%") if database.kind == "postgresql" else one)

    await database.writing(all_of_them)


async def rows(database: Database, sql: str) -> Sequence[tuple[Any, ...]]:
    """Return what a query finds."""
    plain = sql.replace("%", "%%") if database.kind == "postgresql" else sql
    return await database.reading(lambda connection: [tuple(one) for one in connection.exec_driver_sql(plain)])
