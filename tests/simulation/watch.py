"""What must hold at every commit and at every begun attempt, whoever looks.

Written against the tables and the outside's ledger, never against the engine's own view of itself.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from prunella.core.records import Category
from prunella.engine.parts import LEASE_S
from prunella.engine.plan import TRIES
from prunella.store import credentials as credential_rows
from prunella.store import operations as operation_rows
from prunella.store.sql import Bound, SqliteDialect
from prunella.store.tables import runs
from simulation.world import START, World

_DIALECT = SqliteDialect()
_GIVE_UP = credential_rows._GIVE_UP.prepared(_DIALECT).text
_ROTATE = credential_rows._ROTATE.prepared(_DIALECT).text
_WAKE_ALL = operation_rows._WAKE_ALL.prepared(_DIALECT).text
_WAKE = operation_rows._WAKE_RESTING.prepared(_DIALECT).text
_REPEATABLE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")

_AT_EVERY_COMMIT = """
SELECT 'an incident waits for nothing that anybody can see', id FROM incidents
  WHERE state <> 'resolved' AND next_at IS NULL AND coalesce(held_reason, '') = '' AND lease_until IS NULL
UNION ALL SELECT 'an incident is healing and nobody has it', id FROM incidents
  WHERE state = 'healing' AND lease_until IS NULL AND next_at IS NULL
UNION ALL SELECT 'an incident is resolved with work left', i.id FROM incidents i JOIN operations o ON o.incident_id = i.id
  WHERE i.state = 'resolved' AND o.state IN ('waiting', 'running', 'dead')
UNION ALL SELECT 'an incident is resolved and leased', id FROM incidents WHERE state = 'resolved' AND lease_until IS NOT NULL
UNION ALL SELECT 'an incident waits for a person and promises a time', id FROM incidents
  WHERE state IN ('escalated', 'suppressed', 'awaiting_approval') AND next_at IS NOT NULL
UNION ALL SELECT 'an incident looks for tokens where there are none', id FROM incidents
  WHERE held_reason LIKE 'no refresh token is stored%'
UNION ALL SELECT 'an operation has two live runs', operation_id FROM runs
  WHERE state = 'running' AND operation_id IS NOT NULL GROUP BY operation_id HAVING count(*) > 1
UNION ALL SELECT 'an operation runs without a run', o.id FROM operations o WHERE o.state = 'running'
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.operation_id = o.id AND r.state = 'running')
UNION ALL SELECT 'a count is not the number of its events', i.id FROM incidents i WHERE i.count <> (SELECT count(*)
  FROM signals s WHERE s.incident_id = i.id AND s.outcome = 'failure' AND s.event_id NOT LIKE 'echo-%')
  AND coalesce(i.resolved_at, 'open') > :forgotten
"""

_OVERDUE = """
SELECT id, version FROM incidents WHERE state IN ('pending', 'open', 'healing', 'verifying')
  AND max(coalesce(next_at, lease_until), coalesce(lease_until, next_at)) < :now
  AND NOT (coalesce(held_reason, '') <> '' AND service IN (SELECT service FROM gates WHERE state = 'disabled'))
"""
"""Where a service is disabled, nobody needs to look at a new event of what waits for it: to enable it wakes all."""
_DECIDED_S = 2.0  # what was decided before the clock was set begins behind it
_PATIENCE_S = 90.0
"""How late the engine may be, with a slow database and a queue before it."""


@cache
def _touches(text: str) -> bool:
    """Tell whether a statement may change what is promised at every commit."""
    return (
        re.match(r'(INSERT INTO|UPDATE|DELETE FROM) "?(incidents|operations|runs|signals|gates|credentials)\b', text)
        is not None
    )


def moment(wall_s: float) -> str:
    """Spell a time of the wall clock as the tables do."""
    return (START + timedelta(seconds=wall_s)).isoformat(sep=" ", timespec="microseconds")


class Watch:
    """Look over the database's shoulder, statement by statement."""

    def __init__(self, world: World, database: sqlite3.Connection, kept_s: float) -> None:
        self._world, self._database, self.kept_s = world, database, kept_s
        self._touched = True
        self._rotated: list[tuple[str, str, str]] = []
        self._rounds: Counter[str] = Counter()  # incident -> how often its resting work was woken
        self.kept: dict[str, str] = {}  # incident -> the state that a person put it into
        self.people_at_work = 0
        self._overdue: dict[tuple[str, int], float] = {}
        self._tries: Counter[tuple[str, int]] = Counter()
        self.interrupted: set[str] = set()  # runs whose process died
        self.failures: Counter[str] = Counter()

    def before(self, text: str, values: Bound, process: str) -> None:
        """Judge a statement that is about to run."""
        self._touched = self._touched or _touches(text)
        if not isinstance(values, Mapping):
            if text.startswith('INSERT INTO "runs"'):
                names = [column.name for column in runs.columns]
                rows = [values[start : start + len(names)] for start in range(0, len(values), len(names))]
                self._begun([dict(zip(names, row, strict=True)) for row in rows])
        elif text == _ROTATE:
            self._rotated.append((values["service_"], values["account_"], process))
        elif text == _GIVE_UP:
            self._given_up(values["service_"], values["account_"])
        elif text == _WAKE:
            self._rounds[values["incident"]] += 1
        elif text == _WAKE_ALL:
            lane = "SELECT id FROM incidents WHERE service = ? AND state <> 'resolved'"
            self._rounds.update(row[0] for row in self._database.execute(lane, (values["service_"],)))
        elif text == "BEGIN IMMEDIATE":
            self._rotated.clear()

    def after(self, text: str, values: Bound) -> None:
        """Judge what stands after a commit."""
        if text != "COMMIT" or not self._touched:
            return
        self._touched = False
        forgotten = moment(self._world.wall_s() - self.kept_s)  # what is older may be half gone
        for promise, row in self._database.execute(_AT_EVERY_COMMIT, {"forgotten": forgotten}):
            self._world.wrong(f"{promise}: {row}")
        self._somebody_comes()
        for service, account_name, process in self._rotated:
            account = self._world.places[service].accounts[account_name]
            if account.held_by == process:
                account.held_by, account.known = None, True
        self._kept_by_people()

    def _given_up(self, service: str, account_name: str) -> None:
        holder = self._world.places[service].accounts[account_name].held_by
        if holder in self._world.alive:
            self._world.wrong(f"a person was asked for tokens while {holder} held the new pair: {service}")

    def forget(self) -> None:
        """Forget what is over, as retention does."""
        there = {row[0] for row in self._database.execute("SELECT id FROM incidents")}
        self._rounds = Counter({one: count for one, count in self._rounds.items() if one in there})
        self.kept = {one: state for one, state in self.kept.items() if one in there}
        self._tries.clear()

    def died(self, process: str) -> None:
        """Note which attempts a process leaves behind."""
        rows = self._database.execute("SELECT id FROM runs WHERE state = 'running' AND worker = ?", (process,))
        self.interrupted.update(row[0] for row in rows)

    def engine_failed(self, handler: str, error: str) -> None:
        """Note a failure of our own."""
        self.failures[error] += 1
        if error != "StoreUnavailable":
            self._world.wrong(f"{handler} failed: {error}")

    def _begun(self, runs: list[dict[str, Any]]) -> None:
        """An attempt may begin only where the gate lets it, and only so often."""
        if not runs or self._world.now_s() < self._world.set_at_s + _DECIDED_S:
            return
        service, now = runs[0]["service"], moment(self._world.wall_s())
        gate = self._database.execute(
            "SELECT state, reopen_at, throttled_until FROM gates WHERE service = ?", (service,)
        ).fetchone()
        state, reopen_at, throttled_until = gate
        shut = state in ("paused", "disabled") or (state == "open" and reopen_at is not None and reopen_at > now)
        if shut:
            self._world.wrong(f"an attempt began while {service} was {state}")
        if throttled_until is not None and throttled_until > now and runs[0]["remedy"] != "refresh_token":
            self._world.wrong(f"an attempt began while {service} had asked for silence")
        rows = self._database.execute(
            "SELECT id FROM runs WHERE service = ? AND state = 'running' AND started_at > ?",
            (service, moment(self._world.wall_s() - LEASE_S)),  # no call lasts half as long
        )
        under_way = len({row[0] for row in rows} - self.interrupted)
        most = self._world.places[service].service.calls_max if state == "closed" else 1
        if under_way + len(runs) > most:
            self._world.wrong(f"{under_way + len(runs)} calls to {service} at once, {most} allowed while {state}")

    def _kept_by_people(self) -> None:
        """What a person put aside stays there until it is resolved or a person takes it up."""
        for incident, wanted in list(self.kept.items()):
            row = self._database.execute("SELECT state FROM incidents WHERE id = ?", (incident,)).fetchone()
            state = "forgotten" if row is None else row[0]
            if state in (wanted, "resolved", "forgotten"):
                continue
            del self.kept[incident]
            if not self.people_at_work:
                self._world.wrong(f"a person had {wanted} it and the machine made it {state}: {incident}")

    def _somebody_comes(self) -> None:
        """What is due, or whose lease has ended, is taken up before long."""
        now_s = self._world.now_s()
        found = set(self._database.execute(_OVERDUE, {"now": moment(self._world.wall_s())}).fetchall())
        self._overdue = {one: since for one, since in self._overdue.items() if one in found}
        for one in found:
            since_s = max(self._overdue.setdefault(one, now_s), self._world.epoch_s, self._world.patient_until_s)
            if now_s - since_s > _PATIENCE_S:
                self._world.wrong(f"nobody came although it was due: {one[0]}")

    def called(self, key: str) -> None:
        """A replay is sent: at most so many in one round, and a crash in mid-call may cost one more."""
        row = self._database.execute(
            "SELECT o.id, o.incident_id, i.category FROM operations o JOIN incidents i ON i.id = o.incident_id "
            "WHERE o.idempotency_key = ?",
            (key,),
        ).fetchone()
        if row is None:
            return
        operation, incident, category = row
        place = (operation, self._rounds[incident])
        self._tries[place] += 1
        unknown = self._database.execute(
            "SELECT count(*) FROM runs WHERE operation_id = ? AND state = 'unknown'", (operation,)
        ).fetchone()[0]
        more = self._world.replies[key]["429_30"]
        first_round = not self._rounds[incident]
        most = TRIES[Category(category)] if first_round else TRIES[Category.NETWORK]
        most += self._database.execute(  # a repair of what is known makes one more try worth it
            "SELECT count(*) FROM runs WHERE incident_id = ? AND remedy = 'invalidate_cache'", (incident,)
        ).fetchone()[0]
        # behind a death the round counts as another one, in which tokens renewed meanwhile are worth a try
        more += min(unknown, self._world.replies[key]["401"])
        if self._tries[place] > max(most, min(most + unknown, max(most, TRIES[Category.NETWORK]))) + more:
            self._world.wrong(f"try {self._tries[place]} in one round of {category}: {operation}")
