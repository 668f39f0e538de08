"""The SQL of a role that may do what the configuration asks for, and nothing else. It is printed, never run.

No password stands in it: whoever runs it sets one where no history keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import make_url

from prunella.core.errors import ConfigError
from prunella.core.procedures import (
    ArchiveAndDeleteRemedy,
    DatabaseSource,
    EndIdleRemedy,
    Entity,
    ErrorsCheck,
    FreshnessCheck,
    OrphansCheck,
    PluginCheck,
    PluginRemedy,
    PoolCheck,
    Procedure,
    RowsCheck,
    SetRemedy,
    StuckCheck,
)

_SCHEMA = "public"
_ARCHIVE = """\
CREATE SCHEMA IF NOT EXISTS prunella;
CREATE TABLE IF NOT EXISTS prunella.archive (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id text NOT NULL,
  table_name text NOT NULL,
  key text NOT NULL,
  before text NOT NULL,
  after text,
  archived_at timestamptz NOT NULL DEFAULT now(),
  undone_at timestamptz
);
CREATE INDEX IF NOT EXISTS ix_prunella_archive_run_id ON prunella.archive (run_id);
GRANT USAGE ON SCHEMA prunella TO {role};
GRANT SELECT, INSERT, UPDATE ON prunella.archive TO {role};"""


@dataclass(slots=True)
class _Needs:
    """What one table is needed for."""

    updates: dict[str, None] = field(default_factory=dict)
    deletes: bool = False


def grant_sql(procedures: Iterable[Procedure], entities: Iterable[Entity], source: DatabaseSource, role: str) -> str:
    """Return the statements that make `role` and give it what `source` is used for.

    Raises:
        ConfigError: a name that no database can have.
    """
    backend = make_url(source.url.reveal()).get_backend_name()
    if backend == "sqlite":
        return f"-- database {source.name} is SQLite, which knows no roles: the rights of its file decide.\n"
    mine = [one for one in procedures if one.database == source.name]
    ours = [one for one in entities if one.database == source.name]
    needs = _needs(mine, ours)
    if backend != "postgresql":
        tables = ", ".join(needs) or "none"
        return (
            f"-- database {source.name} is {backend}: prunella writes role SQL for PostgreSQL only. "
            f"Give {role} SELECT on these tables, and no more than it changes: {tables}.\n"
        )
    return "\n".join(_statements(mine, ours, needs, source, _quoted(role))) + "\n"


def _statements(
    procedures: Sequence[Procedure],
    entities: Sequence[Entity],
    needs: dict[str, _Needs],
    source: DatabaseSource,
    role: str,
) -> Iterator[str]:
    schema, database = _quoted(source.schema or _SCHEMA), make_url(source.url.reveal()).database or "postgres"
    yield f"-- What prunella needs in database {_line(source.name)}. Run it as the owner of the tables."
    yield f"CREATE ROLE {role} LOGIN;  -- then set its password: \\password in psql"
    yield f"ALTER ROLE {role} SET statement_timeout = '{round(source.statement_timeout_s * 1000)}ms';"
    yield f"ALTER ROLE {role} SET lock_timeout = '{round(source.lock_timeout_s * 1000)}ms';"
    yield f"GRANT CONNECT ON DATABASE {_quoted(database)} TO {role};"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {role};"
    for name, need in needs.items():
        table = f"{schema}.{_quoted(name)}"
        yield f"GRANT SELECT ON {table} TO {role};"
        if need.updates:
            yield f"GRANT UPDATE ({', '.join(map(_quoted, need.updates))}) ON {table} TO {role};"
        if need.deletes:
            yield f"GRANT DELETE ON {table} TO {role};"
            yield f"GRANT INSERT ON {table} TO {role};  -- to put deleted rows back"
    if any(need.updates or need.deletes for need in needs.values()):
        yield "-- The archive: what was changed or deleted, for prunella undo."
        yield _ARCHIVE.format(role=role)
    if any(isinstance(one.check, PoolCheck) for one in procedures):
        yield f"GRANT pg_monitor TO {role};  -- to see what other connections do"
    if any(isinstance(one.remedy, EndIdleRemedy) for one in procedures):
        yield f"GRANT pg_signal_backend TO {role};  -- to end idle ones; never a superuser's"
    yield from _by_hand(procedures, entities, schema, role)


def _by_hand(procedures: Sequence[Procedure], entities: Sequence[Entity], schema: str, role: str) -> Iterator[str]:
    """Say what only the user can know: what functions of his own read and change."""
    for entity in entities:
        table = f"{schema}.{_quoted(entity.table)}"
        more = f"GRANT UPDATE (column, ...) ON {table} TO {role};"
        yield f"-- Where remedies of {_line(entity.name)} change more columns: {more}"
    plugins = [
        one.name for one in procedures if isinstance(one.check, PluginCheck) or isinstance(one.remedy, PluginRemedy)
    ]
    if plugins:
        yield f"-- {_line(', '.join(plugins))} run functions of your own: grant what their SQL reads and changes, too."
    yield f"-- Where row-level security is on, {role} needs a policy that shows it the rows: TO {role} USING (true)."


def _needs(procedures: Sequence[Procedure], entities: Sequence[Entity]) -> dict[str, _Needs]:
    """Return what each table is needed for, in the order of the configuration."""
    needs: dict[str, _Needs] = {}
    for procedure in procedures:
        for name in _read(procedure):
            needs.setdefault(name, _Needs())
        changed = needs[_read(procedure)[0]] if _read(procedure) else _Needs()
        if isinstance(procedure.remedy, SetRemedy):
            changed.updates.update(dict.fromkeys(procedure.remedy.values))
        changed.deletes |= isinstance(procedure.remedy, ArchiveAndDeleteRemedy)
    for entity in entities:
        found = needs.setdefault(entity.table, _Needs())
        found.updates.update(dict.fromkeys((entity.status, entity.since)))
    return needs


def _read(procedure: Procedure) -> tuple[str, ...]:
    """Return the tables that a check reads; the first is the one that its remedy may change."""
    match procedure.check:
        case FreshnessCheck(table=name) | ErrorsCheck(table=name) | RowsCheck(table=name):
            return (name,)
        case OrphansCheck(child=child, parent=parent):
            return (child, parent)
        case StuckCheck() | PoolCheck() | PluginCheck():
            return ()


def _quoted(name: str) -> str:
    if not name or "\0" in name or len(name.encode(errors="replace")) > 63:
        raise ConfigError([f"{name[:60]!r} can't be a name in PostgreSQL; a name has 1 to 63 bytes and no NUL"])
    return '"' + name.replace('"', '""') + '"'


def _line(text: str) -> str:
    """Keep a text within its comment."""
    return " ".join(text.split())
