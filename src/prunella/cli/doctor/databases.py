"""The user's databases: names, indexes, clocks, and whether row-level security hides what should be healed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from sqlalchemy import Connection

from prunella import plugin
from prunella.app import load_plugins
from prunella.cli.doctor.flaw import Flaw, error
from prunella.core.errors import ConfigError, DatabaseRefused, PrunellaError
from prunella.core.procedures import Entity, OrphansCheck, Procedure, StuckCheck
from prunella.databases import catalogue, indexes
from prunella.databases.grants import grant_sql
from prunella.databases.handle import Database
from prunella.databases.visibility import blind
from prunella.settings import Settings, functions

_POLICY = "prunella db grant --print   # and run what it prints, as the owner of the tables"


async def examine(settings: Settings, procedures: Mapping[str, Procedure]) -> list[Flaw]:
    """Look into each database, read-only."""
    found: list[Flaw] = []
    for name, source in settings.databases.items():
        mine = [one for one in procedures.values() if one.database == name]
        database = Database(source)
        try:
            found += await database.reading(partial(_flaws, settings, database, mine))
        except PrunellaError as wrong:
            text = settings.problem(("databases", name), str(wrong))
            found.append(error("database", text, "look whether the server runs, and at address, role and password"))
        finally:
            await database.close()
    return found


def grants(settings: Settings, role: str, database: str | None) -> Iterator[str]:
    """Yield the SQL of a least-privilege role for each database, or for the one that is named.

    Raises:
        ConfigError: there is no such database.
    """
    if database is not None and database not in settings.databases:
        known = ", ".join(settings.databases) or "none"
        raise ConfigError([f"--database: there is no database {database!r} in prunella.yaml; known: {known}"])
    load_plugins(settings)
    procedures = {**settings.procedures, **functions.declared(settings, plugin.CHECKS)}
    for name, source in settings.databases.items():
        if database in (None, name):
            yield grant_sql(procedures.values(), settings.entities.values(), source, role)


def _flaws(settings: Settings, database: Database, procedures: list[Procedure], connection: Connection) -> list[Flaw]:
    found: list[Flaw] = []
    missing: dict[str, Flaw] = {}
    for procedure in procedures:
        entity = _entity(settings, procedure)
        for place, text in catalogue.problems_of(database, connection, procedure, entity):
            found.append(error("names", settings.problem((*procedure.at, *place), text)))
        found += _hidden(settings, database, connection, procedure, entity)
        for table, columns, statement in indexes.missing(database, connection, procedure, entity):
            text = f"no index leads with ({', '.join(columns)}) of {table}, so each look reads the whole table"
            missing.setdefault(statement, error("index", settings.problem(procedure.at, text), f"{statement};"))
    return found + list(missing.values())


def _hidden(
    settings: Settings, database: Database, connection: Connection, procedure: Procedure, entity: Entity | None
) -> Iterator[Flaw]:
    """Tell rows that are hidden from us from rows that are not there: only the former is a flaw."""
    whole = procedure.check.parent if isinstance(procedure.check, OrphansCheck) else None
    for name in dict.fromkeys(table for table, _ in indexes.wanted(procedure, entity)):
        try:
            table = database.table(connection, name)
        except DatabaseRefused:
            continue  # the catalogue says so
        why = blind(database, connection, table, whole=name == whole)
        if why is not None:
            text = f"{why.partition(';')[0]}; nothing found there means nothing seen, not nothing to heal"
            yield error("row-level security", settings.problem(procedure.at, text), _POLICY)


def _entity(settings: Settings, procedure: Procedure) -> Entity | None:
    return settings.entities.get(procedure.check.entity) if isinstance(procedure.check, StuckCheck) else None
