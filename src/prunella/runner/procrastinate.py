"""The runner on PostgreSQL: one row of Procrastinate's queue per handler and ids, many workers, one beside the other.

The only file that knows Procrastinate. Its queue holds names and ids, nothing that our tables do not say.
Its `lock` is our key, and so is its `queueing_lock`: a key waits once and runs once at a time, and no key ever holds
up another (the stall of procrastinate-org/procrastinate#1599 needs two that wait under one lock).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from procrastinate.worker import Worker
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from prunella.core.clock import Clock
from prunella.core.errors import Conflict, StoreUnavailable
from prunella.core.events import Listeners
from prunella.runner.contract import STALE_S, Commit, Handler, Key, Queued, again

SCHEMA = "prunella"
_HEARTBEAT_S = 1.0
_SWEEP_S = 2.0
_POLL_S = 0.5  # how late a delayed call begins at most; 5 s by Procrastinate's default (measured: p50 4.1 s)
_OUTAGE_S = 1.0
_LAST_WORDS_S = 2.0
_NEVER_S = 86_400.0
_FORGET_WORKERS_S = 60.0
_DEATHS_MAX = 5
"""So many workers may die over one call, then it is left to the sweep: it may be what kills them."""
_CONNECTIONS_MAX = 4
_TRIES = 5
_LOCK = 7_077_853  # any number of our own: two processes that start together make the queue's tables once

_log = logging.getLogger(__name__)
logging.getLogger("procrastinate").setLevel(logging.WARNING)  # two lines per call are nobody's news
Result = TypeVar("Result")

_SUBMIT = f"""
INSERT INTO {SCHEMA}.procrastinate_jobs AS job (queue_name, task_name, lock, queueing_lock, args, scheduled_at)
SELECT args ->> 'name', 'call', key, key, args, at
FROM unnest(%(keys)s::text[], %(args)s::jsonb[], %(ats)s::timestamptz[]) AS new (key, args, at)
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO UPDATE SET scheduled_at = excluded.scheduled_at
WHERE job.scheduled_at > coalesce(excluded.scheduled_at, '-infinity')
"""  # noqa: S608
_CANCEL = f"DELETE FROM {SCHEMA}.procrastinate_jobs WHERE queueing_lock = %(key)s AND status = 'todo'"  # noqa: S608
_QUEUED = f"""
SELECT args, status = 'doing' AS running, coalesce(extract(epoch FROM scheduled_at - clock_timestamp()), 0) AS due_in_s
FROM {SCHEMA}.procrastinate_jobs WHERE status IN ('todo', 'doing') ORDER BY status = 'doing' DESC, scheduled_at, id
"""  # noqa: S608
_TAKE_OVER = f"""
WITH dead AS (
  DELETE FROM {SCHEMA}.procrastinate_jobs AS job
  WHERE job.status = 'doing' AND NOT EXISTS (
    SELECT FROM {SCHEMA}.procrastinate_workers AS worker
    WHERE worker.id = job.worker_id AND worker.last_heartbeat > now() - make_interval(secs => %(stale_s)s))
  RETURNING queue_name, task_name, lock,
    jsonb_set(args, '{{deaths}}', to_jsonb(coalesce((args ->> 'deaths')::int, 0) + 1)) AS args
), again AS (
  INSERT INTO {SCHEMA}.procrastinate_jobs AS job (queue_name, task_name, lock, queueing_lock, args)
  SELECT queue_name, task_name, lock, lock, args FROM dead WHERE (args ->> 'deaths')::int < %(deaths_max)s
  ON CONFLICT (queueing_lock) WHERE status = 'todo' DO UPDATE SET args = excluded.args, scheduled_at = NULL
)
SELECT args FROM dead
"""  # noqa: S608
_FUNCTIONS = """
SELECT format('ALTER FUNCTION %s SET search_path = prunella, pg_temp', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'prunella'::regnamespace AND proname LIKE 'procrastinate%'
"""


async def install(url: str) -> None:
    """Make the queue's tables where they are missing; they stand in the schema of ours, never in `public`."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = await (await connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.procrastinate_jobs",))).fetchone()
        if found is not None and found[0] is not None:
            return
        await connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
        await connection.execute(SchemaManager.get_schema().encode())
        functions = await (await connection.execute(_FUNCTIONS)).fetchall()
        for (change,) in functions:  # its triggers run in transactions of ours, whose search path is the user's
            await connection.execute(change.encode())


class ProcrastinateRunner:
    """Call handlers in this process and in every other one on the same database.

    Args:
        url: the database; its own address, not a pooler's, where there is one.
        pooled: behind a pooler that lends connections per transaction: nothing is listened for, only asked.
        concurrency: handlers under way at once in this process; as many as in `local`.
    """

    def __init__(
        self, url: str, clock: Clock, listeners: Listeners, *, pooled: bool = False, concurrency: int = 64
    ) -> None:
        self._clock = clock
        self._listeners = listeners
        self._concurrency = concurrency
        self._pooled = pooled
        self._handlers: dict[str, Handler] = {}
        self._app = App(connector=_connector(url, pooled))
        self._queue = _PatientQueue(self._app.connector, clock)
        self._app.job_manager = self._queue
        self._app.task(name="call")(self._call)
        self._worker: Worker | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._stopping = False
        self._opening = asyncio.Lock()
        self._is_open = False

    def handle(self, name: str, handler: Handler) -> None:
        """Register what runs under `name`; a worker takes only calls that it knows how to carry out."""
        self._handlers[name] = handler

    async def submit(self, name: str, *ids: str, at: datetime | None = None, tx: Commit | None = None) -> None:
        """Queue a call; with `tx` in that transaction, so that it stands or falls with the row it is about."""
        values = _rows([((name, *ids), at)])
        if tx is not None:
            await tx.driver.execute(_SUBMIT, values)
        else:
            await self._execute(_SUBMIT, values)

    async def submit_many(self, calls: Iterable[tuple[Key, datetime | None]]) -> None:
        """Queue many calls in one statement."""
        earliest: dict[Key, datetime | None] = {}
        for key, at in calls:
            known = earliest.get(key, at)
            earliest[key] = None if at is None or known is None else min(at, known)
        if earliest:
            await self._execute(_SUBMIT, _rows(sorted(earliest.items(), key=lambda one: one[0])))

    async def cancel(self, name: str, *ids: str) -> None:
        """Forget what waits."""
        await self._execute(_CANCEL, {"key": _spell((name, *ids))})

    async def queued(self) -> list[Queued]:
        """List what waits and what runs, on every worker."""
        rows = await self._execute(_QUEUED, {})
        return [
            Queued(args["name"], tuple(args["ids"]), max(float(due_in_s), 0.0), running)
            for args, running, due_in_s in rows
        ]

    async def run(self) -> None:
        """Take calls until `stop`; a worker that lost its place among the others takes a new one."""
        await self._open()
        sweeping = asyncio.create_task(self._sweep(), name="take over")
        try:
            while not self._stopping:
                self._worker = self._new_worker()
                with suppress(ConnectorException, PoolTimeout, psycopg.Error):
                    await self._worker.run()  # type: ignore[no-untyped-call]
                if not self._stopping:
                    await self._clock.sleep(_OUTAGE_S)
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            self._stopped.set()
            await self.close()

    async def stop(self, within_s: float | None = None) -> None:
        """Take nothing new and wait until what runs has ended, or cut it off and leave it to other workers."""
        self._stopping = self._queue.stopping = True
        if self._worker is None:
            return
        beating = asyncio.create_task(self._beat(self._worker), name="beat")  # a worker that stops beats no more
        self._worker.stop()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(within_s):
                await self._stopped.wait()
        except TimeoutError:
            for cut in self._under_way:
                cut.cancel()
            await self._stopped.wait()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self, worker: Worker) -> None:
        """Stay alive in the eyes of the others: what takes long would be called a second time."""
        while worker.worker_id is not None:
            with suppress(ConnectorException, PoolTimeout):
                await self._queue.update_heartbeat(worker.worker_id)
            await self._clock.sleep(_HEARTBEAT_S)

    async def close(self) -> None:
        """Give every connection back."""
        if self._is_open:
            self._is_open = False
            await self._app.close_async()

    def _new_worker(self) -> Worker:
        return Worker(
            self._app,
            queues=list(self._handlers),
            name="prunella",
            concurrency=self._concurrency,
            fetch_job_polling_interval=_POLL_S,
            abort_job_polling_interval=_NEVER_S,  # a call is cancelled before it begins or not at all
            listen_notify=not self._pooled,
            delete_jobs="always",  # the history stands in our tables
            install_signal_handlers=False,
            update_heartbeat_interval=_HEARTBEAT_S,
            stalled_worker_timeout=_FORGET_WORKERS_S,
        )

    async def _call(self, *, name: str, ids: list[str], raised: int = 0, deaths: int = 0) -> None:
        try:
            await self._uncut(name, ids)
        except _Cut:
            with suppress(StoreUnavailable, TimeoutError):  # then the others find out that this worker is gone
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._call_again((name, *ids), 0.0, raised)
        except Exception as error:
            _log.error("handler %s failed (%s times before)", ":".join([name, *ids]), raised, exc_info=error)
            self._listeners.emit("engine.failed", handler=name, error=type(error).__name__)
            if (next_try := again(error, raised)) is not None:
                await self._queue.insist(lambda: self._call_again((name, *ids), *next_try))

    async def _uncut(self, name: str, ids: list[str]) -> None:
        """Call a handler apart, so that `stop` may cut it off and Procrastinate doesn't take that for its own end."""
        under_way = asyncio.ensure_future(self._carry_out(name, ids))
        self._under_way.add(under_way)
        try:
            await asyncio.wait({under_way})
        finally:
            self._under_way.discard(under_way)
            under_way.cancel()
        if under_way.cancelled():
            raise _Cut
        under_way.result()

    async def _carry_out(self, name: str, ids: list[str]) -> None:
        await self._handlers[name](*ids)

    async def _call_again(self, key: Key, delay_s: float, raised: int) -> None:
        """Queue a call that raised, with how often it did; what was submitted meanwhile is as good."""
        await self._execute(
            _SUBMIT.replace("%(ats)s::timestamptz[]", "ARRAY[clock_timestamp() + make_interval(secs => %(delay_s)s)]"),
            {**_rows([(key, None)], raised=raised), "delay_s": delay_s},
        )

    async def _sweep(self) -> None:
        """Take over what dead workers had begun. In every process, so that nothing has to run the sweep itself."""
        while True:
            with suppress(StoreUnavailable):
                for (args,) in await self._execute(_TAKE_OVER, {"stale_s": STALE_S, "deaths_max": _DEATHS_MAX}):
                    self._taken_over(args)
            await self._clock.sleep(_SWEEP_S)

    def _taken_over(self, args: dict[str, Any]) -> None:
        call = ":".join([args["name"], *args["ids"]])
        self._listeners.emit("worker.taken_over", call=call, deaths=args["deaths"])
        if args["deaths"] >= _DEATHS_MAX:
            _log.error("%s: %s workers died over it; it is left to the sweep", call, args["deaths"])

    async def _execute(self, statement: str, values: dict[str, Any]) -> list[Any]:
        """Run one statement of ours, again where another worker was quicker.

        Raises:
            StoreUnavailable: the database does not answer.
            Conflict: five times in a row PostgreSQL ended it in favour of others.
        """
        for _ in range(_TRIES):
            with suppress(psycopg.errors.DeadlockDetected):
                return await self._once(statement, values)
        raise Conflict("PostgreSQL ended a statement about the queue in favour of others, five times; try again")

    async def _once(self, statement: str, values: dict[str, Any]) -> list[Any]:
        connector = self._app.connector
        assert isinstance(connector, PsycopgConnector)
        try:
            await self._open()
            async with connector.pool.connection() as connection:
                cursor = await connection.execute(statement.encode(), values)
                return await cursor.fetchall() if cursor.description else []
        except psycopg.errors.DeadlockDetected:  # an OperationalError, too, and no outage
            raise
        except (psycopg.OperationalError, PoolTimeout, ConnectorException) as error:
            raise StoreUnavailable(f"PostgreSQL does not answer ({type(error).__name__})") from error

    async def _open(self) -> None:
        async with self._opening:
            if not self._is_open:
                await self._app.open_async()
                self._is_open = True


class _Cut(Exception):
    """The handler was cut off because this process ends."""


class _PatientQueue(JobManager):
    """Procrastinate's access to its tables, which waits through an outage instead of ending its worker."""

    def __init__(self, connector: Any, clock: Clock) -> None:
        super().__init__(connector)
        self._clock = clock
        self.stopping = False

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        return await self.insist(lambda: super(_PatientQueue, self).fetch_job(queues, worker_id))

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        try:
            await self.insist(lambda: super(_PatientQueue, self).finish_job(job, status, delete_job))
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                raise
            _log.warning("a call ended after another worker had taken it over; it thought this one dead")

    async def update_heartbeat(self, worker_id: int) -> None:
        await self.insist(lambda: super(_PatientQueue, self).update_heartbeat(worker_id))

    async def listen_for_jobs(self, **options: Any) -> None:
        await self.insist(lambda: super(_PatientQueue, self).listen_for_jobs(**options))

    async def insist(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask until the database answers, or this process is to stop."""
        while True:
            try:
                return await ask()
            except (ConnectorException, StoreUnavailable, PoolTimeout) as error:
                if self.stopping or not _is_outage(error):
                    raise
            await self._clock.sleep(_OUTAGE_S)


def _is_outage(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    return isinstance(cause, (psycopg.OperationalError, PoolTimeout, StoreUnavailable))


def _connector(url: str, pooled: bool) -> PsycopgConnector:
    """Return the way to the queue's tables: by search path, of the connection or of each transaction."""
    given = conninfo_to_dict(url)
    options: dict[str, Any] = {"application_name": "prunella", "connect_timeout": 5, **given}
    if not pooled:
        options["options"] = f"{given.get('options') or ''} -c search_path={SCHEMA}".strip()
    kind = _PooledConnector if pooled else PsycopgConnector
    return kind(
        conninfo=make_conninfo("", **options),
        kwargs={"prepare_threshold": None} if pooled else {},
        configure=_configure,
        min_size=1,
        max_size=_CONNECTIONS_MAX,
        timeout=_HEARTBEAT_S * 5,
        reconnect_timeout=_OUTAGE_S,
        pool_factory=AsyncConnectionPool,
    )


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)  # each of its questions is one statement: no BEGIN and COMMIT around it


class _PooledConnector(PsycopgConnector):
    """Behind a pooler each transaction may meet another connection, so each names the search path itself."""

    @asynccontextmanager
    async def _get_cursor(self, connection: Any = None) -> AsyncIterator[Any]:
        async with super()._get_cursor(connection) as cursor, cursor.connection.transaction():
            await cursor.execute(f"SET LOCAL search_path TO {SCHEMA}")
            yield cursor


def _rows(calls: Iterable[tuple[Key, datetime | None]], **more: int) -> dict[str, Any]:
    calls = list(calls)
    return {
        "keys": [_spell(key) for key, _ in calls],
        "args": [json.dumps({"name": key[0], "ids": list(key[1:]), **more}) for key, _ in calls],
        "ats": [at for _, at in calls],
    }


def _spell(key: Key) -> str:
    return json.dumps(key)
