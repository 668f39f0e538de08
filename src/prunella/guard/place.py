"""Where durable calls, shared state and notices are kept: the application's own database, or an engine elsewhere."""

from __future__ import annotations

import math
from typing import Protocol

from prunella.core.clock import HOST
from prunella.core.errors import InvalidInput
from prunella.guard.board import Board, SqlBoard
from prunella.guard.database import Database
from prunella.guard.ledger import Ledger, SqlLedger

SPOOL = "prunella-spool.db"
"""Beside the program: what an engine could not take yet must outlive the process, and no other folder is sure to."""

_TIDY_EVERY_S, _AT_ONCE = 3600.0, 1_000


class Place(Protocol):
    """A place that is open."""

    @property
    def ledger(self) -> Ledger:
        """Where durable calls are kept."""
        ...

    @property
    def board(self) -> Board:
        """Where processes meet."""
        ...

    def deliver(self) -> None:
        """Bring what waited on this side while nobody answered."""
        ...

    def tidy(self) -> None:
        """Remove what nobody needs any more; costs nothing but once an hour."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class DatabasePlace:
    """A database: the application's own, or the one that an engine on the same machine works on."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.ledger = SqlLedger(self._database)
        self.board = SqlBoard(self._database)
        self._tidy_at = -math.inf

    def deliver(self) -> None:
        """Do nothing: a database that is away takes nothing on this side."""

    def tidy(self) -> None:
        """Remove what nobody needs any more, in steps: once an hour, and at each look while there is much."""
        now = HOST.monotonic()
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_EVERY_S  # also where it fails: it is not urgent
            removed = max(self.ledger.forget(_AT_ONCE), self.board.forget(_AT_ONCE))
            if removed == _AT_ONCE:
                self._tidy_at = now

    def close(self) -> None:
        """Close what is open."""
        self._database.close()


def open_place(url: str, token: str | None, spool: str | None) -> Place:
    """Open what an address names; `InvalidInput` where it is of no known kind."""
    if not isinstance(url, str):
        raise InvalidInput(
            f"connect: url must be a text, got {type(url).__name__}; write sqlite:///… or postgresql://…"
        )
    scheme = url.partition(":")[0]
    if scheme in ("http", "https"):
        from prunella.guard.remote import EnginePlace  # an HTTP client that most programs never need

        return EnginePlace(url, token, spool or SPOOL)
    for name, value in (("token", token), ("spool", spool)):
        if value is not None:
            raise InvalidInput(f"connect: {name} belongs to an engine (https://…); {scheme or 'this'}:// has none")
    return DatabasePlace(url)
