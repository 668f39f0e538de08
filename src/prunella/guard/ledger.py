"""Calls that were handed over, as rows: written and committed before the caller hears of it.

One table in the application's own database, or in the engine's. Must never hold a secret: what redaction would mark
is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from prunella.core import redact
from prunella.core.clock import Ids, Rng, SystemClock
from prunella.core.errors import InvalidInput
from prunella.guard.database import Database

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

_TEXT_MAX = 500
_NAME_BYTES_MAX = 500
"""For a name and a key each: an index of PostgreSQL takes rows of 2,704 bytes."""
_ARGUMENTS_CHARS_MAX = redact.CHARS_MAX  # beyond it nothing is looked at for secrets
_DEPTH_MAX = 100
WAIT_S_MAX = 366 * 86_400.0
"""What a service may ask for; a date beyond it is a mistake, and would be none in some databases."""
_ids = Ids(SystemClock(), Rng())


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call to be written down.

    Args:
        function: name under which the function is known.
        key: its idempotency key; while one waits under it, another is not written.
        arguments: `args` and `kwargs`, as JSON can hold them.
        attempts: how often it was tried already.
        wait_s: seconds until it is due.
        error: how the last attempt failed; kept without its secrets.
        id: its own for ever, so that writing it twice writes it once.

    Raises:
        InvalidInput: the arguments can't be kept: they are no JSON, or hold a secret.
    """

    function: str
    policy: str
    key: str
    arguments: Mapping[str, Any]
    attempts: int
    wait_s: float
    error: str
    id: str = field(default_factory=_ids.new)

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", told(self.error))
        object.__setattr__(self, "wait_s", min(self.wait_s, WAIT_S_MAX))
        for name, value in (("name", self.function), ("key", self.key)):
            if len(storable(value).encode()) > _NAME_BYTES_MAX or storable(value) != value:
                raise InvalidInput(
                    f"durable: the {name} {storable(value)[:50]!r}… can't be kept; take at most {_NAME_BYTES_MAX} "
                    "bytes of text without NUL and lone surrogates"
                )
        text = self.arguments_json()
        if len(text) > _ARGUMENTS_CHARS_MAX:
            raise InvalidInput(
                f"durable {self.function}: its arguments are {len(text)} characters of JSON, and at most "
                f"{_ARGUMENTS_CHARS_MAX} are kept; pass ids and plain values"
            )
        if redact.scrub(text) != text or redact.scrub(self.key) != self.key:
            raise InvalidInput(
                f"durable {self.function}: its arguments or its key hold what looks like a secret, which is never "
                "stored; name the argument in secrets={…} with a function that brings it when the call is made"
            )

    def arguments_json(self) -> str:
        """Return the arguments as they are stored."""
        try:
            _demand_text(self.arguments, 0)
            return json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"durable {self.function}: its arguments are no JSON ({error}); pass ids and plain values"
            ) from error


def told(error: str) -> str:
    """Return what an error says as it may be stored: without secrets, short, and text for every database."""
    return storable(redact.scrub(error))[:_TEXT_MAX]


def storable(text: str) -> str:
    """Return `text` with question marks for NUL and lone surrogates, which PostgreSQL or UTF-8 can't hold."""
    return text.replace("\0", "?").encode(errors="replace").decode()


def _demand_text(value: Any, depth: int) -> None:
    """Raise `ValueError` for what JSON can be told but nobody can send back: it would hold up every other call."""
    if depth > _DEPTH_MAX:
        raise ValueError(f"nested deeper than {_DEPTH_MAX} levels")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _demand_text(name, depth + 1)
            _demand_text(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _demand_text(item, depth + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableCall:
    """A call that waits to be made.

    Args:
        function: name under which the function is known.
        args, kwargs: positional and named arguments, as JSON holds them.
        attempts: how often it was tried, in the calling process and since, this time included.
    """

    id: str
    function: str
    idempotency_key: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempts: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one attempt at a durable call ended.

    Args:
        state: done; waiting for its next attempt; dead, for a person to look at.
        wait_s: seconds until the next attempt.
        error: what went wrong; kept without its secrets.
        counted: False for an attempt that a guard refused.
    """

    state: Literal["done", "waiting", "dead"]
    wait_s: float = 0.0
    error: str | None = None
    counted: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "wait_s", min(self.wait_s, WAIT_S_MAX))
        if self.error is not None:
            object.__setattr__(self, "error", told(self.error))


class Ledger(Protocol):
    """Where durable calls are kept; every method raises `StoreUnavailable` when nobody answers there."""

    def write(self, call: NewCall) -> tuple[str, float]:
        """Write a call down and return its id and due time; one that waits under the same key is not written twice."""
        ...

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls of these functions that are due, until `lease_s` from now; nobody else gets them meanwhile."""
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
        database.create(_CREATE, _ONCE, _DUE_INDEX)

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
        with self._database.session() as session:
            session.run(_INSERT, fields)
            written = session.run(_WRITTEN, fields)
        return written[0][0], written[0][1]

    def claim(self, functions: Sequence[str], worker: str, lease_s: float, most: int) -> list[DurableCall]:
        """Take calls of these functions that are due, until `lease_s` from now; nobody else gets them meanwhile."""
        if not functions:
            return []
        names = {f"f{number}": name for number, name in enumerate(functions)}
        due = _DUE.replace("{functions}", ", ".join(f":{name}" for name in names))
        with self._database.session() as session:
            rows = session.run(due, {**names, "most": most})
            won = [row for row in rows if session.count(_CLAIM, {"id": row[0], "worker": worker, "lease_s": lease_s})]
        return [_call(row) for row in won]

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


def _call(row: tuple[Any, ...]) -> DurableCall:
    arguments = json.loads(row[3])
    return DurableCall(
        id=row[0],
        function=row[1],
        idempotency_key=row[2],
        args=arguments["args"],
        kwargs=arguments["kwargs"],
        attempts=row[4] + 1,
        created_at=row[5],
    )
