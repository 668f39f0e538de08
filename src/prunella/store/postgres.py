"""The store on PostgreSQL: psycopg 3 with a pool, tables in the schema `prunella`, the database's own clock."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from prunella.core.clock import AnchoredClock
from prunella.core.errors import StoreError, StoreUnavailable
from prunella.store import scope
from prunella.store.contract import Transaction
from prunella.store.pooling import is_pooled
from prunella.store.sql import Bound, Dialect, PostgresDialect
from prunella.store.troubles import state_of, translated

_log = logging.getLogger(__name__)
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings name the address; we tell an outage ourselves
_FROZEN_S = 10.0
"""So long may a transaction stand still: a frozen process, or a host without power, would keep its locks for hours."""
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


def address(url: str) -> str:
    """Return the address with what it does not say itself about how long the network is believed in."""
    return make_conninfo("", **{**_NETWORK, **conninfo_to_dict(url)})


class _Connection:
    """One pooled connection inside its transaction."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], dialect: Dialect) -> None:
        self.dialect = dialect
        self.driver = connection

    async def run(self, text: str, values: Bound) -> tuple[Sequence[Sequence[Any]], int]:
        cursor = await self.driver.execute(text.encode(), values, prepare=True)  # not where it has no threshold
        rows = await cursor.fetchall() if cursor.description else ()
        return rows, cursor.rowcount


class _Refusal:
    """Why the last connection was refused: the pool tells only that none came."""

    state: str | None = None


class _Dialled(psycopg.AsyncConnection[Any]):
    """A connection that leaves word when it is refused."""

    @classmethod
    async def connect(cls, conninfo: str = "", **how: Any) -> Self:
        """Connect, or note the reason in the argument `refusal`."""
        refusal: _Refusal = how.pop("refusal")
        try:
            opened = await super().connect(conninfo, **how)
        except psycopg.Error as error:
            refusal.state = state_of(error)
            raise
        refusal.state = None
        return opened


class PostgresStore:
    """prunella's tables in a PostgreSQL database that several processes may share.

    Attributes:
        pooled: a transaction pooler stands before it, so nothing may be kept in a session (see store/pooling.py).
    """

    def __init__(self, pool: AsyncConnectionPool[Any], refusal: _Refusal) -> None:
        self.clock = AnchoredClock()
        self.pooled = True  # until it is known
        self._pool = pool
        self._refusal = refusal
        self._dialect = PostgresDialect()
        self._anchored_at = float("-inf")
        self._away = False

    @classmethod
    async def open(cls, url: str, *, connections_max: int = 8, wait_s: float = 5.0) -> PostgresStore:
        """Connect; `StoreUnavailable` when the database does not answer.

        Args:
            wait_s: how long a request waits for a connection, at the start and in an outage.
        """

        async def configured(connection: psycopg.AsyncConnection[Any]) -> None:
            await store._configure(connection)

        conninfo = address(url)
        refusal = _Refusal()
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            conninfo,
            connection_class=_Dialled,
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=wait_s,
            reconnect_timeout=wait_s,  # then the next request tries at once: no long back-off once the outage is over
            kwargs={"autocommit": True, "refusal": refusal},
            configure=configured,
        )
        store = cls(pool, refusal)
        try:
            await pool.open(wait=True, timeout=wait_s)
            store.pooled = await is_pooled(conninfo)
            async with pool.connection() as first:  # it was made before that was known
                await store._configure(first)
            await store._anchor()
        except psycopg.Error as error:
            await pool.close()
            raise (translated(error, refusal.state) or error) from error
        except BaseException:
            await pool.close()
            raise
        return store

    async def _configure(self, connection: psycopg.AsyncConnection[Any]) -> None:
        if not self.pooled:  # there the session is lent to others, and the pooler has a limit of its own
            await connection.execute(f"SET idle_in_transaction_session_timeout = '{_FROZEN_S * 1000:.0f}'".encode())
            await connection.execute(scope.CLOSED.encode())

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
                if self.pooled:
                    connection.prepare_threshold = None
                try:
                    yield connection
                finally:
                    if connection.broken:
                        await self._pool.drain()
            self._note(None)
        except psycopg.Error as error:
            if isinstance(error, (pg.DuplicatePreparedStatement, pg.InvalidSqlStatementName)):
                self.pooled = True  # a pooler that was not there at the start, or that hid
            meant = translated(error, self._refusal.state)
            if meant is None:
                raise
            self._note(meant)
            raise meant from error

    def _note(self, trouble: StoreError | None) -> None:
        """Log the beginning of an outage and its end, once each."""
        if isinstance(trouble, StoreUnavailable) and not self._away:
            self._away = True
            _log.warning("%s", trouble)
        elif trouble is None and self._away:
            self._away = False
            _log.warning("PostgreSQL answers again")

    async def revision(self) -> str | None:
        """Return the revision of the tables; `StoreUnavailable` unless the database answers."""
        async with self._connected() as connection:
            where = await (await connection.execute("SELECT to_regclass('prunella.alembic_version')")).fetchone()
            if where is None or where[0] is None:
                return None
            row = await (await connection.execute("SELECT version_num FROM prunella.alembic_version")).fetchone()
        return str(row[0]) if row is not None else None

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def _anchor(self) -> None:
        """Follow the database's clock, so that a jump of this host's clock moves no due time."""
        if self.clock.monotonic() - self._anchored_at < _ANCHOR_EVERY_S and not self.clock.is_adrift():
            return
        async with self._connected() as connection:
            row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
        assert row is not None
        self.clock.anchor(row[0])
        self._anchored_at = self.clock.monotonic()
