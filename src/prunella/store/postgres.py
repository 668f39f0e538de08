"""The store on PostgreSQL: psycopg 3 with a pool, tables in the schema `prunella`, the database's own clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from prunella.core.clock import AnchoredClock
from prunella.core.errors import Conflict, StoreUnavailable
from prunella.store.contract import Transaction
from prunella.store.sql import Bound, Dialect, PostgresDialect

_ANCHOR_EVERY_S = 30.0  # a host's oscillator drifts by at most some 10 ms in a day
_NETWORK: dict[str, str | int | None] = {
    "application_name": "prunella",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""How long a silent network is believed in: 25 s at most, where the system's own limit is a quarter of an hour.

The address may name its own values (PostgreSQL manual, libpq, "Parameter Key Words").
"""


class _Connection:
    """One pooled connection inside its transaction."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], dialect: Dialect) -> None:
        self.dialect = dialect
        self.driver = connection

    async def run(self, text: str, values: Bound) -> tuple[Sequence[Sequence[Any]], int]:
        cursor = await self.driver.execute(text.encode(), values, prepare=True)
        rows = await cursor.fetchall() if cursor.description else ()
        return rows, cursor.rowcount


class PostgresStore:
    """prunella's tables in a PostgreSQL database that several processes may share."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self.clock = AnchoredClock()
        self._pool = pool
        self._dialect = PostgresDialect()
        self._anchored_at = float("-inf")

    @classmethod
    async def open(cls, url: str, *, connections_max: int = 8, wait_s: float = 5.0) -> PostgresStore:
        """Connect; `StoreUnavailable` when the database does not answer.

        Args:
            wait_s: how long a request waits for a connection, at the start and in an outage.
        """
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            make_conninfo("", **{**_NETWORK, **conninfo_to_dict(url)}),
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=wait_s,
            reconnect_timeout=wait_s,  # then the next request tries at once: no long back-off once the outage is over
            kwargs={"autocommit": True},
        )
        store = cls(pool)
        try:
            await pool.open(wait=True, timeout=wait_s)
            await store._anchor()
        except PoolTimeout as error:
            await pool.close()
            raise _unavailable(error) from error
        except BaseException:
            await pool.close()
            raise
        return store

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction on a pooled connection."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        await self._anchor()
        async with self._connected() as connection, connection.transaction():
            transaction = Transaction(_Connection(connection, self._dialect))
            yield transaction
        for action in transaction.after_commit:
            action()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend a connection; one that broke takes the others of its time along, so that not each request finds one."""
        try:
            async with self._pool.connection() as connection:
                try:
                    yield connection
                finally:
                    if connection.broken:
                        await self._pool.drain()
        except (pg.DeadlockDetected, pg.SerializationFailure) as error:
            raise Conflict("PostgreSQL ended the transaction in favour of another; try again") from error
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise _unavailable(error) from error

    async def ping(self) -> None:
        """Raise `StoreUnavailable` unless the database answers."""
        async with self._connected() as connection:
            await connection.execute("SELECT 1")

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def _anchor(self) -> None:
        """Follow the database's clock, so that a jump of this host's clock moves no due time."""
        if self.clock.monotonic() - self._anchored_at < _ANCHOR_EVERY_S:
            return
        async with self._connected() as connection:
            row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
        assert row is not None
        self.clock.anchor(row[0])
        self._anchored_at = self.clock.monotonic()


def _unavailable(error: Exception) -> StoreUnavailable:
    kind = type(error).__name__  # the text of connection errors may hold the DSN
    return StoreUnavailable(f"PostgreSQL does not answer ({kind}); nothing of this request was recorded")
