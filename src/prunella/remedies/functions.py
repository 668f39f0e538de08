"""Functions of the user as remedies: they say what should change, and this writes it, if anything is to be written.

A row is changed only where it still is as it was seen and only as the rules of its table allow, with its image in the
archive, all in one transaction. A whole wave of rows is written together.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DataError, ProgrammingError, SQLAlchemyError

from prunella.core.clock import Clock, SystemClock
from prunella.core.errors import DatabaseRefused, DatabaseUnavailable, IllegalTransition, PrunellaError
from prunella.core.findings import Finding, Row
from prunella.core.outcomes import Outcome
from prunella.core.records import Failure
from prunella.databases.archive import Archive
from prunella.databases.columns import no_such_column
from prunella.databases.handle import Database
from prunella.databases.held import HeldTransaction
from prunella.databases.wave import RowChange, change_rows
from prunella.plugin import RemedyFunction
from prunella.remedies.calling import Run, Services, called
from prunella.remedies.contract import Assignment, Preview, Undone

MOVED_ON = "it moved on meanwhile"
_AT_ONCE = 8
_CHARS_MAX = 500
_REFUSED = (DatabaseRefused, DatabaseUnavailable, SQLAlchemyError)


class Rules(Protocol):
    """How the rows of one table may be changed.

    `unit`: of moments that are kept as numbers; None: the database's.
    """

    table: str
    unit: str | None

    def key(self, table: Table) -> str:
        """Return the column that names a row."""
        ...

    def seen(self, table: Table, row: Row) -> Mapping[str, Any]:
        """Return what a row must still hold, by column."""
        ...

    def lawful(self, row: Row, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return all that is to be written; raise `IllegalTransition` where it must not be."""
        ...


class FunctionRemedy:
    """A function of the user, and the writing of what it wants changed.

    Args:
        database: whose transaction the function may use and where its changes go; None: neither.
        rules: of the table whose rows the findings are about; None: nothing is written.
        services: where the function may call.
        params: what the configuration hands to the function, by name.
    """

    outside = True

    def __init__(
        self,
        function: RemedyFunction,
        database: Database | None,
        rules: Rules | None,
        *,
        services: Services | None = None,
        params: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = function.name
        self.idempotent = function.idempotent
        self.reversible = function.reversible
        self._function = function
        self._database = database
        self._rules = rules
        self._services = services
        self._params = dict(params or {})
        self._clock = clock or SystemClock()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._writer = asyncio.Lock() if database is not None and database.kind == "sqlite" else None

    async def preview(self, finding: Finding) -> Preview:
        """Show the row as it was seen; what the function will want is known only once it ran."""
        written = "" if self._rules is None else f"; what it returns is written to {self._rules.table}"
        return Preview(
            words=f"calls {self.name} for {finding.key}{written} where the row still is as it was seen",
            before=() if finding.row is None else (dict(finding.row),),
        )

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        """Call the function for each row, or for all at once, and write what it wants changed."""
        if not assignments:
            return []
        if self._function.per == "batch":
            return await self._written(await self._call(tuple(assignments)))
        waiting = await asyncio.gather(*(self._call((one,)) for one in assignments))
        return await self._written([one for some in waiting for one in some])

    async def undo(self, run_id: str) -> Undone:
        """Put back what the outcome of this run changed."""
        if not self.reversible or self._database is None:
            return Undone(refused={run_id: f"{self.name} is not declared reversible (@remedy(..., reversible=True))"})
        archive = Archive(self._database)
        restored = await self._database.writing(lambda connection: archive.undo(connection, run_id))
        return Undone(restored=restored.rows, refused=restored.refused)

    async def told(self, assignment: Assignment, rows: Sequence[Row]) -> Outcome:
        """Hear of rows that another remedy has changed (`then:`); nothing is written for it."""
        batches = [list(rows)] if self._function.per == "batch" else list(rows)
        for subject in batches:
            held = self._held()
            own = replace(assignment, idempotency_key=_key_of_rows(assignment, subject))
            outcome = await self._run((own,), held, subject)
            if outcome.changes:
                outcome = Outcome.failed(
                    f"{self.name}: what stands under `then:` changes no rows; return Outcome.done()"
                )
            if held is not None:
                await held.end(commit=outcome.ok)
            if not outcome.ok:
                return outcome
        return Outcome.done()

    async def _call(self, assignments: tuple[Assignment, ...]) -> list[tuple[Assignment, Outcome]]:
        """Call the function once; what it did in the transaction of the run is committed with what it wants written."""
        async with self._places:
            held = self._held()
            subjects = [_subject(one) for one in assignments]
            outcome = await self._run(assignments, held, subjects if self._function.per == "batch" else subjects[0])
            wanted = [(one, self._lawful(one, outcome)) for one in assignments]
            if held is None or not held.opened:
                return wanted
            return [*zip(assignments, await self._in_one(held, wanted), strict=True)]

    def _held(self) -> HeldTransaction | None:
        if self._database is None:
            return None
        # A file has one writer: it takes the lock at once, and the next one waits for it outside of the database.
        first = Archive(self._database).ready if self._writer is not None else None
        return HeldTransaction(self._database, asyncio.get_running_loop(), first=first, turn=self._writer)

    async def _run(self, assignments: tuple[Assignment, ...], held: HeldTransaction | None, subject: Any) -> Outcome:
        run = Run(
            idempotency_key=_key(assignments),
            attempt=assignments[0].attempt,
            incident_id=assignments[0].incident_id,
            held=held,
            services=self._services,
            timeout_s=self._function.timeout_s,
            clock=self._clock,
        )
        try:
            return await called(self.name, self._function.function, run, subject, **self._params)
        except BaseException:
            if held is not None:
                await held.end(commit=False)
            raise

    def _lawful(self, assignment: Assignment, outcome: Outcome) -> Outcome:
        """Return the outcome with all that is to be written, or why it must not be."""
        if not outcome.ok or not outcome.changes:
            return outcome
        row, key = assignment.finding.row, assignment.finding.key
        if self._rules is None or self._database is None or row is None:
            return Outcome.failed(f"{self.name} wants columns changed, but {key} is no row of a table")
        try:
            return replace(outcome, changes=self._rules.lawful(row, outcome.changes))
        except IllegalTransition as error:
            return Outcome.failed(f"{self.name}: {error}")

    async def _in_one(self, held: HeldTransaction, wanted: list[tuple[Assignment, Outcome]]) -> list[Outcome]:
        """End the transaction that the function used: with its changes, or without a trace."""
        outcomes = [outcome for _, outcome in wanted]
        try:
            if all(outcome.ok for outcome in outcomes):
                outcomes = await held.run(lambda connection: self._write(connection, wanted))
            whole = all(outcome.ok and outcome.detail != MOVED_ON for outcome in outcomes)
            await held.end(commit=whole)
        except _REFUSED as error:
            await held.end(commit=False)
            return [_failed(self.name, error)] * len(wanted)
        if whole:
            return outcomes
        spoiled = Outcome.failed(f"{self.name}: rolled back, because another row of its batch could not be done")
        return [spoiled if outcome.ok and outcome.detail != MOVED_ON else outcome for outcome in outcomes]

    async def _written(self, wanted: list[tuple[Assignment, Outcome]]) -> list[Outcome]:
        """Write what is still to be written, in one transaction; where a row spoils it, each in its own."""
        results = {one.run_id: outcome for one, outcome in wanted}
        rest = [(one, outcome) for one, outcome in wanted if outcome.changes and not outcome.touched and outcome.ok]
        if not rest or self._database is None:
            return list(results.values())
        try:
            written = await self._database.writing(lambda connection: self._write(connection, rest))
        except _REFUSED as error:
            if len(rest) > 1 and _is_of_a_row(error):
                written = [(await self._written([one]))[0] for one in rest]
            else:
                written = [_failed(self.name, error)] * len(rest)
        results |= {one.run_id: outcome for (one, _), outcome in zip(rest, written, strict=True)}
        return list(results.values())

    def _write(self, connection: Connection, wanted: list[tuple[Assignment, Outcome]]) -> list[Outcome]:
        """Write all changes and say of each what became of it."""
        if self._rules is None or self._database is None:
            return [outcome for _, outcome in wanted]
        table = self._database.table(connection, self._rules.table)
        key = self._rules.key(table)
        outcomes = {one.run_id: self._possible(table, outcome) for one, outcome in wanted}
        changes = []
        for one, _ in wanted:
            outcome, row = outcomes[one.run_id], one.finding.row
            if not (outcome.ok and outcome.changes) or row is None:
                continue
            try:
                changes.append(RowChange(one.run_id, row[key], self._rules.seen(table, row), outcome.changes))
            except KeyError as missing:
                outcomes[one.run_id] = Outcome.failed(
                    f"{self.name}: the row of {one.finding.key} lacks column {missing}"
                )
        done = change_rows(self._database, connection, table, key, changes, unit=self._rules.unit)
        for change in changes:
            outcome = replace(outcomes[change.run_id], touched=1)
            outcomes[change.run_id] = outcome if change.run_id in done else Outcome.skip(MOVED_ON)
        return list(outcomes.values())

    def _possible(self, table: Table, outcome: Outcome) -> Outcome:
        unknown = [name for name in outcome.changes or () if name not in table.columns]
        return Outcome.failed(f"{self.name}: {no_such_column(table, unknown[0])}") if unknown else outcome


def _subject(assignment: Assignment) -> Row:
    """Return what the function is told: the row, or where the finding is about none, its key and facts."""
    finding = assignment.finding
    if finding.row is not None:
        return MappingProxyType(dict(finding.row))
    return MappingProxyType({**finding.facts, "key": finding.key, "keys": finding.keys})


def _is_of_a_row(error: Exception) -> bool:
    """Tell a value that can't be written from a database that is away."""
    if isinstance(error, DatabaseUnavailable):  # the driver, too, refuses values, and then there is no SQLSTATE
        return isinstance(error.__cause__, (DataError, ProgrammingError))
    return True


def _key(assignments: tuple[Assignment, ...]) -> str:
    """Return the key under which a receiver can tell a repeat: of the attempt, or of all attempts of a batch."""
    if len(assignments) == 1:
        return assignments[0].idempotency_key
    keys = "\n".join(sorted(one.idempotency_key for one in assignments))
    return hashlib.sha256(keys.encode()).hexdigest()[:32]


def _key_of_rows(assignment: Assignment, subject: Row | list[Row]) -> str:
    """Return a key for one telling of an attempt; with one for all of them, a receiver would take the first only."""
    rows = subject if isinstance(subject, list) else [subject]
    content = repr([sorted((str(name), repr(value)) for name, value in row.items()) for row in rows])
    return hashlib.sha256(f"{assignment.idempotency_key}\n{content}".encode()).hexdigest()[:32]


def _failed(name: str, error: Exception) -> Outcome:
    words = str(error) if isinstance(error, PrunellaError) else f"{type(error).__name__}: {error}"[:_CHARS_MAX]
    failure = Failure(service=name, source="db", exc_type=type(error).__name__, message=words)
    return replace(Outcome.failed(failure.message), failure=failure)
