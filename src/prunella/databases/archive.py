"""Change and delete rows of the user, each with its image in an archive that stands beside it.

The image is written in the transaction of the change, by the database itself: what is archived is what was changed,
even if the process is killed. A row that is no longer as the check saw it is left alone and is not archived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate

from prunella.core.errors import DatabaseRefused
from prunella.databases import images
from prunella.databases.handle import Database
from prunella.databases.relations import key_columns, must_have_no_heirs, without_followers
from prunella.databases.restore import Restored, restore
from prunella.databases.restore_postgres import OnPostgres
from prunella.databases.restore_sqlite import OnSqlite

ENTRY = ("run_id", "table_name", "key", "before", "after")
"""The columns of the archive that a change fills, in this order."""

_IN_AN_ARRAY = (Integer, String, Uuid)
_SET_AND_LOOK = f"SELECT to_regclass('{images.SCHEMA}.archive'), " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in images.OUTPUT.items()
)
_IS_MADE = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{images.SCHEMA}' AND tablename = 'archive'"  # noqa: S608
_MAKING = 0x7072756E  # names the lock under which the archive is made


class Archive:
    """The archive of one database; every method works within the transaction it is given.

    On PostgreSQL an image is made by the statement that changes the row; on SQLite just before it, under the same
    write lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def table(self) -> Table:
        """Return the archive's own table."""
        return images.SQLITE if self._database.kind == "sqlite" else images.POSTGRES

    def ready(self, connection: Connection) -> None:
        """Make the archive where it is missing, and the connection write images.

        Raises:
            DatabaseRefused: this role may not make it, or the database is of a kind that has none.
        """
        if self._database.kind == "sqlite":
            images.teach(connection)
            connection.execute(CreateTable(images.SQLITE, if_not_exists=True))
            # The write lock first: a change that follows a look waits for it in vain once somebody else has written.
            connection.execute(images.SQLITE.delete().where(text("0")))
        elif self._database.kind == "postgresql":
            if connection.exec_driver_sql(_SET_AND_LOOK).scalar() is None:
                self._make(connection)
        else:
            raise DatabaseRefused(
                f"database {self._database.name}: rows of {self._database.kind} are not changed, because they could "
                "not be put back; use a remedy of your own (prunella.plugin)"
            )

    def delete(self, connection: Connection, table: Table, where: ColumnElement[bool], *, run_id: str) -> list[str]:
        """Archive and delete the rows that meet `where` at this moment; return their keys as text.

        A row that takes others with it (ON DELETE CASCADE) or changes them (SET NULL) is left alone: those would be
        in no archive.
        """
        key = key_columns(table)
        columns = [(one.name, one) for one in table.columns]
        image, name = images.image(columns, self._database.kind), images.key_of(key, self._database.kind)
        must_have_no_heirs(connection, table)
        where = and_(where, *without_followers(connection, table))
        if self._database.kind == "sqlite":
            entries = self._archived(connection, select(*self._entry(run_id, table, name, image)).where(where))
            done = connection.execute(delete(table).where(where))  # the write lock is held: these are the same rows
            if done.rowcount != len(entries):
                raise DatabaseRefused(f"table {table.name}: a trigger of the table keeps rows from being deleted")
            return entries
        _hold(connection, table, where)
        gone = delete(table).where(where).returning(name.label("key"), image.label("before")).cte("gone")
        return self._archived(connection, select(*self._entry(run_id, table, gone.c.key, gone.c.before)))

    def change(
        self,
        connection: Connection,
        table: Table,
        where: ColumnElement[bool],
        values: Mapping[str, Any],
        *,
        run_id: str,
    ) -> list[str]:
        """Archive and change the rows that meet `where` at this moment; return their keys as text."""
        key, kind = key_columns(table), self._database.kind
        must_have_no_heirs(connection, table)
        changed = [table.c[name] for name in values]
        kept = [*key, *changed]
        if any(one in key for one in changed):
            raise DatabaseRefused(f"table {table.name}: a remedy does not change the primary key")
        if kind == "sqlite":
            return self._changed_on_sqlite(connection, table, where, values, run_id=run_id)
        _hold(connection, table, where)
        seen = select(*kept).where(where).with_for_update(of=table).cte("seen")
        same = and_(*(one == seen.c[one.name] for one in key))
        before = images.image([(one.name, seen.c[one.name]) for one in kept], kind)
        after = images.image([(one.name, one) for one in kept], kind)
        name = images.key_of(key, kind)
        written = update(table).values(dict(values)).where(same)
        done = written.returning(name.label("key"), before.label("before"), after.label("after")).cte("done")
        return self._archived(connection, select(*self._entry(run_id, table, done.c.key, done.c.before, done.c.after)))

    def undo(self, connection: Connection, run_id: str) -> Restored:
        """Put back what a run changed, where it still is as the run left it; a second time nothing is left to do.

        Raises:
            DatabaseRefused: the archive holds nothing of this run.
        """
        self.ready(connection)
        putting = OnSqlite(connection) if self._database.kind == "sqlite" else OnPostgres(connection)
        return restore(self._database, self.table, connection, run_id, putting)

    def _changed_on_sqlite(
        self,
        connection: Connection,
        table: Table,
        where: ColumnElement[bool],
        values: Mapping[str, Any],
        *,
        run_id: str,
    ) -> list[str]:
        key = key_columns(table)
        kept = [(one.name, one) for one in (*key, *(table.c[name] for name in values))]
        name, image = images.key_of(key, "sqlite"), images.image(kept, "sqlite")
        found = select(*self._entry(run_id, table, name, image)).where(where)
        into = insert(self.table).from_select(ENTRY, found).returning(self.table.c.id, self.table.c.key)
        ids = {entry: number for number, entry in connection.execute(into)}
        changed = connection.execute(update(table).values(dict(values)).where(where).returning(*key)).all()
        left = select(name, image).where(_among(key, [tuple(one) for one in changed]))  # what triggers did is seen, too
        rows = [{"entry": ids[one], "image": spelled} for one, spelled in connection.execute(left)]
        if rows:
            entry = self.table.c.id == bindparam("entry")
            connection.execute(update(self.table).where(entry).values(after=bindparam("image")), rows)
        return list(ids)

    def take(self, connection: Connection, table: Table, entries: Select[Any]) -> set[str]:
        """Archive what a statement returns as run, key, before and after; return the runs."""
        found = entries.subquery()
        columns = [found.c[0], literal(table.name, Text), *list(found.c)[1:]]
        into = insert(self.table).from_select(ENTRY, select(*columns)).returning(self.table.c.run_id)
        return set(connection.execute(into).scalars())

    def _archived(self, connection: Connection, entries: Select[Any]) -> list[str]:
        into = insert(self.table).from_select(ENTRY, entries).returning(self.table.c.key)
        return list(connection.execute(into).scalars())

    def _entry(self, run_id: str, table: Table, key: Any, before: Any, after: Any = None) -> list[ColumnElement[Any]]:
        last = cast(null(), Text) if after is None else after
        return [literal(run_id, Text), literal(table.name, Text), key, before, last]

    def _make(self, connection: Connection) -> None:
        try:
            with connection.begin_nested():
                connection.execute(select(func.pg_advisory_xact_lock(_MAKING)))
                # A look into the catalogue first: the server may still remember that the archive was missing.
                made = connection.exec_driver_sql(_IS_MADE).scalar_one()
                if made:
                    return
                connection.execute(CreateSchema(images.SCHEMA, if_not_exists=True))
                connection.execute(CreateTable(images.POSTGRES, if_not_exists=True))
                for index in images.POSTGRES.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
        except ProgrammingError:
            raise DatabaseRefused(
                f"database {self._database.name}: there is no archive ({images.SCHEMA}.archive), and this role may not "
                "make it; run what this prints as the owner of the database: prunella db grant --print"
            ) from None


def _hold(connection: Connection, table: Table, where: ColumnElement[bool]) -> None:
    """Hold the rows before a condition on other tables is asked for the last time (PostgreSQL).

    A statement that had to wait for a row judges its new values by the other tables as they were before the wait, or
    not at all: a child that was given a parent meanwhile would be deleted as an orphan.
    """
    if any(isinstance(one, SelectBase) for one in iterate(where)):
        held = select(literal(1)).where(where).with_for_update(of=table).subquery()
        connection.execute(select(func.count()).select_from(held))


def among(table: Table, keys: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a row's primary key is one of `keys`; a key of several columns is a tuple."""
    return _among(key_columns(table), keys)


def _among(key: Sequence[Column[Any]], keys: Sequence[Any]) -> ColumnElement[bool]:
    if len(key) > 1:
        return tuple_(*key).in_([tuple(one) for one in keys])
    values = [one[0] if isinstance(one, tuple) else one for one in keys]
    if isinstance(key[0].type, _IN_AN_ARRAY):  # PostgreSQL: one parameter, whatever their number
        return key[0] == any_(bindparam(None, values, type_=ARRAY(key[0].type), unique=True))
    return key[0].in_(values)
