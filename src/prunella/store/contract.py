"""What a store promises. The SQL is written once (one file per noun); a database only brings a `Connection`.

Promises, held noun by noun by tests/store, on SQLite and PostgreSQL:
  what a transaction wrote is durable when its block has ended, and gone when the block raised;
  a signal is stored once per (source, event id); an open incident once per scope;
  a claim or a compare-and-set has one winner, whoever else tries at the same moment;
  actions given to `on_commit` run after the commit and not without it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from prunella.core.clock import Clock
from prunella.core.errors import Conflict, StoreError
from prunella.store.advice import AdviceRows
from prunella.store.answers import AnswerRows
from prunella.store.approvals import ApprovalRows
from prunella.store.audit import AuditRows
from prunella.store.backlog import BacklogRows
from prunella.store.census import CensusRows
from prunella.store.channels import ChannelRows
from prunella.store.credentials import CredentialRows
from prunella.store.effects import EffectRows
from prunella.store.entrances import EntranceRows
from prunella.store.gates import GateRows
from prunella.store.glance import GlanceRows
from prunella.store.incidents import IncidentRows
from prunella.store.known import KnownRows
from prunella.store.learning import LearningRows
from prunella.store.metrics import MetricRows
from prunella.store.operations import OperationRows
from prunella.store.outbox import OutboxRows
from prunella.store.procedures import ProcedureRows
from prunella.store.retention import RetentionRows
from prunella.store.runs import RunRows
from prunella.store.sealed import SealedRows
from prunella.store.seals import SealRows
from prunella.store.session import Connection, Session
from prunella.store.signals import SignalRows
from prunella.store.switches import SwitchRows
from prunella.store.workers import WorkerRows

_TRIES = 5
_INSIST_AFTER_S = (0.5, 1.0, 2.0, 4.0)
Given = ParamSpec("Given")
Done = TypeVar("Done")
Kind = TypeVar("Kind")


class _Rows(Generic[Kind]):
    """One table's rows in a transaction, made when they are first asked for: few transactions touch many tables."""

    def __init__(self, kind: Callable[[Session], Kind]) -> None:
        self._kind = kind

    def __set_name__(self, owner: type[Transaction], name: str) -> None:
        self._name = name

    def __get__(self, tx: Transaction, owner: type[Transaction]) -> Kind:
        rows = tx.__dict__[self._name] = self._kind(tx.session)
        return rows


class Transaction:
    """One unit of work over all tables; every method's promise stands where its rows are.

    `driver` is the driver's open connection, for a queue whose rows stand in the same database.
    """

    signals = _Rows(SignalRows)
    incidents = _Rows(IncidentRows)
    operations = _Rows(OperationRows)
    backlog = _Rows(BacklogRows)
    runs = _Rows(RunRows)
    gates = _Rows(GateRows)
    credentials = _Rows(CredentialRows)
    outbox = _Rows(OutboxRows)
    channels = _Rows(ChannelRows)
    procedures = _Rows(ProcedureRows)
    audit = _Rows(AuditRows)
    seals = _Rows(SealRows)
    sealed = _Rows(SealedRows)
    census = _Rows(CensusRows)
    advice = _Rows(AdviceRows)
    approvals = _Rows(ApprovalRows)
    switches = _Rows(SwitchRows)
    metrics = _Rows(MetricRows)
    effects = _Rows(EffectRows)
    workers = _Rows(WorkerRows)
    entrances = _Rows(EntranceRows)
    glance = _Rows(GlanceRows)
    answers = _Rows(AnswerRows)
    learning = _Rows(LearningRows)
    known = _Rows(KnownRows)
    retention = _Rows(RetentionRows)

    def __init__(self, connection: Connection) -> None:
        self.session = Session(connection)
        self.driver = connection.driver
        self.after_commit: list[Callable[[], object]] = []

    def on_commit(self, action: Callable[[], object]) -> None:
        """Run `action` once this transaction is durable."""
        self.after_commit.append(action)


class Store(Protocol):
    """prunella's own database."""

    @property
    def clock(self) -> Clock:
        """The clock that due times are judged by: on PostgreSQL the database's own."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction: committed when the block ends, rolled back when it raises."""
        ...

    async def revision(self) -> str | None:
        """Return the revision of the tables, None where there are none; `StoreUnavailable` without an answer."""
        ...

    async def close(self) -> None:
        """Give everything back; the store cannot be used afterwards."""
        ...


def again_on_conflict(change: Callable[Given, Coroutine[Any, Any, Done]]) -> Callable[Given, Coroutine[Any, Any, Done]]:
    """Carry out a whole change again where another transaction was quicker; after five tries the `Conflict` is told.

    For changes that read all they decide on within their own transaction: doing them again is deciding anew.
    """

    @wraps(change)
    async def carried_out(*args: Given.args, **kwargs: Given.kwargs) -> Done:
        for _ in range(_TRIES - 1):
            with suppress(Conflict):
                return await change(*args, **kwargs)
        return await change(*args, **kwargs)

    return carried_out


async def insist(clock: Clock, write: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
    """Write what is known nowhere else: through conflicts, and through an outage of less than 8 s."""
    for wait_s in _INSIST_AFTER_S:
        try:
            return await write()
        except StoreError:
            await clock.sleep(wait_s)
    return await write()
