"""The narrow handle on one database of the user: short transactions with limits, reflected tables, nothing else.

Work is a function that gets an open connection and runs in a thread of the handle's own, so that a slow database
holds up neither the event loop nor the other rooms. SQL is built from reflected tables, so every name was seen in the
live catalogue and is quoted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg import DataError as NoData
from psycopg.adapt import Loader
from psycopg.pq import Format
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, func, make_url, select
from sqlalchemy.exc import DataError, DBAPIError, NoSuchTableError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import NullType

from prunella.core.errors import DatabaseRefused, DatabaseUnavailable
from prunella.core.procedures import DatabaseSource
from prunella.core.redact import scrub
from prunella.databases.transactions import FoundDead, begun, cut_off, limited, mark_of, stop_after

_CONNECTIONS_MAX = 4
_NO_RIGHT = "42501"
_BUSY = ("57014", "55P03", "25P03", "40P01", "40001")
"""SQLSTATEs of a limit that was reached or a lock that was not given: another time it may work."""

_NAME_BYTES_MAX = {"postgresql": 63, "mysql": 256, "sqlite": 1000}
"""PostgreSQL would cut a longer name silently, and with luck find another table."""
_NAME_CHARS_SHOWN = 60
_CHARS_READ, _CHARS_SHOWN = 4000, 300
_SILENCE = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "15000"}
"""A server that vanished without a word is given up after 25 s; libpq alone would wait for hours."""


Done = TypeVar("Done")


class Database:
    """One of the user's databases.

    Args:
        source: where it is, and its limits.
    """

    def __init__(self, source: DatabaseSource) -> None:
        self.source = source
        self._engine = _engine(source)
        self._threads = ThreadPoolExecutor(_CONNECTIONS_MAX, thread_name_prefix=f"database-{source.name}")
        self._tables: dict[str, tuple[str, Table]] = {}
        self._open: list[Any] = []

    @property
    def name(self) -> str:
        """Return its name in the configuration."""
        return self.source.name

    @property
    def kind(self) -> str:
        """Return postgresql, sqlite or mysql."""
        return "mysql" if self._engine.dialect.name == "mariadb" else self._engine.dialect.name

    async def reading(self, work: Callable[[Connection], Done]) -> Done:
        """Run `work` in one read-only transaction; the database itself refuses a write in it."""
        return await self._in_thread(work, read_only=True)

    async def writing(self, work: Callable[[Connection], Done]) -> Done:
        """Run `work` in one transaction: committed when it returns, rolled back when it raises."""
        return await self._in_thread(work, read_only=False)

    def table(self, connection: Connection, name: str) -> Table:
        """Return a table as the live catalogue has it; reflected anew when its columns were changed.

        On SQLite the columns are untyped, so that values come and go exactly as they are stored; what was declared
        stands in `column.info["declared"]`.

        Raises:
            DatabaseRefused: there is no such table, or this role may not see it.
        """
        mark, found = self._tables.get(name, ("", None))
        if found is None or mark not in begun(connection).marks | {""}:
            found = self._reflected(connection, name)
            self._tables[name] = mark_of(connection, found), found
        return found

    def forget(self, name: str) -> None:
        """Reflect a table anew at its next use."""
        self._tables.pop(name, None)

    def now(self, connection: Connection) -> datetime:
        """Return the moment by the database's own clock, aware."""
        if self.kind == "sqlite":
            text: str = connection.exec_driver_sql("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')").scalar_one()
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if self.kind == "mysql":
            moment: datetime = connection.exec_driver_sql("SELECT UTC_TIMESTAMP(6)").scalar_one()
            return moment.replace(tzinfo=UTC)
        aware: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return aware.astimezone(UTC)

    def begun(self, connection: Connection) -> datetime:
        """Return the moment at which this transaction began, by the database's own clock; asked for only once."""
        return begun(connection).at or self.now(connection)

    def _reflected(self, connection: Connection, name: str) -> Table:
        bytes_max = _NAME_BYTES_MAX.get(self.kind, _NAME_BYTES_MAX["sqlite"])
        if not name or "\0" in name or len(name.encode(errors="replace")) > bytes_max:
            raise DatabaseRefused(
                f"database {self.name}: {name[:_NAME_CHARS_SHOWN]!r} can't name a table; "
                f"a name has 1 to {bytes_max} bytes and no NUL"
            )
        read_as = _untyped if self.kind == "sqlite" else _undomained
        try:
            return Table(
                name,
                MetaData(),
                schema=self.source.schema,
                autoload_with=connection,
                resolve_fks=False,
                listeners=[("column_reflect", read_as)],
            )
        except (NoSuchTableError, UnicodeError):
            raise DatabaseRefused(f"database {self.name}: there is no table {name!r} that this role sees") from None

    async def close(self, within_s: float = 5.0) -> None:
        """Give every connection back; what is still under way after `within_s` is cut off and leaves no trace."""
        ending = asyncio.ensure_future(asyncio.to_thread(self._threads.shutdown, cancel_futures=True))
        done, _ = await asyncio.wait({ending}, timeout=within_s)
        if not done:
            for driver in tuple(self._open):
                cut_off(driver)
            await asyncio.wait({ending}, timeout=within_s)
        self._engine.dispose()

    async def _in_thread(self, work: Callable[[Connection], Done], *, read_only: bool) -> Done:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._in_transaction(work, read_only=read_only)
        )

    def _in_transaction(self, work: Callable[[Connection], Done], *, read_only: bool) -> Done:
        try:
            try:
                return self._once(work, read_only=read_only)
            except FoundDead:  # the server has ended a pooled connection since; nothing ran on it
                return self._once(work, read_only=read_only)
        except (DBAPIError, PoolTimeout) as error:
            raise self._translated(error) from error

    def _once(self, work: Callable[[Connection], Done], *, read_only: bool) -> Done:
        known = {mark for mark, _ in list(self._tables.values()) if mark}
        with self._engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            self._open.append(driver)
            try:
                with connection.begin(), limited(connection, self.source, known, read_only=read_only):
                    return work(connection)
            finally:
                self._open.remove(driver)

    def _translated(self, error: DBAPIError | PoolTimeout) -> DatabaseUnavailable | DatabaseRefused:
        """Tell a database that is away or busy from one that refuses; no address, no values in the words."""
        if isinstance(error, PoolTimeout):
            return DatabaseUnavailable(f"database {self.name}: all {_CONNECTIONS_MAX} connections are in use")
        words = (str(error.orig).splitlines() or [""])[0] if error.orig is not None else type(error).__name__
        words = scrub(words[:_CHARS_READ])[:_CHARS_SHOWN]  # the server repeats values
        state: str | None = getattr(error.orig, "sqlstate", None)
        unspoken = state is None and self.kind != "sqlite"
        of_driver = unspoken and isinstance(error, DataError | ProgrammingError)  # a value that can't even be sent
        away = error.connection_invalidated or state in _BUSY or (unspoken and not of_driver)
        locked = (
            self.kind == "sqlite" and isinstance(error, OperationalError) and words.endswith(("locked", "interrupted"))
        )
        kind = DatabaseUnavailable if away or locked else DatabaseRefused
        if unspoken and not of_driver:
            words = type(error.orig).__name__  # the words of connection errors may hold the address
        advice = "; what this role needs is printed by: prunella db grant --print" if state == _NO_RIGHT else ""
        return kind(f"database {self.name}: {words}{advice}")


def _engine(source: DatabaseSource) -> Engine:
    url = make_url(source.url.reveal())
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": source.lock_timeout_s}, hide_parameters=True)
        # Left alone, Python's driver begins no transaction before a SELECT, and two looks would see two states.
        event.listen(engine, "connect", lambda opened, _: setattr(opened, "isolation_level", None))
        event.listen(engine, "connect", lambda opened, _: opened.execute("PRAGMA foreign_keys = ON"))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        event.listen(engine, "before_cursor_execute", lambda one, *_: stop_after(one, source.statement_timeout_s))
        return engine
    options: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
        options = {"application_name": "prunella", "connect_timeout": "5", **_SILENCE}
    engine = create_engine(
        url.update_query_dict({name: value for name, value in options.items() if name not in url.query}),
        pool_size=1,
        max_overflow=_CONNECTIONS_MAX - 1,
        pool_timeout=5.0,
        pool_pre_ping=url.get_backend_name() != "postgresql",  # there the beginning shows whether it lives
        hide_parameters=True,
    )
    if url.get_backend_name() == "postgresql":
        event.listen(engine, "connect", lambda opened, _: setattr(opened, "autocommit", True))  # we begin by ourselves
        event.listen(engine, "connect", lambda opened, _: setattr(opened, "prepare_threshold", None))  # for poolers
        event.listen(engine, "connect", _read_all_dates)
    return engine


def _read_all_dates(opened: Any, _: Any) -> None:
    """Let a date that Python can't hold (infinity, the year 20000) come as PostgreSQL's text instead of an error."""
    for name in ("date", "timestamp", "timestamptz"):
        usual = opened.adapters.get_loader(opened.adapters.types[name].oid, Format.TEXT)
        opened.adapters.register_loader(name, _patient(usual))


def _patient(usual: type[Loader]) -> type[Loader]:
    class Patient(Loader):
        """Fall back to the text."""

        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._usual = usual(oid, context)

        def load(self, data: Any) -> Any:
            try:
                return self._usual.load(data)
            except NoData:
                return bytes(data).decode()

    return Patient


def _untyped(_inspector: Any, _table: Any, column: dict[str, Any]) -> None:
    """Keep a declared type aside: SQLite doesn't enforce it, and reading by it would change or refuse values."""
    column["info"] = {"declared": column["type"]}
    column["type"] = NullType()


def _undomained(_inspector: Any, _table: Any, column: dict[str, Any]) -> None:
    """Take a domain for the type below it: what is compared and written is that."""
    column["type"] = getattr(column["type"], "data_type", column["type"])
