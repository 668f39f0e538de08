"""Calls that were handed over, as rows: written and committed before the caller hears of it.

One table in the application's own database, or in the engine's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from prunella.core.errors import StoreUnavailable
from prunella.guard.database import Database
from prunella.guard.durable import DurableCall, Ending, NewCall

_CREATE = """
CREATE TABLE IF NOT EXISTS {schema}durable_calls (
  id TEXT PRIMARY KEY,
  function TEXT NOT NULL,
  policy TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  arguments TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  due_at DOUBLE PRECISION NOT NULL,
  lease_until DOUBLE PRECISION,
  worker TEXT,
  last_error TEXT,
  created_at DOUBLE PRECISION NOT NULL,
  ended_at DOUBLE PRECISION
)"""
_ONCE = """
CREATE UNIQUE INDEX IF NOT EXISTS durable_calls_once ON {schema}durable_calls (function, idempotency_key)
WHERE state IN ('waiting', 'running')"""
_DUE_INDEX = "CREATE INDEX IF NOT EXISTS durable_calls_due ON {schema}durable_calls (state, due_at)"
_INSERT = """
INSERT INTO {schema}durable_calls
  (id, function, policy, idempotency_key, arguments, state, attempts, due_at, last_error, created_at)
VALUES (:id, :function, :policy, :key, :arguments, 'waiting', :attempts, {now} + :wait_s, :error, {now})
ON CONFLICT DO NOTHING"""
_WRITTEN = """
SELECT id, due_at FROM {schema}durable_calls
WHERE id = :id OR (function = :function AND idempotency_key = :key AND state IN ('waiting', 'running'))
ORDER BY CASE WHEN id = :id THEN 0 ELSE 1 END"""
_DUE = """
SELECT id, function, idempotency_key, arguments, attempts, created_at FROM {schema}durable_calls
WHERE function IN ({functions})
  AND ((state = 'waiting' AND due_at <= {now}) OR (state = 'running' AND lease_until <= {now}))
ORDER BY due_at LIMIT :most"""
_CLAIM = """
UPDATE {schema}durable_calls
SET state = 'running', worker = :worker, lease_until = {now} + :lease_s, attempts = attempts + 1
WHERE id = :id AND ((state = 'waiting' AND due_at <= {now}) OR (state = 'running' AND lease_until <= {now}))"""
_RENEW = """
UPDATE {schema}durable_calls SET lease_until = {now} + :lease_s
WHERE id = :id AND worker = :worker AND state = 'running'"""
_END = """
UPDATE {schema}durable_calls SET state = :state, due_at = {now} + :wait_s, lease_until = NULL, last_error = :error,
  attempts = attempts - :uncounted, ended_at = CASE WHEN :state = 'waiting' THEN NULL ELSE {now} END
WHERE id = :id AND worker = :worker AND state = 'running'"""


_DONE_BEFORE = """
DELETE FROM {schema}durable_calls WHERE id IN
  (SELECT id FROM {schema}durable_calls WHERE state = 'done' AND ended_at < {now} - :age_s LIMIT :most)"""

_DONE_KEPT_S = 7 * 86_400.0
_WRITE_TRIES = 2
"""Where two work at once, a call that was in the way may have ended when it is looked for: then there is room."""


class Ledger(Protocol):
    """Where durable calls are kept; every method raises `StoreUnavailable` when nobody answers there."""

    def write(self, call: NewCall) -> tuple[str, float]:
        """Write a call down and return its id and due time; one that waits under the same key is not written twice."""
        ...

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls of these functions that are due, until `lease_s` from now; nobody else gets them meanwhile.

        Args:
            worker: a name that no earlier claim had, or an end that was held up would end a later attempt.
        """
        ...

    def renew(self, call_id: str, worker: str, lease_s: float) -> None:
        """Keep a call that is still being made."""
        ...

    def end(self, call_id: str, worker: str, ending: Ending) -> None:
        """Write how an attempt ended; one whose lease was lost writes nothing."""
        ...


class SqlLedger:
    """The table of durable calls in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(durable_calls=_CREATE, durable_calls_once=_ONCE, durable_calls_due=_DUE_INDEX)

    def write(self, call: NewCall) -> tuple[str, float]:
        """Write a call down and return its id and due time; one that waits under the same key is not written twice."""
        fields = {
            "id": call.id,
            "function": call.function,
            "policy": call.policy,
            "key": call.key,
            "arguments": call.arguments_json(),
            "attempts": call.attempts,
            "wait_s": call.wait_s,
            "error": call.error,
        }
        for _ in range(_WRITE_TRIES):
            with self._database.session() as session:
                session.run(_INSERT, fields)
                if written := session.run(_WRITTEN, fields):
                    return written[0][0], written[0][1]
        raise StoreUnavailable(
            f"durable {call.function}: another call of its key ended just now, twice; hand it over again"
        )

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls of these functions that are due, until `lease_s` from now; nobody else gets them meanwhile."""
        if not functions:
            return []
        names = {f"f{number}": name for number, name in enumerate(functions)}
        due = _DUE.replace("{functions}", ", ".join(f":{name}" for name in names))
        with self._database.session() as session:
            rows = session.run(due, {**names, "most": most})
            won = [row for row in rows if session.count(_CLAIM, {"id": row[0], "worker": worker, "lease_s": lease_s})]
        return [_call(row, worker) for row in won]

    def renew(self, call_id: str, worker: str, lease_s: float) -> None:
        """Keep a call that is still being made."""
        with self._database.session() as session:
            session.run(_RENEW, {"id": call_id, "worker": worker, "lease_s": lease_s})

    def end(self, call_id: str, worker: str, ending: Ending) -> None:
        """Write how an attempt ended; one whose lease was lost writes nothing."""
        fields = {
            "id": call_id,
            "worker": worker,
            "state": ending.state,
            "wait_s": ending.wait_s,
            "error": ending.error,
            "uncounted": 0 if ending.counted else 1,
        }
        with self._database.session() as session:
            session.run(_END, fields)

    def forget(self, most: int) -> int:
        """Remove up to `most` calls that were done a week ago and return how many; dead ones wait for a person."""
        with self._database.session() as session:
            return session.count(_DONE_BEFORE, {"age_s": _DONE_KEPT_S, "most": most})


def _call(row: tuple[Any, ...], worker: str) -> DurableCall:
    arguments = json.loads(row[3])
    return DurableCall(
        id=row[0],
        function=row[1],
        idempotency_key=row[2],
        args=arguments["args"],
        kwargs=arguments["kwargs"],
        attempts=row[4] + 1,
        created_at=row[5],
        worker=worker,
    )
