"""Who lives, and what becomes of calls whose worker does not: they are queued again, poison later each time.

In a crash loop every call collects deaths that others cause: one that got on between (`gets_on`) begins anew.
Found by heartbeats, never by age. A call whose fetch was committed while its answer was lost is found as well; and
whoever was cut off itself, and so cannot know who else lives, buries nobody until it has seen a while go by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prunella.core.clock import Clock
from prunella.runner.contract import STALE_S
from prunella.runner.tables import INSERT, SCHEMA, WAITING, Tables
from prunella.runner.vigil import Vigil

DEATHS_MAX = 5
"""So many workers may die over one call, then it is put off: it may be what kills them."""
_PUT_OFF_S, _PUT_OFF_MAX_S = 60.0, 900.0
"""First wait and longest: several deaths in a row may be chance; one more worker each quarter of an hour is borne."""
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
  {INSERT} SELECT queue_name, task_name, lock, lock, args,
    CASE WHEN (args ->> 'deaths')::int >= {DEATHS_MAX} THEN now() + make_interval(secs => {_PUT_OFF}) END FROM lost
  {WAITING} args = excluded.args, scheduled_at = excluded.scheduled_at
)
SELECT args FROM lost
"""  # noqa: S608


_TAKE_OVER = _begin_anew(_DEAD, deaths=1)
_GIVE_BACK = _begin_anew("job.id = ANY(%(ids)s)", deaths=0)


class Takeover:
    """What one worker says of itself and does for the dead; it is told which calls this worker begins and ends."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._begun: set[int] = set()
        self._suspects: set[int] = set()
        self._suspected_at = float("-inf")
        self._vigil, self._is_sure_of_deaths = Vigil(clock), False
        self._fetching_since: float | None = None

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Suspect no call while one is fetched: its answer may be on its way."""
        self._fetching_since = self._clock.monotonic()
        try:
            yield
        finally:
            self._fetching_since = None

    def begun(self, call: int) -> None:
        """Know that this worker carries a call out."""
        self._begun.add(call)

    def ended(self, call: int) -> None:
        """Know that this worker does so no more."""
        self._begun.discard(call)

    def newly_placed(self) -> None:
        """Suspect nothing: what was seen, was seen in another place among the workers."""
        self._suspects = set()

    async def beat(self, worker_id: int) -> set[int]:
        """Say that this worker lives; return what it began by the table and knows nothing of.

        Such a call's fetch was committed and its answer lost. To be sure it must be seen by two beats, and by no fetch.
        """
        rows = await self._tables.ask(_BEAT, worker=worker_id)
        now = self._clock.monotonic()
        self._is_sure_of_deaths = self._vigil.goes_on()
        suspects = {row["id"] for row in rows} - self._begun
        is_sure = self._fetching_since is None or self._fetching_since > self._suspected_at
        lost = suspects & self._suspects if is_sure else set()
        self._suspects, self._suspected_at = suspects, now
        return lost

    async def give_back(self, ids: set[int]) -> list[dict[str, Any]]:
        """Queue calls again that this worker began without knowing; return them."""
        return [row["args"] for row in await self._tables.ask(_GIVE_BACK, ids=list(ids))]

    async def take_over(self) -> list[dict[str, Any]]:
        """Queue calls again that dead workers had begun; return them.

        After an outage, or a freeze of this process, everybody looks dead: then nobody is, for as long as it takes a
        living one to say so.
        """
        if not self._is_sure_of_deaths:
            return []
        return [row["args"] for row in await self._tables.ask(_TAKE_OVER)]
