"""Breakers that several processes share: who opened is known to all within a second, and one probes for all.

A call never waits for the database: changes are queued and carried by the connection's own thread. Only the right to
probe is asked for in the moment, once per open period.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from prunella.guard.breaker import LINK, LiveBreaker, State
from prunella.guard.ledger import Ledger

_CREATE = """
CREATE TABLE IF NOT EXISTS {gates} (
  name TEXT PRIMARY KEY,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  reopen_at DOUBLE PRECISION NOT NULL,
  probe_until DOUBLE PRECISION,
  version INTEGER NOT NULL
)"""
_REPORT = """
INSERT INTO {gates} (name, state, reason, reopen_at, probe_until, version)
VALUES (:name, :state, :reason, {now} + :open_s, NULL, 1)
ON CONFLICT (name) DO UPDATE SET state = :state, reason = :reason, reopen_at = {now} + :open_s, probe_until = NULL,
  version = {gates_own}.version + 1"""
_READ = "SELECT name, state, reason, reopen_at - {now}, version FROM {gates}"
_VERSION = "SELECT version FROM {gates} WHERE name = :name"
_PROBE = """
UPDATE {gates} SET probe_until = {now} + :lease_s
WHERE name = :name AND state = 'open' AND reopen_at <= {now} AND (probe_until IS NULL OR probe_until <= {now})"""
_KNOWN = "SELECT 1 FROM {gates} WHERE name = :name AND state = 'open'"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a shared breaker stands."""

    state: State
    reason: str
    open_s: float
    version: int


class SharedBreakers:
    """The breakers of this process that share their state through one database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changes: deque[tuple[LiveBreaker, State, str, float]] = deque()
        self._seen: dict[str, int] = {}
        self._following: tuple[int, LiveBreaker] | None = None
        with ledger.session() as session:
            session.run(_CREATE, {})

    def changed(self, breaker: LiveBreaker, state: State, reason: str) -> None:
        """Note a change to be told to the others; costs no time."""
        if state is not State.HALF_OPEN and self._following != (threading.get_ident(), breaker):
            self._changes.append((breaker, state, reason, breaker.open_for_s))

    def may_probe(self, name: str, lease_s: float) -> bool:
        """Win the right to probe in this period; False for everybody else."""
        with self._ledger.session() as session:
            if not session.run(_KNOWN, {"name": name}):
                return True  # nobody else has heard of it: nobody else probes
            return session.count(_PROBE, {"name": name, "lease_s": lease_s}) == 1

    def exchange(self) -> None:
        """Tell the others what changed here, and follow what changed there."""
        while self._changes:
            breaker, state, reason, open_s = self._changes[0]
            with self._ledger.session() as session:
                fields = {"name": breaker.name, "state": state.value, "reason": reason, "open_s": min(open_s, 1e9)}
                session.run(_REPORT, fields)
                (row,) = session.run(_VERSION, fields)
            self._seen[breaker.name] = row[0]
            self._changes.popleft()  # only now: a database that is away must not lose it
        standings = self._read()
        for breaker in LINK.known():
            standing = standings.get(breaker.name) if breaker.limits.shared else None
            if standing is not None and self._seen.get(breaker.name) != standing.version:
                self._seen[breaker.name] = standing.version
                self._following = (threading.get_ident(), breaker)  # what comes from there is not told back
                breaker.follow(standing.state, standing.open_s, standing.reason)
                self._following = None

    def _read(self) -> dict[str, Standing]:
        with self._ledger.session() as session:
            rows = session.run(_READ, {})
        return {row[0]: Standing(State(row[1]), row[2], max(row[3], 0.0), row[4]) for row in rows}
