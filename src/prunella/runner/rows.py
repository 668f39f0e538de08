"""The rows of Procrastinate's queue: what it asks of its tables, and what we ask, by our own rules.

Beyond its own: it waits through outages instead of ending its worker; what a dead worker had begun is found by
heartbeats, never by age; a call whose fetch was committed while its answer was lost is found as well; and whoever was
cut off itself, and so cannot know who else lives, buries nobody until it has seen a while go by.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from psycopg.errors import DeadlockDetected, ForeignKeyViolation, ReadOnlySqlTransaction
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from prunella.core.clock import Clock
from prunella.core.errors import Conflict, StoreError, StoreUnavailable
from prunella.runner.contract import STALE_S, Key, Queued
from prunella.runner.vigil import Vigil

SCHEMA = "prunella"
DEATHS_MAX = 5
"""So many workers may die over one call, then it is put off: it may be what kills them."""
_PUT_OFF_S, _PUT_OFF_MAX_S = 60.0, 900.0
"""First wait and longest: several deaths in a row may be chance; one more worker each quarter of an hour is borne."""
_OUTAGE_S = 1.0
_CONNECTIONS_MAX = 4
_PATIENCE_S = 5.0
_TRIES = 5
_LAST_PATIENCE_S = 2.0  # while it stops: what cannot be said any more is found out by the others
_LOCK = 7_077_853  # any number of our own: two processes that start together make the queue's tables once

_log = logging.getLogger(__name__)
Result = TypeVar("Result")

_INSERT = (
    f"INSERT INTO {SCHEMA}.procrastinate_jobs AS job (queue_name, task_name, lock, queueing_lock, args, scheduled_at)"
)
_WAITING = "ON CONFLICT (queueing_lock) WHERE status = 'todo' DO UPDATE SET"
SUBMIT = f"""
WITH submitted AS ({_INSERT}
  SELECT args ->> 'name', 'call', key, key, args, at
  FROM unnest(%(keys)s::text[], %(args)s::jsonb[], %(ats)s::timestamptz[]) AS new (key, args, at)
  {_WAITING} scheduled_at = excluded.scheduled_at
  WHERE job.scheduled_at > coalesce(excluded.scheduled_at, '-infinity')
  AND coalesce((job.args ->> 'deaths')::int, 0) < {DEATHS_MAX}
  RETURNING id, queue_name, xmax <> 0 AND coalesce(scheduled_at <= now(), true) AS is_brought_forward
)
SELECT pg_notify('procrastinate_queue_v1#' || queue_name, '{{"type": "job_inserted", "job_id": ' || id || '}}')
FROM submitted WHERE is_brought_forward  -- Procrastinate tells of new rows only
"""  # noqa: S608
_AGAIN = f"""{_INSERT}
VALUES (%(name)s, 'call', %(key)s, %(key)s, %(args)s::jsonb, now() + make_interval(secs => %(delay_s)s))
{_WAITING} args = excluded.args,
scheduled_at = CASE WHEN job.scheduled_at < excluded.scheduled_at OR job.scheduled_at IS NULL
               THEN job.scheduled_at ELSE excluded.scheduled_at END
"""
_CANCEL = f"DELETE FROM {SCHEMA}.procrastinate_jobs WHERE queueing_lock = %(key)s AND status = 'todo'"  # noqa: S608
_QUEUED = f"""
SELECT args, status = 'doing' AS running, coalesce(extract(epoch FROM scheduled_at - clock_timestamp()), 0) AS due_in_s
FROM {SCHEMA}.procrastinate_jobs WHERE status IN ('todo', 'doing')
ORDER BY status = 'doing' DESC, scheduled_at NULLS FIRST, id
"""  # noqa: S608
_FETCH = f"""
SELECT id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts, worker_id
FROM {SCHEMA}.procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker)s)
"""  # noqa: S608
_FINISH = f"""
WITH done AS (DELETE FROM {SCHEMA}.procrastinate_jobs WHERE id = %(id)s AND status = 'doing' RETURNING lock)
SELECT EXISTS (SELECT FROM {SCHEMA}.procrastinate_jobs AS next
  WHERE next.queueing_lock = done.lock AND next.status = 'todo' AND coalesce(next.scheduled_at <= now(), true))
FROM done
"""  # noqa: S608
_REGISTER = f"INSERT INTO {SCHEMA}.procrastinate_workers DEFAULT VALUES RETURNING id"  # noqa: S608
_UNREGISTER = f"DELETE FROM {SCHEMA}.procrastinate_workers WHERE id = %(worker)s"  # noqa: S608
_FORGET = f"""
DELETE FROM {SCHEMA}.procrastinate_workers AS worker WHERE last_heartbeat < now() - make_interval(secs => %(unseen_s)s)
AND NOT EXISTS (SELECT FROM {SCHEMA}.procrastinate_jobs AS job WHERE job.worker_id = worker.id)
"""  # noqa: S608
_BEAT = f"""
WITH beat AS (
  INSERT INTO {SCHEMA}.procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%(worker)s)
  ON CONFLICT (id) DO UPDATE SET last_heartbeat = now()
) SELECT id FROM {SCHEMA}.procrastinate_jobs WHERE status = 'doing' AND worker_id = %(worker)s
"""  # noqa: S608
_DEAD = f"""NOT EXISTS (SELECT FROM {SCHEMA}.procrastinate_workers AS worker
  WHERE worker.id = job.worker_id AND worker.last_heartbeat > now() - make_interval(secs => {STALE_S}))"""


_PUT_OFF = f"least({_PUT_OFF_S} * power(2, least((args ->> 'deaths')::int - {DEATHS_MAX}, 9)), {_PUT_OFF_MAX_S})"


def _begin_anew(which: str, deaths: int) -> str:
    """Spell the statement that queues again what was begun and is not under way; a call with many deaths waits."""
    return f"""
WITH lost AS (
  DELETE FROM {SCHEMA}.procrastinate_jobs AS job WHERE job.status = 'doing' AND {which}
  RETURNING queue_name, task_name, lock,
    jsonb_set(args, '{{deaths}}', to_jsonb(coalesce((args ->> 'deaths')::int, 0) + {deaths})) AS args
), again AS (
  {_INSERT} SELECT queue_name, task_name, lock, lock, args,
    CASE WHEN (args ->> 'deaths')::int >= {DEATHS_MAX} THEN now() + make_interval(secs => {_PUT_OFF}) END FROM lost
  {_WAITING} args = excluded.args, scheduled_at = excluded.scheduled_at
)
SELECT args FROM lost
"""  # noqa: S608


_TAKE_OVER = _begin_anew(_DEAD, deaths=1)
_GIVE_BACK = _begin_anew("job.id = ANY(%(ids)s)", deaths=0)
_FUNCTIONS = f"""
SELECT format('ALTER FUNCTION %s SET search_path = {SCHEMA}, pg_temp', oid::regprocedure) FROM pg_proc
WHERE pronamespace = '{SCHEMA}'::regnamespace AND proname LIKE 'procrastinate%'
"""  # noqa: S608


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


def spelled(calls: Iterable[tuple[Key, datetime | None]]) -> dict[str, Any]:
    """Return calls as the values of `SUBMIT`."""
    calls = list(calls)
    return {
        "keys": [json.dumps(key) for key, _ in calls],
        "args": [_args(key) for key, _ in calls],
        "ats": [at for _, at in calls],
    }


def _args(key: Key, **more: int) -> str:
    return json.dumps({"name": key[0], "ids": list(key[1:]), **more})


class Rows(JobManager):
    """Every question to the queue's tables; each is one statement, and each names its schema.

    Args:
        pooled: behind a pooler that lends connections per transaction no statement is prepared.
    """

    def __init__(self, url: str, clock: Clock, *, pooled: bool) -> None:
        self.connector: PsycopgConnector = PsycopgConnector()  # it listens; all else goes through the pool below
        super().__init__(self.connector)
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
        self._begun: set[int] = set()
        self._suspects: set[int] = set()
        self._suspected_at = float("-inf")
        self._vigil, self._is_sure_of_deaths = Vigil(clock), False
        self._fetching_since: float | None = None
        self._rang = False

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

    async def call_again(self, key: Key, delay_s: float, raised: int) -> None:
        """Queue a call that raised, with how often it did; where it waits already, the earlier time counts."""
        values = {"name": key[0], "key": json.dumps(key), "args": _args(key, raised=raised), "delay_s": delay_s}
        await self.insist(lambda: self.ask(_AGAIN, **values))

    async def cancel(self, key: Key) -> None:
        """Forget what waits."""
        await self.ask(_CANCEL, key=json.dumps(key))

    async def queued(self) -> list[Queued]:
        """List what waits and what runs, on every worker."""
        return [
            Queued(row["args"]["name"], tuple(row["args"]["ids"]), max(float(row["due_in_s"]), 0.0), row["running"])
            for row in await self.ask(_QUEUED)
        ]

    # what Procrastinate's worker asks

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Begin the next call; once more when something came while none was found."""
        while True:
            self._rang = False
            row = await self.insist(lambda: self._fetched(list(queues or ()), worker_id))
            if row["id"] is not None:
                return Job.from_row(row)
            if not self._rang or self.stopping:
                return None

    async def _fetched(self, queues: list[str], worker_id: int) -> dict[str, Any]:
        self._fetching_since = self._clock.monotonic()
        try:
            (row,) = await self.ask(_FETCH, queues=queues, worker=worker_id)
        except ForeignKeyViolation as error:  # the queue's tables were emptied
            await self.beat(worker_id)
            raise StoreUnavailable("this worker had lost its place in the queue; it takes it again") from error
        finally:
            self._fetching_since = None
        if row["id"] is not None:
            self._begun.add(row["id"])
        return row

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """End a call; when the same waits already, look for it at once.

        One that could not be ended, or queued again, is known no more: the next beats give it back (`beat`).
        """
        assert job.id is not None
        try:
            if status is not Status.SUCCEEDED:
                return
            ended = await self.insist(lambda: self.ask(_FINISH, id=job.id))
        except (StoreError, psycopg.Error) as error:
            _log.warning("%s ended, which PostgreSQL did not take down (%s)", job.lock, type(error).__name__)
            return
        finally:
            self._begun.discard(job.id)
        if not ended:
            _log.warning("%s ended after another worker had taken it over; that one thought this one dead", job.lock)
        elif ended[0]["exists"]:
            self.ring()

    def ring(self) -> None:
        """Have the worker look for calls now."""
        self._rang = True
        self.on_ring()

    def on_ring(self) -> None:
        """Wake the worker; set by whoever has one."""

    async def listen_for_jobs(self, *, on_notification: Any, queues: Iterable[str] | None = None) -> None:
        """Hear of new calls; through outages, and without losing what comes during a fetch."""

        async def heard(*, channel: str, notification: Any) -> None:
            self._rang = True
            await on_notification(channel=channel, notification=notification)

        await self.insist(lambda: super(Rows, self).listen_for_jobs(on_notification=heard, queues=queues))

    async def register_worker(self) -> int:
        """Take a place among the workers."""
        (row,) = await self.ask(_REGISTER)
        self._suspects = set()
        return int(row["id"])

    async def unregister_worker(self, worker_id: int) -> None:
        """Leave in good order."""
        await self.ask(_UNREGISTER, worker=worker_id)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Forget workers of old that hold nothing; those that hold something are found by `take_over`."""
        await self.ask(_FORGET, unseen_s=seconds_since_heartbeat)
        return []

    # who lives

    async def beat(self, worker_id: int) -> set[int]:
        """Say that this worker lives; return what it began by the table and knows nothing of.

        Such a call's fetch was committed and its answer lost. To be sure it must be seen by two beats, and by no fetch.
        """
        rows = await self.ask(_BEAT, worker=worker_id)
        now = self._clock.monotonic()
        self._is_sure_of_deaths = self._vigil.goes_on()
        suspects = {row["id"] for row in rows} - self._begun
        is_sure = self._fetching_since is None or self._fetching_since > self._suspected_at
        lost = suspects & self._suspects if is_sure else set()
        self._suspects, self._suspected_at = suspects, now
        return lost

    async def give_back(self, ids: set[int]) -> list[dict[str, Any]]:
        """Queue calls again that this worker began without knowing; return them."""
        return [row["args"] for row in await self.ask(_GIVE_BACK, ids=list(ids))]

    async def take_over(self) -> list[dict[str, Any]]:
        """Queue calls again that dead workers had begun; return them.

        After an outage, or a freeze of this process, everybody looks dead: then nobody is, for as long as it takes a
        living one to say so.
        """
        if not self._is_sure_of_deaths:
            return []
        return [row["args"] for row in await self.ask(_TAKE_OVER)]


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)  # each question is one statement: no BEGIN and COMMIT around it
