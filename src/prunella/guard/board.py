"""What the processes of an application tell each other and the engine.

Where breakers stand, which rate was learned, what was noticed: a table for each in the database that the application
names. Must never be asked on the way of a call, but for the right to probe.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prunella.core import redact
from prunella.core.clock import Ids, Rng, SystemClock
from prunella.guard.breaker import State
from prunella.guard.database import Database
from prunella.guard.durable import storable

_BREAKERS = """
CREATE TABLE IF NOT EXISTS {schema}shared_breakers (
  name TEXT PRIMARY KEY,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  reopen_at DOUBLE PRECISION NOT NULL,
  probe_until DOUBLE PRECISION,
  version INTEGER NOT NULL
)"""
_RATES = """
CREATE TABLE IF NOT EXISTS {schema}learned_rates (
  name TEXT PRIMARY KEY,
  rate_per_s DOUBLE PRECISION NOT NULL,
  learned_at DOUBLE PRECISION NOT NULL
)"""
_NOTICES = """
CREATE TABLE IF NOT EXISTS {schema}guard_notices (
  id TEXT PRIMARY KEY,
  service TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  recovered INTEGER NOT NULL,
  noticed_at DOUBLE PRECISION NOT NULL
)"""
_REPORT = """
INSERT INTO {schema}shared_breakers AS mine (name, state, reason, reopen_at, probe_until, version)
VALUES (:name, :state, :reason, {now} + :open_s, NULL, 1)
ON CONFLICT (name) DO UPDATE SET state = :state, reason = :reason, reopen_at = {now} + :open_s, probe_until = NULL,
  version = mine.version + 1"""
_VERSION = "SELECT version FROM {schema}shared_breakers WHERE name = :name"
_STANDINGS = "SELECT name, state, reason, reopen_at - {now}, version FROM {schema}shared_breakers"
_KNOWN = "SELECT 1 FROM {schema}shared_breakers WHERE name = :name AND state = 'open'"
_PROBE = """
UPDATE {schema}shared_breakers SET probe_until = {now} + :lease_s
WHERE name = :name AND state = 'open' AND reopen_at <= {now} AND (probe_until IS NULL OR probe_until <= {now})"""
_LEARN = """
INSERT INTO {schema}learned_rates (name, rate_per_s, learned_at) VALUES (:name, :rate_per_s, {now})
ON CONFLICT (name) DO UPDATE SET rate_per_s = :rate_per_s, learned_at = {now}"""
_LEARNED = "SELECT name, rate_per_s FROM {schema}learned_rates"
_NOTICE = """
INSERT INTO {schema}guard_notices (id, service, code, message, recovered, noticed_at)
VALUES (:id, :service, :code, :message, :recovered, {now})
ON CONFLICT DO NOTHING"""
_FORGET = "DELETE FROM {schema}guard_notices WHERE noticed_at < {now} - :age_s"
_NOTICED = "SELECT id, service, code, message, recovered FROM {schema}guard_notices ORDER BY noticed_at LIMIT :most"
_TAKEN = "DELETE FROM {schema}guard_notices WHERE id = :id"
_OLD_RATES = """
DELETE FROM {schema}learned_rates WHERE name IN
  (SELECT name FROM {schema}learned_rates WHERE learned_at < {now} - :age_s LIMIT :most)"""
_OLD_BREAKERS = """
DELETE FROM {schema}shared_breakers WHERE name IN
  (SELECT name FROM {schema}shared_breakers
   WHERE reopen_at < {now} - :age_s AND (probe_until IS NULL OR probe_until < {now} - :age_s) LIMIT :most)"""

_KEPT_S = 7 * 86_400.0
"""How long a notice waits for an engine; without one nobody ever takes it."""
_UNTOUCHED_S = 90 * 86_400.0
"""How long a rate and a breaker that nobody works with any more are kept; one that is held open stays."""
_OPEN_MAX_S = 1e9
"""What stands for a breaker that is held open: databases know no infinite time."""
TEXT_MAX = 2_000
"""For a reason and a message each, in characters; an engine refuses longer ones."""
_SERVICE_MAX, _SIGNS = 100, " .:/@+-_"  # what events may carry as a service, beside letters and digits
_ids = Ids(SystemClock(), Rng())


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a shared breaker stands.

    Args:
        reason: kept without its secrets, at most 2,000 characters of it.
        open_s: seconds until a call may pass.
        version: grows with every change.
    """

    name: str
    state: State
    reason: str
    open_s: float
    version: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", storable(redact.scrub(self.reason))[:TEXT_MAX])


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that guards noticed, for the engine.

    Args:
        service: the policy's name; what no event may carry as a service is replaced.
        code: what kind of thing it is: `circuit_breaker_open`.
        message: kept without its secrets, at most 2,000 characters of it.
        recovered: it is over.
    """

    service: str
    code: str
    message: str
    recovered: bool
    id: str = field(default_factory=_ids.new)

    def __post_init__(self) -> None:
        object.__setattr__(self, "service", _service(self.service))
        object.__setattr__(self, "message", storable(redact.scrub(self.message))[:TEXT_MAX])


def _service(name: str) -> str:
    """Return a name that an event may carry; one that had to change keeps a mark of what it was."""
    name = name.strip()
    fitting = "".join(sign if sign.isalpha() or sign.isdecimal() or sign in _SIGNS else "-" for sign in name)
    if fitting == name and 0 < len(name) <= _SERVICE_MAX:
        return name
    mark = f"-{zlib.crc32(name.encode(errors='replace')):08x}"
    return fitting[: _SERVICE_MAX - len(mark)] + mark


class Board(Protocol):
    """Where processes meet; every method raises `StoreUnavailable` when nobody answers there."""

    def report(self, standing: Standing) -> int:
        """Tell the others where a breaker stands; return the new version."""
        ...

    def standings(self) -> list[Standing]:
        """Return where the others' breakers stand."""
        ...

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        ...

    def learn(self, name: str, rate_per_s: float) -> None:
        """Keep a rate that was learned; the last word counts."""
        ...

    def learned(self) -> dict[str, float]:
        """Return the rates that were learned, by the limiter's name."""
        ...

    def notice(self, notice: Notice) -> None:
        """Leave word for the engine."""
        ...


class SqlBoard:
    """The board in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(shared_breakers=_BREAKERS, learned_rates=_RATES, guard_notices=_NOTICES)

    def report(self, standing: Standing) -> int:
        """Tell the others where a breaker stands; return the new version."""
        fields = {
            "name": standing.name,
            "state": standing.state.value,
            "reason": standing.reason,
            "open_s": min(standing.open_s, _OPEN_MAX_S),
        }
        with self._database.session() as session:
            session.run(_REPORT, fields)
            (row,) = session.run(_VERSION, fields)
        return int(row[0])

    def standings(self) -> list[Standing]:
        """Return where the others' breakers stand."""
        with self._database.session() as session:
            rows = session.run(_STANDINGS, {})
        return [
            Standing(name=row[0], state=State(row[1]), reason=row[2], open_s=max(row[3], 0.0), version=row[4])
            for row in rows
        ]

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        with self._database.session() as session:
            if not session.run(_KNOWN, {"name": name}):
                return True  # nobody else has heard of it: nobody else probes
            return session.count(_PROBE, {"name": name, "lease_s": lease_s}) == 1

    def learn(self, name: str, rate_per_s: float) -> None:
        """Keep a rate that was learned; the last word counts."""
        with self._database.session() as session:
            session.run(_LEARN, {"name": name, "rate_per_s": rate_per_s})

    def learned(self) -> dict[str, float]:
        """Return the rates that were learned, by the limiter's name."""
        with self._database.session() as session:
            return dict(session.run(_LEARNED, {}))

    def notice(self, notice: Notice) -> None:
        """Leave word for the engine."""
        fields = {
            "id": notice.id,
            "service": notice.service,
            "code": notice.code,
            "message": notice.message,
            "recovered": int(notice.recovered),
        }
        with self._database.session() as session:
            session.run(_NOTICE, fields)
            session.run(_FORGET, {"age_s": _KEPT_S})

    def forget(self, most: int) -> int:
        """Remove up to `most` rates and breakers that nobody touched for 90 days; return how many of the more."""
        fields = {"age_s": _UNTOUCHED_S, "most": most}
        with self._database.session() as session:
            return max(session.count(_OLD_RATES, fields), session.count(_OLD_BREAKERS, fields))

    def notices(self, most: int) -> list[Notice]:
        """Return what waits for the engine, the oldest first."""
        with self._database.session() as session:
            rows = session.run(_NOTICED, {"most": most})
        return [Notice(id=row[0], service=row[1], code=row[2], message=row[3], recovered=bool(row[4])) for row in rows]

    def taken(self, notices: Sequence[Notice]) -> None:
        """Forget what the engine has taken."""
        with self._database.session() as session:
            for notice in notices:
                session.run(_TAKEN, {"id": notice.id})
