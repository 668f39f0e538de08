"""Bring the tables to this version's shape, under a lock, and tell where they stand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from prunella.core.errors import SchemaBehind, StoreError, StoreRefused, StoreUnavailable
from prunella.store.migrations.views import create_views, drop_views
from prunella.store.tables import SCHEMA
from prunella.store.troubles import translated

_LOCK = 7_077_852  # any number of our own; two processes that start together migrate one after the other
_NO_FILE_OF_OURS = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def upgrade(url: str) -> None:
    """Create or change the tables at `url` as this version wants them: all of it, or nothing."""
    with _connected(url, "BEGIN IMMEDIATE") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            if not inspect(connection).has_schema(SCHEMA):  # IF NOT EXISTS asks for the right to create it even so
                connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        if is_behind(_context(connection).get_current_revision()):
            drop_views(connection)  # they show what the newest tables hold, and hold columns in place
            command.upgrade(_config(connection), "head")
            create_views(connection)


def current(url: str) -> str | None:
    """Return the revision that the tables at `url` are at; None where there are none."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        return None  # connecting would make the file
    with _connected(url, "BEGIN") as connection:
        return _context(connection).get_current_revision()


def head() -> str:
    """Return the revision that this version wants."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert revision is not None
    return revision


def is_behind(found: str | None) -> bool:
    """Tell whether tables at this revision lack what this version needs.

    Newer ones lack nothing: a revision only adds, so that processes of two versions work side by side while one
    replaces the other, in either direction.
    """
    return found is None or found < head()


def check(url: str) -> None:
    """Raise `SchemaBehind` where the tables lack what this version needs."""
    require(current(url))


def require(found: str | None) -> None:
    """Raise `SchemaBehind` where tables at this revision lack what this version needs."""
    if is_behind(found):
        raise SchemaBehind(
            f"the tables are at revision {found or 'none'}, this version needs {head()}; run: prunella db upgrade"
        )


def sync_url(url: str) -> str:
    """Name the driver that SQLAlchemy shall use."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@contextmanager
def _connected(url: str, begin: str) -> Iterator[Connection]:
    """Lend a connection inside one transaction; `begin` is how SQLite starts it."""
    engine = _engine(url, begin)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        raise meant_by(error.orig) or error from error
    finally:
        engine.dispose()


def meant_by(error: BaseException | None) -> StoreError | None:
    """Return what an error means while tables are made or changed; None where it is a mistake of ours."""
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailable(f"the database does not answer ({error}); its tables are as they were")
    if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname in _NO_FILE_OF_OURS:
        return StoreRefused(f"the database can't be used ({error}); let database_url name a file that is prunella's")
    if isinstance(error, InsufficientPrivilege):
        return StoreRefused(
            f"this role may not make or change the tables of prunella; GRANT CREATE ON DATABASE to it, or let it own "
            f"the schema {SCHEMA} and all in it"
        )
    meant = translated(error) if isinstance(error, psycopg.Error) else None
    return None if isinstance(meant, SchemaBehind) else meant


def _engine(url: str, begin: str) -> Engine:
    parsed = make_url(sync_url(url))
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed)
        # Left alone, Python's driver begins no transaction before DDL, and half a migration would stay.
        event.listen(engine, "connect", lambda opened, _: setattr(opened, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine
    return create_engine(
        parsed.update_query_dict({"connect_timeout": parsed.query.get("connect_timeout", "5")}),
        connect_args={"prepare_threshold": None},  # a pooler's next client would find what is prepared here in its way
    )


def _context(connection: Connection) -> MigrationContext:
    schema = SCHEMA if connection.dialect.name == "postgresql" else None
    return MigrationContext.configure(connection, opts={"version_table_schema": schema})


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
