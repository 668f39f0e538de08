"""What must hold when the storm is over and everybody had time.

Written against the tables and the outside's ledger, never against the engine's own view of itself.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime

from prunella.engine.learning import occurrences
from prunella.engine.parts import LEASE_S
from simulation.services import FOR_PEOPLE
from simulation.watch import Watch, moment
from simulation.world import World

_LEFT_TO_PEOPLE_S = 86_400.0  # what rests for a day is a person's; the clock may be set forward by one
_SLACK_S = 5.0  # between the claim and the run's beginning, on a slow database
_SECRET = re.compile("[a-z]{3}-[0-9a-f]{24}")  # as World.secret makes them
_REPEATABLE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")

_AT_THE_END = """
SELECT 'a run never ended', id FROM runs WHERE state IN ('planned', 'running')
UNION ALL SELECT 'an operation is still running', id FROM operations WHERE state = 'running'
UNION ALL SELECT 'a due incident was forgotten', id FROM incidents
  WHERE state IN ('pending', 'open', 'healing', 'verifying') AND next_at < :late
UNION ALL SELECT 'a lease ran out and nobody came', id FROM incidents WHERE lease_until < :late AND state <> 'escalated'
UNION ALL SELECT 'a due operation was forgotten', o.id FROM operations o JOIN incidents i ON i.id = o.incident_id
  WHERE o.state = 'waiting' AND o.due_at < :late AND i.state IN ('pending', 'open', 'healing', 'verifying')
  AND coalesce(i.held_reason, '') = ''
UNION ALL SELECT 'an accepted failure has no incident', s.id FROM signals s LEFT JOIN incidents i ON i.id = s.incident_id
  WHERE s.outcome = 'failure' AND i.id IS NULL
UNION ALL SELECT 'an opening is not in the audit', i.id FROM incidents i WHERE 1 <>
  (SELECT count(*) FROM audit a WHERE a.incident_id = i.id AND a.action = 'incident.opened')
UNION ALL SELECT 'a recovery is not in the audit', i.id FROM incidents i WHERE (i.state = 'resolved') <>
  (SELECT count(*) FROM audit a WHERE a.incident_id = i.id AND a.action = 'incident.resolved')
UNION ALL SELECT 'a recovery was not told once per channel', i.id FROM incidents i WHERE (i.state = 'resolved') * 2 <>
  (SELECT count(*) FROM notifications n WHERE n.key = 'recovered:' || i.id)
UNION ALL SELECT 'a detection was not told', i.id FROM incidents i WHERE NOT EXISTS
  (SELECT 1 FROM notifications n WHERE n.key = 'detected:' || i.id)
UNION ALL SELECT 'a due message was forgotten', id FROM notifications
  WHERE state IN ('waiting', 'sending') AND next_at < :late
"""


_REMEDIES = """
SELECT 'a remedy was tried again, and nobody asked for it', b.id FROM runs a JOIN runs b
  ON a.incident_id = b.incident_id AND a.started_at < b.started_at AND a.remedy = b.remedy
  WHERE b.remedy = 'invalidate_cache' AND a.detail NOT LIKE 'SQLite:%' AND NOT EXISTS
  (SELECT 1 FROM audit p WHERE p.actor = 'ann' AND p.at BETWEEN a.started_at AND b.started_at)
UNION ALL SELECT 'a remedy acted without leave', r.id FROM runs r JOIN incidents i ON i.id = r.incident_id
  WHERE r.remedy = 'invalidate_cache' AND r.issue IN ('gateway', 'hang-up') AND NOT EXISTS
  (SELECT 1 FROM approvals p WHERE p.incident_id = i.id AND p.state = 'approved' AND p.used_at <= r.started_at)
UNION ALL SELECT 'a remedy was judged more often than it acted', i.id FROM incidents i WHERE
  (SELECT count(*) FROM audit a WHERE a.incident_id = i.id
    AND a.action IN ('remedy.verified', 'remedy.ineffective', 'remedy.undone') AND a.reason LIKE 'invalidate_cache%')
  > (SELECT count(*) FROM runs r WHERE r.incident_id = i.id AND r.remedy = 'invalidate_cache')
UNION ALL SELECT 'evidence is not what was judged', e.scope || ' ' || e.remedy FROM evidence e
  WHERE e.scope LIKE 'issue:%' AND (e.tried <> e.verified + e.ineffective + e.undone OR e.tried <>
  (SELECT count(*) FROM audit a WHERE a.target = substr(e.scope, 7) AND a.reason LIKE e.remedy || ':%'
    AND a.action IN ('remedy.verified', 'remedy.ineffective', 'remedy.undone')))
UNION ALL SELECT 'a remedy that lasted was never credited', id FROM incidents WHERE watched_until < :looked_at
UNION ALL SELECT 'a failure was never learned from', id FROM incidents
  WHERE count > learned AND procedure = '' AND last_seen < :late
UNION ALL SELECT 'a plan waits for nobody', p.id FROM approvals p JOIN incidents i ON i.id = p.incident_id
  WHERE p.state = 'waiting' AND i.state <> 'awaiting_approval'
"""


def at_the_end(world: World, database: sqlite3.Connection, watch: Watch) -> None:
    """Judge how everything stands when the storm is over and everybody had time."""
    late_s = world.wall_s() - 60.0
    moments = {"late": moment(late_s), "looked_at": moment(late_s - (occurrences.ROUND.every_s or 0.0))}
    for judged in (_AT_THE_END, _REMEDIES):
        for promise, row in database.execute(judged, moments):
            world.wrong(f"{promise}: {row}")
    database.row_factory = sqlite3.Row
    incidents = {row["id"]: row for row in database.execute("SELECT * FROM incidents ORDER BY id")}
    operations = database.execute("SELECT * FROM operations ORDER BY id").fetchall()
    runs = database.execute("SELECT * FROM runs ORDER BY id").fetchall()
    _healed(world, [row for row in incidents.values() if row["id"] not in watch.kept], operations)
    _proven(world, incidents.values(), operations)
    _once(world)
    _interrupted(world, watch, runs, {row["id"]: row for row in operations})
    _secrets(world, database)


def healed_by_now(world: World, database: sqlite3.Connection) -> None:
    """Judge what is left when a scan has come by: nothing that a machine can heal still rests."""
    rows = database.execute(
        "SELECT i.id, i.state, i.held_reason FROM incidents i WHERE i.state IN ('open', 'verifying') "
        "AND i.category IN ('auth', 'network', 'rate_limit') AND EXISTS "
        "(SELECT 1 FROM operations o WHERE o.incident_id = i.id AND o.state = 'waiting') AND i.last_seen > ? ORDER BY i.id",
        (moment(world.wall_s() - _LEFT_TO_PEOPLE_S),),
    ).fetchall()
    for row in rows:
        world.wrong(f"the scan passed by an incident that rests: {row}")


def _healed(world: World, incidents: Iterable[sqlite3.Row], operations: list[sqlite3.Row]) -> None:
    """With everything well again, what a machine can heal is healed; the rest says whom it waits for."""
    quarantined = {row["incident_id"] for row in operations if row["state"] == "dead"}
    long_ago = moment(world.wall_s() - _LEFT_TO_PEOPLE_S)
    for row in incidents:
        if row["state"] == "resolved":
            continue
        place = world.places.get(row["service"])
        for_a_person = (
            row["category"] in ("data", "unknown")
            or row["id"] in quarantined
            or place is None
            or (row["category"] == "auth" and place.service.oauth is None)
            or row["issue_id"] in FOR_PEOPLE
            or (row["state"] == "escalated" and row["first_seen"] < long_ago)
        )
        if not row["held_reason"]:
            world.wrong(f"an incident is left without a reason: {row['id']}")
        elif not for_a_person:
            world.wrong(f"an incident could be healed and is not: {row['id']} {row['state']} {row['held_reason']}")


def _proven(world: World, incidents: Iterable[sqlite3.Row], operations: list[sqlite3.Row]) -> None:
    """Nothing is called resolved, and nobody is told so, without a proof from outside."""
    for row in incidents:
        if row["state"] != "resolved":
            continue
        own = [one for one in operations if one["incident_id"] == row["id"]]
        unproven = [one["id"] for one in own if not world.replies[one["idempotency_key"]]["ok"]]
        seen_well_s = max(world.probed_well.get(row["service"], -1.0), world.successes.get(row["service"], -1.0))
        if unproven or (not own and moment(seen_well_s) < row["first_seen"]):
            world.wrong(f"an incident was called resolved without proof: {row['id']} {unproven}")


def _once(world: World) -> None:
    """Where a receiver honours our key, nothing happens twice."""
    for name, place in world.places.items():
        for reference, keys in place.effects.items():
            if place.service.honours_idempotency_key and len(keys) > 1:
                world.wrong(f"{len(keys)} effects of one request at {name}: {reference} {keys}")


def _interrupted(world: World, watch: Watch, runs: list[sqlite3.Row], operations: Mapping[str, sqlite3.Row]) -> None:
    """What a death interrupted is shown as unknown, and repeated only where that does no harm."""
    for number, run in enumerate(runs):
        if run["id"] not in watch.interrupted:
            _taken_for_dead(world, run)
            continue
        if run["state"] != "unknown":
            world.wrong(f"an interrupted run is {run['state']}: {run['id']}")
        operation = operations.get(run["operation_id"])
        if operation is None or operation["method"] in _REPEATABLE:
            continue
        place = world.places[run["service"]]
        again = [one["id"] for one in runs[number + 1 :] if one["operation_id"] == run["operation_id"]]
        if again and not place.service.honours_idempotency_key:
            world.wrong(f"an interrupted call was silently repeated: {run['id']} {again}")


def _taken_for_dead(world: World, run: sqlite3.Row) -> None:
    """Nobody ends a run of a live worker before its lease is over."""
    if run["state"] != "unknown":
        return
    took = datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])
    if took.total_seconds() < LEASE_S - _SLACK_S:
        world.wrong(f"a live worker was taken for dead: {run['worker']} {run['id']}")


def _secrets(world: World, database: sqlite3.Connection) -> None:
    """No secret stands in any text column."""
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in database.execute(f'SELECT * FROM "{table}"'):
            for name, value in zip(row.keys(), row, strict=True):
                if isinstance(value, str) and not world.secrets.isdisjoint(_SECRET.findall(value)):
                    world.wrong(f"a secret stands in {table}: {name}")
