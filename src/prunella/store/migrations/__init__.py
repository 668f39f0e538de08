"""Bring the tables to this version's shape, under a lock, and tell where they stand."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from prunella.core.errors import SchemaBehind, StoreUnavailable
from prunella.store.tables import SCHEMA

_LOCK = 7_077_852  # any number of our own; two processes that start together migrate one after the other


def upgrade(url: str) -> None:
    """Create or change the tables at `url` as this version wants them."""
    with _connect(url) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        command.upgrade(_config(connection), "head")


def current(url: str) -> str | None:
    """Return the revision that the tables at `url` are at; None where there are none."""
    with _connect(url) as connection:
        return _context(connection).get_current_revision()


def head() -> str:
    """Return the revision that this version wants."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert revision is not None
    return revision


def check(url: str) -> None:
    """Raise `SchemaBehind` unless the tables are exactly this version's."""
    found, wanted = current(url), head()
    if found != wanted:
        raise SchemaBehind(
            f"the tables are at revision {found or 'none'}, this version needs {wanted}; run: prunella db upgrade"
        )


def sync_url(url: str) -> str:
    """Name the driver that SQLAlchemy shall use."""
    parsed = make_url(url)
    return url if parsed.get_backend_name() == "sqlite" else parsed.set(drivername="postgresql+psycopg").render_as_string(
        hide_password=False
    )


class _connect:  # noqa: N801, reads as a verb
    """One connection in one transaction; all of it happens or nothing."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(sync_url(url))

    def __enter__(self) -> Connection:
        try:
            self._begin = self._engine.begin()
            return self._begin.__enter__()
        except OperationalError as error:
            raise StoreUnavailable(f"the database does not answer ({type(error.orig).__name__})") from error

    def __exit__(self, *error: object) -> None:
        self._begin.__exit__(*error)  # type: ignore[arg-type]  # exactly what `with` hands over
        self._engine.dispose()


def _context(connection: Connection) -> MigrationContext:
    schema = SCHEMA if connection.dialect.name == "postgresql" else None
    return MigrationContext.configure(connection, opts={"version_table_schema": schema})


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
