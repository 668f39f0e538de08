"""Change or delete the rows that a check found, batch by batch, each with its image in the archive.

A batch is one transaction: it happens whole or not at all, and one that fails loses nothing of the others. A row that
is no longer as the check saw it is left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, literal_column, select, update

from prunella.core.errors import DatabaseRefused, DatabaseUnavailable
from prunella.core.findings import Finding, Row
from prunella.core.outcomes import Outcome
from prunella.core.records import Failure
from prunella.databases import images
from prunella.databases.archive import Archive, among
from prunella.databases.conditions import shown
from prunella.databases.handle import Database
from prunella.databases.relations import key_columns
from prunella.databases.written import expressions
from prunella.remedies.contract import Assignment, Preview, Undone

Still = Callable[[Connection, Table], ColumnElement[bool]]
"""The check's own condition: what a row must still meet at the moment of the change."""

Then = Callable[[Assignment, Sequence[Row]], Awaitable[Outcome]]
"""What hears of each batch: its rows as they are now, or, where they were deleted, as they were."""

GoOn = Callable[[int, Sequence[Any]], Awaitable[str | None]]
"""Asked between two batches, with how many are done and the keys of the last one: why to stop there, or None."""

_SAMPLE = 5


@dataclass(slots=True)
class _Tally:
    """What became of the batches of one finding."""

    touched: int = 0
    failed: list[Exception] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    stopped: str | None = None


class _Batches:
    """What both remedies share: batches, the sample and the way back.

    Args:
        table: where the rows stand that findings name by their keys.
        batch: rows per transaction.
        still: the check's own condition; it becomes part of every change.
        then: hears of each batch once it is committed.
        go_on: asked between two batches, so that a kill switch stops a long run, and a first batch that did not help.
    """

    idempotent = True  # a row that was changed does not meet the condition a second time
    reversible = True

    def __init__(
        self,
        database: Database,
        table: str,
        *,
        batch: int,
        still: Still | None = None,
        then: Then | None = None,
        go_on: GoOn | None = None,
    ) -> None:
        self.outside = then is not None
        self._database = database
        self._archive = Archive(database)
        self._table = table
        self._batch = batch
        self._still = still
        self._then = then
        self._go_on = go_on

    name: str
    does: str
    did: str
    _deletes: bool

    async def preview(self, finding: Finding) -> Preview:
        """Show the statement and a few of the rows it would meet, read in a read-only transaction."""
        return await self._database.reading(lambda connection: self._preview(connection, finding))

    async def apply(self, assignments: Sequence[Assignment]) -> list[Outcome]:
        """Do it to the rows of each finding."""
        return [await self._apply(one) for one in assignments]

    async def undo(self, run_id: str) -> Undone:
        """Put back what the run changed, where it still is as the run left it."""
        restored = await self._database.writing(lambda connection: self._archive.undo(connection, run_id))
        return Undone(restored=restored.rows, refused=restored.refused)

    def _statement(self, connection: Connection, table: Table) -> tuple[Any, Mapping[str, ColumnElement[Any]] | None]:
        """Return the statement without its condition, and the values it writes; None where it deletes."""
        raise NotImplementedError

    def _do(self, connection: Connection, table: Table, where: ColumnElement[bool], run_id: str) -> list[str]:
        """Change the rows that meet `where`; return their keys as text."""
        raise NotImplementedError

    def _preview(self, connection: Connection, finding: Finding) -> Preview:
        table = self._database.table(connection, self._table)
        statement, values = self._statement(connection, table)
        still = self._condition(connection, table)
        written = [one.label(f"written {name}") for name, one in (values or {}).items()]
        sample = select(*table.columns, *written).where(among(table, finding.keys[:_SAMPLE]), *still)
        found = [tuple(one) for one in connection.execute(sample)]
        names = [column.name for column in table.columns]
        before = tuple(dict(zip(names, one, strict=False)) for one in found)
        news = [dict(zip(values or {}, one[len(names) :], strict=True)) for one in found]
        return Preview(
            words=f"{self.does} {_rows(len(finding.keys))} of {self._table}, {self._batch:,} at a time",
            sql=shown(statement.where(and_(_named(table, finding.keys), *still)), self._database.kind),
            before=before,
            after=() if values is None else tuple(old | new for old, new in zip(before, news, strict=True)),
        )

    async def _apply(self, assignment: Assignment) -> Outcome:
        keys = assignment.finding.keys
        if not keys:
            return Outcome.skip(f"there is no row of {self._table} to change")
        tally = _Tally()
        for start in range(0, len(keys), self._batch):
            if start and self._go_on is not None:
                tally.stopped = await self._go_on(start // self._batch, keys[start - self._batch : start])
            if tally.stopped is not None:
                break
            await self._apply_batch(assignment, keys[start : start + self._batch], tally)
        return self._outcome(tally, len(keys))

    async def _apply_batch(self, assignment: Assignment, keys: Sequence[Any], tally: _Tally) -> None:
        try:
            count, rows = await self._database.writing(
                lambda connection: self._changed(connection, keys, assignment.run_id)
            )
        except (DatabaseRefused, DatabaseUnavailable) as error:
            tally.failed.append(error)
            return
        tally.touched += count
        if self._then is not None and rows:
            heard = await self._then(assignment, rows)
            if not heard.ok:
                tally.unheard.append(heard.detail)

    def _changed(self, connection: Connection, keys: Sequence[Any], run_id: str) -> tuple[int, Sequence[Row]]:
        self._archive.ready(connection)
        table = self._database.table(connection, self._table)
        rows = self._rows(connection, table, keys) if self._then is not None and self._deletes else {}
        touched = self._do(connection, table, and_(among(table, keys), *self._condition(connection, table)), run_id)
        if self._then is not None and not self._deletes:
            rows = self._rows(connection, table, keys)
        return len(touched), [rows[key] for key in touched if key in rows]

    def _condition(self, connection: Connection, table: Table) -> list[ColumnElement[bool]]:
        return [] if self._still is None else [self._still(connection, table)]

    def _rows(self, connection: Connection, table: Table, keys: Sequence[Any]) -> dict[str, Row]:
        """Read the rows of these keys, by key as text; held, so that what is told is what is done."""
        key = images.key_of(key_columns(table), self._database.kind).label("the key as text")
        wanted = select(key, *table.columns).where(among(table, keys)).with_for_update()
        names = [column.name for column in table.columns]
        found = [tuple(one) for one in connection.execute(wanted)]
        return {one[0]: MappingProxyType(dict(zip(names, one[1:], strict=True))) for one in found}

    def _outcome(self, tally: _Tally, wanted: int) -> Outcome:
        words = [f"{self.did} {tally.touched:,} of {_rows(wanted)} of {self._table}"]
        if tally.stopped is not None:
            words.append(f"stopped in between: {tally.stopped}")
        if tally.failed:
            words.append(f"{_batches(len(tally.failed))} failed, the first with: {tally.failed[0]}")
        if tally.unheard:
            words.append(f"{_batches(len(tally.unheard))} could not be told on, the first with: {tally.unheard[0]}")
        if not (tally.touched or tally.failed or tally.stopped):
            return Outcome.skip(f"the rows of {self._table} moved on meanwhile")
        first = tally.failed[0] if tally.failed else None
        return Outcome(
            ok=not (tally.failed or tally.unheard),
            detail="; ".join(words),
            touched=tally.touched,
            failure=None if first is None else _failure(self._database, first),
        )


class SetRows(_Batches):
    """Set columns of the rows that a check found (HEAL_DATA_002).

    Args:
        values: column -> value; `now` is the database's clock as the column spells it.
        batch: rows per transaction (document A: 100).
    """

    name = "set"
    does, did = "change", "changed"
    _deletes = False

    def __init__(
        self, database: Database, table: str, values: Mapping[str, Any], *, batch: int = 100, **how: Any
    ) -> None:
        super().__init__(database, table, batch=batch, **how)
        self._values = values

    def _statement(self, connection: Connection, table: Table) -> tuple[Any, Mapping[str, ColumnElement[Any]] | None]:
        values = expressions(self._database, connection, table, self._values)
        return update(table).values(values), values

    def _do(self, connection: Connection, table: Table, where: ColumnElement[bool], run_id: str) -> list[str]:
        values = expressions(self._database, connection, table, self._values)
        return self._archive.change(connection, table, where, values, run_id=run_id)


class ArchiveAndDelete(_Batches):
    """Archive and delete the rows that a check found (HEAL_DATA_003)."""

    name = "archive_and_delete"
    does, did = "archive and delete", "archived and deleted"
    _deletes = True

    def __init__(self, database: Database, table: str, *, batch: int = 5000, **how: Any) -> None:
        super().__init__(database, table, batch=batch, **how)

    def _statement(self, connection: Connection, table: Table) -> tuple[Any, Mapping[str, ColumnElement[Any]] | None]:
        return delete(table), None

    def _do(self, connection: Connection, table: Table, where: ColumnElement[bool], run_id: str) -> list[str]:
        return self._archive.delete(connection, table, where, run_id=run_id)


def _named(table: Table, keys: Sequence[Any]) -> ColumnElement[bool]:
    """Return a condition for people: the first keys, and how many more there are."""
    names = ", ".join(column.name for column in key_columns(table))
    some = ", ".join(repr(one) if isinstance(one, str) else str(one) for one in keys[:_SAMPLE])
    more = f", … and {len(keys) - _SAMPLE:,} more" if len(keys) > _SAMPLE else ""
    return literal_column(f"{names} IN ({some}{more})")


def _failure(database: Database, error: Exception) -> Failure:
    return Failure(service=database.name, exc_type=type(error).__name__, message=str(error))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count:,} batches"
