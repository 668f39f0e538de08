"""The rows of Procrastinate's queue: what is written there, claimed and ended, by our own rules.

Beyond its own: whoever asks waits through outages instead of ending its worker, and what comes during a fetch is not
lost. What dead workers leave is `takeover`'s.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import psycopg
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from psycopg.errors import ForeignKeyViolation

from prunella.core.errors import StoreError, StoreUnavailable
from prunella.runner.contract import Commit, Key, Queued
from prunella.runner.tables import INSERT, SCHEMA, WAITING, Tables
from prunella.runner.takeover import DEATHS_MAX, Takeover

_log = logging.getLogger(__name__)

SUBMIT = f"""
WITH submitted AS ({INSERT}
  SELECT args ->> 'name', 'call', key, key, args, at
  FROM unnest(%(keys)s::text[], %(args)s::jsonb[], %(ats)s::timestamptz[]) AS new (key, args, at)
  {WAITING} scheduled_at = excluded.scheduled_at
  WHERE job.scheduled_at > coalesce(excluded.scheduled_at, '-infinity')
  AND coalesce((job.args ->> 'deaths')::int, 0) < {DEATHS_MAX}
  RETURNING id, queue_name, xmax <> 0 AND coalesce(scheduled_at <= now(), true) AS is_brought_forward
)
SELECT pg_notify('procrastinate_queue_v1#' || queue_name, '{{"type": "job_inserted", "job_id": ' || id || '}}')
FROM submitted WHERE is_brought_forward  -- Procrastinate tells of new rows only
"""  # noqa: S608
_AGAIN = f"""{INSERT}
VALUES (%(name)s, 'call', %(key)s, %(key)s, %(args)s::jsonb, now() + make_interval(secs => %(delay_s)s))
{WAITING} args = excluded.args,
scheduled_at = CASE WHEN job.scheduled_at < excluded.scheduled_at OR job.scheduled_at IS NULL
               THEN job.scheduled_at ELSE excluded.scheduled_at END
"""
_CANCEL = f"DELETE FROM {SCHEMA}.procrastinate_jobs WHERE queueing_lock = %(key)s AND status = 'todo'"  # noqa: S608
_GETS_ON = f"""
UPDATE {SCHEMA}.procrastinate_jobs SET args = args - 'deaths' WHERE lock = %(key)s AND status = 'doing'
"""  # noqa: S608
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
    """What the runner says of calls, and what Procrastinate's worker asks; each is one statement."""

    def __init__(self, tables: Tables, takeover: Takeover) -> None:
        super().__init__(tables.connector)
        self._tables = tables
        self._takeover = takeover
        self._rang = False

    async def call_again(self, key: Key, delay_s: float, raised: int) -> None:
        """Queue a call that raised, with how often it did; where it waits already, the earlier time counts."""
        values = {"name": key[0], "key": json.dumps(key), "args": _args(key, raised=raised), "delay_s": delay_s}
        await self._tables.insist(lambda: self._tables.ask(_AGAIN, **values))

    async def gets_on(self, key: Key, tx: Commit) -> None:
        """Forget how many workers died over a call that is under way."""
        await tx.driver.execute(_GETS_ON.encode(), {"key": json.dumps(key)})

    async def cancel(self, key: Key) -> None:
        """Forget what waits."""
        await self._tables.ask(_CANCEL, key=json.dumps(key))

    async def queued(self) -> list[Queued]:
        """List what waits and what runs, on every worker."""
        return [
            Queued(row["args"]["name"], tuple(row["args"]["ids"]), max(float(row["due_in_s"]), 0.0), row["running"])
            for row in await self._tables.ask(_QUEUED)
        ]

    # what Procrastinate's worker asks

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Begin the next call; once more when something came while none was found."""
        while True:
            self._rang = False
            row = await self._tables.insist(lambda: self._fetched(list(queues or ()), worker_id))
            if row["id"] is not None:
                return Job.from_row(row)
            if not self._rang or self._tables.stopping:
                return None

    async def _fetched(self, queues: list[str], worker_id: int) -> dict[str, Any]:
        with self._takeover.fetching():
            try:
                (row,) = await self._tables.ask(_FETCH, queues=queues, worker=worker_id)
            except ForeignKeyViolation as error:  # the queue's tables were emptied
                await self._takeover.beat(worker_id)
                raise StoreUnavailable("this worker had lost its place in the queue; it takes it again") from error
        if row["id"] is not None:
            self._takeover.begun(row["id"])
        return row

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """End a call; when the same waits already, look for it at once.

        One that could not be ended, or queued again, is known no more: the next beats give it back (`beat`).
        """
        assert job.id is not None
        try:
            if status is not Status.SUCCEEDED:
                return
            ended = await self._tables.insist(lambda: self._tables.ask(_FINISH, id=job.id))
        except (StoreError, psycopg.Error) as error:
            _log.warning("%s ended, which PostgreSQL did not take down (%s)", job.lock, type(error).__name__)
            return
        finally:
            self._takeover.ended(job.id)
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

        await self._tables.insist(lambda: super(Rows, self).listen_for_jobs(on_notification=heard, queues=queues))

    async def register_worker(self) -> int:
        """Take a place among the workers."""
        (row,) = await self._tables.ask(_REGISTER)
        self._takeover.newly_placed()
        return int(row["id"])

    async def unregister_worker(self, worker_id: int) -> None:
        """Leave in good order."""
        await self._tables.ask(_UNREGISTER, worker=worker_id)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Forget workers of old that hold nothing; those that hold something are found by `Takeover`."""
        await self._tables.ask(_FORGET, unseen_s=seconds_since_heartbeat)
        return []
