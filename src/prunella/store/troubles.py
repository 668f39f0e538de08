"""What PostgreSQL's errors mean to us, in our own words: the driver's may hold the address, and with it a password."""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolTimeout, TooManyRequests

from prunella.core.errors import Conflict, SchemaBehind, StoreError, StoreRefused, StoreUnavailable

_NOTHING: Final = "nothing of this request was recorded"
_BY_STATE: Final = {
    "53100": "its disk is full; make room",
    "53200": "it is out of memory",
    "53300": "it has no connection left; raise its max_connections, or put fewer processes on it",
    "25006": "it takes no writes (a standby, or default_transaction_read_only); let database_url name the primary",
    "57P01": "it is being shut down or restarted",
    "57P02": "it crashed and is being restarted",
    "57P03": "it is starting or stopping",
    "25P03": "this process stood still in mid-transaction, for so long that its locks were taken away",
    "28P01": "it refuses the password; put the new one into database_url and start anew",
    "28000": "it refuses this role; look into its pg_hba.conf",
    "3D000": "there is no such database",
    "42501": "this role may not use prunella's tables; GRANT it SELECT, INSERT, UPDATE, DELETE on those in its schema",
}
"""SQLSTATE -> what it means here (PostgreSQL manual, appendix A)."""
_FOR_A_PERSON: Final = ("28P01", "28000", "3D000", "42501")
_AT_CONNECT: Final = (
    (re.compile("too many clients|connection slots|too many connections", re.IGNORECASE), "53300"),
    (re.compile("password authentication failed", re.IGNORECASE), "28P01"),
    (re.compile("no pg_hba.conf entry|role .* does not exist|not permitted to log in", re.IGNORECASE), "28000"),
    (re.compile("database .* does not exist", re.IGNORECASE), "3D000"),
    (re.compile("starting up|shutting down|recovery mode", re.IGNORECASE), "57P03"),
)
"""libpq keeps the SQLSTATE of a refused connection to itself; these are the server's words where they are English."""
_AWAY: Final = (
    psycopg.OperationalError,  # also: disk full, no connection left, shutting down
    psycopg.InterfaceError,  # the connection is closed
    pg.ReadOnlySqlTransaction,
    pg.IdleInTransactionSessionTimeout,
    pg.InsufficientPrivilege,
    pg.DuplicatePreparedStatement,
    pg.InvalidSqlStatementName,
    pg.IdleInTransactionSessionTimeout,  # limits that somebody set for the role, or for the whole server
    pg.TransactionTimeout,
    PoolTimeout,
    TooManyRequests,
)
_NO_TABLES: Final = (pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidSchemaName)


def translated(error: psycopg.Error, refused: str | None = None) -> StoreError | None:
    """Return what an error means for a request; None where it is a mistake of ours.

    Args:
        refused: the SQLSTATE with which the last connection was refused, where one was.
    """
    if isinstance(error, (pg.DeadlockDetected, pg.SerializationFailure)):
        return Conflict("PostgreSQL ended the transaction in favour of another; try again")
    if isinstance(error, _NO_TABLES):
        return SchemaBehind("the tables of prunella are not as this version needs them; run: prunella db upgrade")
    if not isinstance(error, _AWAY):
        return None
    waited = isinstance(error, (PoolTimeout, TooManyRequests))
    state = (refused if waited else state_of(error)) or ""
    words = _BY_STATE.get(state)
    if words is None and waited:
        return StoreUnavailable(f"PostgreSQL gave no connection in time: it is away, or all are in use; {_NOTHING}")
    if words is None:
        return StoreUnavailable(f"PostgreSQL does not answer ({type(error).__name__}); {_NOTHING}")
    kind = StoreRefused if state in _FOR_A_PERSON else StoreUnavailable
    return kind(f"PostgreSQL can't be used: {words}; {_NOTHING}")


def state_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error, also of a connection that was refused."""
    state: str | None = getattr(error, "sqlstate", None)
    if state is not None:
        return state
    text = str(error)
    return next((found for words, found in _AT_CONNECT if words.search(text)), None)
