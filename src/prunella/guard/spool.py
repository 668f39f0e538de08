"""What waits on this side for an engine that does not answer: in order and on disk, until it has been delivered.

A message may be delivered twice, by two processes or because an answer was lost: each carries an id that counts once.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput, StoreUnavailable
from prunella.guard.database import Database

_AT_ONCE = 100
_AT_ONCE_S = 5.0
"""How long messages are carried in one go: who carries has calls to look for, or a program to start."""
_log = logging.getLogger(__name__)


class Receiver(Protocol):
    """Who takes messages."""

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Take one; `InvalidInput` where it never will, `StoreUnavailable` where it can't now."""
        ...


class Spool:
    """What waits for an engine that does not answer, in order and on disk.

    Args:
        path: a SQLite file; several processes may share it.

    Raises:
        InvalidInput: it can't be written there.
    """

    _CREATE = """
    CREATE TABLE IF NOT EXISTS spooled (
      number INTEGER PRIMARY KEY,
      path TEXT NOT NULL,
      body TEXT NOT NULL,
      refused TEXT
    )"""
    _NEXT = "SELECT number, path, body FROM spooled WHERE refused IS NULL ORDER BY number LIMIT :most"

    _SAME = """
    SELECT body FROM spooled WHERE refused IS NULL AND path = 'calls'
      AND CASE WHEN json_valid(body)
               THEN json_extract(body, '$.function') = :function AND json_extract(body, '$.key') = :key END
      ORDER BY number"""

    def __init__(self, path: str) -> None:
        self._database = Database(Path(path))
        try:
            self._database.create(spooled=self._CREATE)
        except StoreUnavailable as error:
            why = error.__cause__
            if getattr(why, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise
            raise InvalidInput(
                f"connect: the spool {path} can't be written ({why}); name a file in a folder that this program may "
                "write to: spool=…"
            ) from error

    def waiting(self, function: str, key: str) -> dict[str, Any] | None:
        """Return the call of this function and key that waits; None where there is none."""
        with self._database.session() as session:
            rows = session.run(self._SAME, {"function": function, "key": key})
        return dict(json.loads(rows[0][0])) if rows else None

    def add(self, path: str, body: Mapping[str, Any]) -> None:
        """Keep a message, and return once it is on disk."""
        with self._database.session() as session:
            session.run(
                "INSERT INTO spooled (path, body) VALUES (:path, :body)", {"path": path, "body": json.dumps(body)}
            )

    def carry(self, receiver: Receiver) -> None:
        """Deliver what waits, for some seconds; what is refused is set aside for a person, with the reason."""
        until = HOST.monotonic() + _AT_ONCE_S
        while rows := self._next():
            for number, path, body in rows:
                if HOST.monotonic() > until:
                    return
                try:
                    receiver.ask(path, _message(body))
                except InvalidInput as error:
                    _log.error("spool: message %s (%s) was set aside: %s", number, path, error)
                    self._settle("UPDATE spooled SET refused = :why WHERE number = :number", number, str(error))
                else:
                    self._settle("DELETE FROM spooled WHERE number = :number", number)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _next(self) -> list[tuple[Any, ...]]:
        with self._database.session() as session:
            return session.run(self._NEXT, {"most": _AT_ONCE})

    def _settle(self, statement: str, number: int, why: str = "") -> None:
        with self._database.session() as session:
            session.run(statement, {"number": number, "why": why})


def _message(body: str) -> Any:
    """Read a message; `InvalidInput` where somebody spoilt it, so that those behind it go on."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError, TypeError):
        raise InvalidInput("the spool holds a message that is no JSON; it can't be delivered any more") from None
