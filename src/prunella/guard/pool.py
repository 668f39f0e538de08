"""Watch how many connections a PostgreSQL server has left, and keep work away that can wait while there are few.

It reads `pg_stat_activity` over a connection of its own, kept open: when the last place is taken nobody could open
one. A monitor that can't read says so and sheds nothing. Must never end or refuse a connection itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

from prunella.core import shapes
from prunella.core.clock import HOST
from prunella.core.errors import LoadShed
from prunella.core.events import Listener, Listeners
from prunella.core.redact import scrub
from prunella.guard.demands import demand, is_number, is_positive, is_share

_log = logging.getLogger(__name__)
_STALE_AFTER = 3
_PATIENCE_S = 2.0
"""Readings that may be missed before nothing is known any more."""
_FULL: Final = "53300"
_FULL_WORDS: Final = ("too many clients", "remaining connection slots", "too many connections")
_COUNT: Final = """
SELECT
  (SELECT count(*) FROM pg_stat_activity
   WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'),
  current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int"""
"""Connections of clients, and places for them; a role without `pg_read_all_stats` sees no type of others' backends."""


class Level(StrEnum):
    """How near the end is."""

    UNKNOWN = "unknown"
    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One reading.

    Args:
        used: connections of clients, this monitor's own among them.
        limit: how many there may be, without those reserved for superusers.
        read_at: monotonic instant.
    """

    used: int
    limit: int
    read_at: float

    @property
    def share(self) -> float:
        """Return the share in use."""
        return self.used / self.limit if self.limit > 0 else 1.0


class PoolMonitor:
    """Watch a PostgreSQL server's connections: `with monitor:` in a thread, `async with monitor:` as a task.

    Args:
        connect: opens a DB-API connection to the server: `partial(psycopg.connect, url)`, `engine.raw_connection`.
        every_s: seconds between readings, > 0 (documents A and E: 5). After three without one nothing is shed.
        warning: share from which work that can wait is delayed (document E: 0.85).
        critical: share from which it is refused (0.92).
        accept_below: share below which new work is accepted (0.90).
        throttle_s: seconds of delay at warning, >= 0.
        name: what is watched, in events and errors.
        listeners: told `pool.changed` when the level changes.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        every_s: float = 5.0,
        warning: float = 0.85,
        critical: float = 0.92,
        accept_below: float = 0.90,
        throttle_s: float = 0.5,
        name: str = "database",
        listeners: Iterable[Listener] = (),
    ) -> None:
        if not callable(connect):
            raise TypeError(f"PoolMonitor: connect must be a function that opens a connection, got {connect!r}")
        self.name = name
        self.every_s, self.throttle_s = every_s, throttle_s
        self.warning, self.critical, self.accept_below = warning, critical, accept_below
        demand(self, "every_s", is_positive(every_s), "seconds > 0")
        demand(self, "throttle_s", is_number(throttle_s), "seconds >= 0")
        for share in ("warning", "critical", "accept_below"):
            demand(self, share, is_share(getattr(self, share)), "a share > 0 and <= 1 (0.85 for 85 %)")
        demand(self, "critical", critical >= warning, f"at least warning, which is {warning}")
        self.problem = ""
        self.usage: Usage | None = None
        self._connect = connect
        self._connection: Any = None
        self._told = Level.UNKNOWN
        self._sampling = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._listeners = Listeners()
        for listener in listeners:
            self._listeners.subscribe(listener)

    # What it says -----------------------------------------------------------------------------------------------------

    @property
    def level(self) -> Level:
        """Say how near the end is; unknown where no reading is there, or only an old one."""
        usage = self.usage
        if usage is None or HOST.monotonic() - usage.read_at > _STALE_AFTER * self.every_s:
            return Level.UNKNOWN
        if usage.share >= self.critical:
            return Level.CRITICAL
        return Level.WARNING if usage.share >= self.warning else Level.NORMAL

    def accepts(self, *, critical_work: bool = False) -> bool:
        """Tell whether new work should begin; work that can't wait always may."""
        usage = self.usage
        return critical_work or usage is None or self.level is Level.UNKNOWN or usage.share < self.accept_below

    def admit(self, *, critical_work: bool = False) -> None:
        """Let work begin: at once, at warning after a delay, at critical not at all.

        Args:
            critical_work: it can't wait, and is let through at every level.

        Raises:
            LoadShed: too few connections are left.
        """
        delay_s = self._delay_s(critical_work)
        if delay_s > 0.0:
            HOST.sleep(delay_s)
            self._delay_s(critical_work)

    async def aadmit(self, *, critical_work: bool = False) -> None:
        """Let work begin, as `admit` does, in an event loop."""
        delay_s = self._delay_s(critical_work)
        if delay_s > 0.0:
            await HOST.asleep(delay_s)
            self._delay_s(critical_work)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` when the level changes; call what is returned to stop."""
        return self._listeners.subscribe(listener)

    def standing(self) -> dict[str, object]:
        """Return what is known, for people to read."""
        usage = self.usage
        return {
            "level": self.level.value,
            "used": usage.used if usage is not None else None,
            "limit": usage.limit if usage is not None else None,
            "age_s": HOST.monotonic() - usage.read_at if usage is not None else None,
            "problem": self.problem,
        }

    def _delay_s(self, critical_work: bool) -> float:
        level, usage = self.level, self.usage
        if critical_work or usage is None or level in (Level.UNKNOWN, Level.NORMAL):
            return 0.0
        if level is Level.CRITICAL:
            raise LoadShed(
                f"{self.name}: {usage.used} of {usage.limit} connections are taken; only critical work begins"
            )
        return self.throttle_s

    # How it knows -----------------------------------------------------------------------------------------------------

    def sample(self) -> Level:
        """Read once, tell listeners where the level changed, and return it; never raises."""
        with self._sampling:
            self.usage, self.problem = self._reading()
            before, self._told = self._told, self.level
            told, usage, problem = self._told, self.usage, self.problem
        if self._stopping.is_set():
            self._let_go()  # it was stopped meanwhile, by somebody who does not wait for a database that hangs
        if told is before:
            return told
        used, limit = (usage.used, usage.limit) if usage is not None else (None, None)
        _log.log(
            logging.INFO if told is Level.NORMAL else logging.WARNING,
            "%s: connections are at level %s, %s of %s in use %s", self.name, told.value, used, limit, problem,
        )  # fmt: skip
        self._listeners.emit(
            "pool.changed",
            pool=self.name,
            before=before.value,
            after=told.value,
            used=used,
            limit=limit,
            reason=problem,
        )
        return told

    def _reading(self) -> tuple[Usage | None, str]:
        try:
            used, limit = self._count()
        except Exception as error:
            problem = scrub(f"{type(error).__name__}: {error}")
            if not _says_full(error):
                return None, problem
            limit = self.usage.limit if self.usage is not None else 1
            return Usage(used=limit, limit=limit, read_at=HOST.monotonic()), problem
        return Usage(used=used, limit=limit, read_at=HOST.monotonic()), ""

    def _count(self) -> tuple[int, int]:
        if self._connection is not None:
            try:
                return _counted(self._connection)
            except Exception:
                self._hang_up()  # the server was restarted, or somebody ended it; a fresh one will tell
        self._connection = self._connect()
        try:
            return _counted(self._connection)
        except Exception:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    # In the background ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read every `every_s` in a thread of its own; starting twice does nothing."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(self._stopping,), name=f"prunella-pool-{self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the connection; what is known grows old and is then forgotten."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        patience_s = max(self.every_s, _PATIENCE_S)  # for a reading under way; one that hangs is left to itself
        if thread is not None:
            thread.join(patience_s)
        self._let_go(patience_s)

    def _let_go(self, within_s: float = -1.0) -> None:
        if self._sampling.acquire(timeout=within_s):
            self._hang_up()
            self._sampling.release()

    def _watch(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.sample()
            stopping.wait(self.every_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        if self._task is None:
            self._stopping = threading.Event()
            self._task = asyncio.create_task(self._awatch(), name=f"prunella-pool-{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await asyncio.to_thread(self.stop)

    async def _awatch(self) -> None:
        while True:
            await asyncio.to_thread(self.sample)
            await HOST.asleep(self.every_s)


def _counted(connection: Any) -> tuple[int, int]:
    """Return connections and places, and leave no transaction open."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(_COUNT)
        row = cursor.fetchone()
    connection.rollback()
    used, limit = row.values() if isinstance(row, Mapping) else row
    return int(used), int(limit)


def _says_full(error: Exception) -> bool:
    """Tell whether a server refused a connection because it has no more (SQLSTATE 53300)."""
    return shapes.code_of(error) == _FULL or any(words in str(error) for words in _FULL_WORDS)
