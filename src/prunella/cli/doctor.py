"""Look at the configuration, the live catalogue and the indexes; print what a person should put right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial

from sqlalchemy import Connection

from prunella import plugin
from prunella.app import load_plugins
from prunella.core.errors import ConfigError, PrunellaError
from prunella.core.procedures import Entity, Procedure, StuckCheck
from prunella.databases import catalogue, indexes
from prunella.databases.grants import grant_sql
from prunella.databases.handle import Database
from prunella.settings import Settings, functions


def examine(settings: Settings) -> list[str]:
    """Return every finding, one or more lines each; empty: all is well."""
    try:
        load_plugins(settings)
        declared = functions.declared(settings, plugin.CHECKS)
    except ConfigError as error:
        return list(error.problems)
    procedures = {**settings.procedures, **declared}
    unknown = functions.unknown_functions(settings, procedures.values(), plugin.CHECKS, plugin.REMEDIES)
    return unknown + asyncio.run(_databases(settings, procedures))


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


async def _databases(settings: Settings, procedures: Mapping[str, Procedure]) -> list[str]:
    found: list[str] = []
    for name, source in settings.databases.items():
        mine = [one for one in procedures.values() if one.database == name]
        database = Database(source)
        try:
            found += await database.reading(partial(_problems, settings, database, mine))
        except PrunellaError as error:
            found.append(settings.problem(("databases", name), str(error)))
        finally:
            await database.close()
    return found


def _problems(settings: Settings, database: Database, procedures: list[Procedure], connection: Connection) -> list[str]:
    found: list[str] = []
    statements: dict[str, str] = {}
    for procedure in procedures:
        entity = _entity(settings, procedure)
        for place, text in catalogue.problems_of(database, connection, procedure, entity):
            found.append(settings.problem((*procedure.at, *place), text))
        for table, columns, statement in indexes.missing(database, connection, procedure, entity):
            text = f"no index leads with ({', '.join(columns)}) of {table}, so each look reads the whole table"
            statements.setdefault(statement, settings.problem(procedure.at, f"{text}; create it:\n  {statement};"))
    return found + list(statements.values())


def _entity(settings: Settings, procedure: Procedure) -> Entity | None:
    return settings.entities.get(procedure.check.entity) if isinstance(procedure.check, StuckCheck) else None
