"""prunella's own tables: whether they answer, are up to date, how they are reached, and who works on them."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from prunella import __version__
from prunella.app import sqlite_path
from prunella.cli.doctor.flaw import Flaw, error, note, warning
from prunella.core.clock import SystemClock
from prunella.core.errors import PrunellaError, SchemaBehind
from prunella.runner.tables import installed
from prunella.settings import Settings
from prunella.store import migrations, pooling
from prunella.store.pooling import is_pooled
from prunella.store.postgres import PostgresStore, address
from prunella.store.tables import SCHEMA, metadata
from prunella.store.troubles import translated

_SKEW_WARNS_S, _SKEW_IS_WRONG_S = 2.0, 30.0
"""A token of the command line lasts a minute on this machine's clock; the engine reads it by the database's."""
_ROOM_BYTES = 16 * 2**20
"""Below that a burst of events, or the compaction of the write-ahead log, may find the disk full."""
_UPGRADE = "prunella db upgrade"
_CLOSED = """
    SELECT quote_ident(current_user), c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = ANY(%s) AND NOT (has_schema_privilege(n.oid, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT'))
    ORDER BY c.relname
"""
_LOOK = "look at service.database_url, and at the file or the server that it names"


async def examine(settings: Settings) -> list[Flaw]:
    """Look at the tables; on PostgreSQL also at poolers, clock, queue and workers."""
    path = sqlite_path(settings.database_url)
    if path is not None:
        return [*_room(path), *await _revision(settings)]
    found = await _ways(settings)
    if any(one.is_error for one in found):
        return found
    behind = await _revision(settings)
    found += behind
    if not any(one.about == "tables" for one in behind):
        found += await _company(settings)
    return found


def _room(database: Path) -> list[Flaw]:
    """Look whether the disk below a SQLite file has room left; without any it still reads, and looks well."""
    folder = database.absolute().parent
    if not folder.is_dir() or (left := shutil.disk_usage(folder).free) >= _ROOM_BYTES:
        return []
    text = (
        f"{folder} has {left // 2**20} MiB left, {_ROOM_BYTES // 2**20} are needed; without room no event is accepted"
    )
    return [error("disk", text, f"df -h {shlex.quote(str(folder))}")]


async def _revision(settings: Settings) -> list[Flaw]:
    """Look at which revision the tables are."""
    try:
        found = await asyncio.to_thread(migrations.current, settings.migrate_url)
    except PrunellaError as wrong:
        return [error("database", str(wrong), _LOOK)]
    wanted = migrations.head()
    if found is not None and found > wanted:
        text = f"the tables are at revision {found}, newer than this version's {wanted}; a newer version was here"
        return [warning("version", text, "install the version that the other processes run")]
    if not migrations.is_behind(found):
        return []
    text = f"the tables are at revision {found or 'none'}, this version wants {wanted}"
    if settings.migrate == "auto":
        return [note("tables", f"{text}; prunella up makes them by itself")]
    return [error("tables", f"{text}, and service.migrate is manual", _UPGRADE)]


async def _ways(settings: Settings) -> list[Flaw]:
    """Look how the tables are reached."""
    ways = {"database_url": settings.database_url, "direct_url": settings.direct_url}
    pooled, found = set(), []
    for name, url in ways.items():
        if url is None or sqlite_path(url) is not None:
            continue
        try:
            if await is_pooled(make_conninfo(url, connect_timeout=5)):
                pooled.add(name)
            if name == "database_url":
                found += await _bound(make_conninfo(url, connect_timeout=5))
                found += await _rights(make_conninfo(url, connect_timeout=5))
        except psycopg.Error as wrong:
            text = settings.problem(("service", name), str(translated(wrong)))
            found.append(error("database", text, "look whether the server runs, and at host, port, role and password"))
    if "direct_url" in pooled:
        text = settings.problem(("service", "direct_url"), "goes through a transaction pooler, too")
        found.append(error("pooler", text, "write the address of the server itself below service: direct_url:"))
    if "database_url" in pooled:
        found.append(note("pooler", pooling.note(direct=settings.direct_url is not None)))
    return found


async def _bound(conninfo: str) -> list[Flaw]:
    """Look whether row-level security binds our role."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        asked = await connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)"
        )
        row = await asked.fetchone()
    if row is None:
        return []
    text = f"the role {row[0]} passes over row-level security, which keeps one account's tokens from another's requests"
    return [
        warning("role", text, "let a role without SUPERUSER and BYPASSRLS own the schema prunella, and connect as it")
    ]


async def _rights(conninfo: str) -> list[Flaw]:
    """Look whether our role may read and write the tables that are there."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        asked = await connection.execute(_CLOSED, [SCHEMA, [table.name for table in metadata.tables.values()]])
        closed = await asked.fetchall()
    if not closed:
        return []
    role, names = closed[0][0], [row[1] for row in closed]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more tables" if len(names) > 3 else "")
    grants = (
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role};\n"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {role};"
    )
    return [error("rights", f"the role {role} may not read and write {shown}, so nothing is recorded", grants)]


async def _company(settings: Settings) -> list[Flaw]:
    """Look at the queue's tables, the database's clock and the workers that are alive."""
    try:
        found = [] if await installed(address(settings.migrate_url)) else [_no_queue(settings)]
        store = await PostgresStore.open(settings.database_url, connections_max=1)
    except (PrunellaError, psycopg.Error) as wrong:
        return [error("database", str(wrong), _LOOK)]
    try:
        async with store.transaction() as tx:
            workers = await tx.workers.all()
        found += skew(store.clock.now(), SystemClock().now())
    except SchemaBehind:
        return found
    finally:
        await store.close()
    return found + crew({row["name"]: row["version"] for row in workers})


def _no_queue(settings: Settings) -> Flaw:
    text = "the queue's tables are missing in the schema prunella"
    if settings.migrate == "auto":
        return note("queue", f"{text}; prunella up makes them by itself")
    return error("queue", f"{text}, and service.migrate is manual", _UPGRADE)


def skew(theirs: datetime, ours: datetime) -> list[Flaw]:
    """Judge how far this machine's clock and the database's are apart."""
    apart: timedelta = abs(theirs - ours)
    seconds = apart.total_seconds()
    if seconds < _SKEW_WARNS_S:
        return []
    text = f"this machine's clock is {seconds:.1f} s {'behind' if theirs > ours else 'ahead of'} the database's"
    fix = "timedatectl set-ntp true"
    if seconds >= _SKEW_IS_WRONG_S:
        return [error("clock", f"{text}; tokens made here are refused", fix)]
    return [warning("clock", text, fix)]


def crew(versions: dict[str, str]) -> list[Flaw]:
    """Judge who is alive: workers of another version are well for a while, and should not stay."""
    if not versions:
        return [note("workers", "no worker is alive; start one with: prunella up")]
    others = {name: version for name, version in versions.items() if version != __version__}
    if not others:
        return []
    told = ", ".join(f"{name} runs {version}" for name, version in sorted(others.items()))
    text = f"{len(others)} of {len(versions)} workers are not of this version ({__version__}): {told}"
    return [warning("workers", text, "restart them with the version that shall stay")]
