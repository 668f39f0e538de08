"""Look at the configuration, the live catalogue and the indexes; print what a person should put right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection

from prunella import plugin
from prunella.app import load_plugins, sqlite_path
from prunella.core.errors import ConfigError, PrunellaError
from prunella.core.procedures import Entity, Procedure, StuckCheck
from prunella.databases import catalogue, indexes
from prunella.databases.grants import grant_sql
from prunella.databases.handle import Database
from prunella.settings import Settings, functions
from prunella.store import pooling
from prunella.store.pooling import is_pooled
from prunella.store.troubles import translated


def examine(settings: Settings) -> tuple[list[str], list[str]]:
    """Return what is to be put right (nothing: all is well) and what is only good to know, one or more lines each."""
    try:
        load_plugins(settings)
        declared = functions.declared(settings, plugin.CHECKS)
    except ConfigError as error:
        return list(error.problems), []
    procedures = {**settings.procedures, **declared}
    unknown = functions.unknown_functions(settings, procedures.values(), plugin.CHECKS, plugin.REMEDIES)
    found, known = asyncio.run(_own_database(settings))
    return found + unknown + asyncio.run(_databases(settings, procedures)), known


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


async def _own_database(settings: Settings) -> tuple[list[str], list[str]]:
    """Look how prunella's own tables are reached, where they are on PostgreSQL."""
    ways = {"database_url": settings.database_url, "direct_url": settings.direct_url}
    pooled, found = set(), []
    for name, url in ways.items():
        if url is None or sqlite_path(url) is not None:
            continue
        try:
            if await is_pooled(make_conninfo(url, connect_timeout=5)):
                pooled.add(name)
        except psycopg.Error as error:
            found.append(settings.problem(("service", name), str(translated(error))))
    if "direct_url" in pooled:
        text = "goes through a transaction pooler, too; name the server itself"
        found.append(settings.problem(("service", "direct_url"), text))
    known = pooling.note(direct=settings.direct_url is not None) if "database_url" in pooled else ""
    return found, [known] if known else []


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
