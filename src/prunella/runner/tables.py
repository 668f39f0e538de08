"""The queue's tables: made once, in our schema, and asked one statement at a time, through outages.

What is asked stands in `rows` and `takeover`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.schema import SchemaManager
from psycopg.errors import DeadlockDetected, ReadOnlySqlTransaction
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from prunella.core.clock import Clock
from prunella.core.errors import Conflict, StoreUnavailable

SCHEMA = "prunella"
INSERT = (
    f"INSERT INTO {SCHEMA}.procrastinate_jobs AS job (queue_name, task_name, lock, queueing_lock, args, scheduled_at)"
)
WAITING = "ON CONFLICT (queueing_lock) WHERE status = 'todo' DO UPDATE SET"
"""Where a key waits already; it follows on `INSERT`."""
_OUTAGE_S = 1.0
_CONNECTIONS_MAX = 4
_PATIENCE_S = 5.0
_TRIES = 5
_LAST_PATIENCE_S = 2.0  # while it stops: what cannot be said any more is found out by the others
_LOCK = 7_077_853  # any number of our own: two processes that start together make the queue's tables once

Result = TypeVar("Result")

_FUNCTIONS = f"""
SELECT format('ALTER FUNCTION %s SET search_path = {SCHEMA}, pg_temp', oid::regprocedure) FROM pg_proc
WHERE pronamespace = '{SCHEMA}'::regnamespace AND proname LIKE 'procrastinate%'
"""  # noqa: S608


async def install(url: str) -> None:
    """Make the queue's tables where they are missing; they stand in the schema of ours, never in `public`."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if await _has_tables(connection):
            return
        await connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
        await connection.execute(SchemaManager.get_schema().encode())
        functions = await (await connection.execute(_FUNCTIONS)).fetchall()
        for (change,) in functions:  # its triggers run in transactions of ours, whose search path is the user's
            await connection.execute(change.encode())


async def installed(url: str) -> bool:
    """Tell whether the queue's tables are there."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await _has_tables(connection)


async def _has_tables(connection: psycopg.AsyncConnection[Any]) -> bool:
    found = await (await connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.procrastinate_jobs",))).fetchone()
    return found is not None and found[0] is not None


class Tables:
    """Connections to the queue's tables, and every question to them; each is one statement and names its schema.

    Args:
        pooled: behind a pooler that lends connections per transaction no statement is prepared.
    """

    def __init__(self, url: str, clock: Clock, *, pooled: bool) -> None:
        self.connector: PsycopgConnector = PsycopgConnector()  # it listens; all else goes through the pool below
        self.stopping = False
        self._clock = clock
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            url,
            open=False,
            kwargs={"prepare_threshold": None} if pooled else {},
            configure=_configure,
            min_size=1,
            max_size=_CONNECTIONS_MAX,
            reconnect_timeout=_OUTAGE_S,
        )

    async def open(self) -> None:
        """Begin to connect, without waiting for it."""
        if self._pool.closed:
            await self._pool.open()
            await self.connector.open_async(self._pool)

    async def close(self) -> None:
        """Give every connection back."""
        await self._pool.close()

    async def ask(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Run one statement, again where another worker was quicker.

        Raises:
            StoreUnavailable: the database does not answer.
            Conflict: five times in a row PostgreSQL ended it in favour of others.
        """
        for _ in range(_TRIES):
            with suppress(DeadlockDetected):
                return await self._once(statement, values)
        raise Conflict("PostgreSQL ended a statement about the queue in favour of others, five times; try again")

    async def _once(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            await self.open()
            patience_s = _LAST_PATIENCE_S if self.stopping else _PATIENCE_S
            async with self._pool.connection(patience_s) as connection:
                try:
                    cursor = await connection.cursor(row_factory=dict_row).execute(statement.encode(), values)
                    return await cursor.fetchall() if cursor.description else []
                finally:
                    if connection.broken:  # so are the others of its time
                        await self._pool.drain()
        except DeadlockDetected:  # an OperationalError, too, and no outage
            raise
        except (psycopg.OperationalError, ReadOnlySqlTransaction, PoolTimeout) as error:
            raise StoreUnavailable(f"PostgreSQL does not answer ({type(error).__name__})") from error

    async def insist(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask until the database answers, or this process is to stop."""
        while True:
            try:
                return await ask()
            except (StoreUnavailable, ConnectorException):
                if self.stopping:
                    raise
            await self._clock.sleep(_OUTAGE_S)


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)  # each question is one statement: no BEGIN and COMMIT around it
