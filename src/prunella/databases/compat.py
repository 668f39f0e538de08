"""The documents' SQL functions and views in the user's own PostgreSQL database, and the requests that they leave there.

Installed in one transaction: all of it, or nothing. A function of the user that has one of the names is never
replaced. Nobody but the owner may call what is installed, until the user grants it; such grants stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from prunella.core.errors import DatabaseRefused
from prunella.core.procedures import Entity
from prunella.databases import compat_anywhere, compat_entities
from prunella.databases.compat_entities import OWN, Place, Typed
from prunella.databases.compat_piece import Piece
from prunella.databases.handle import Database
from prunella.databases.spelled import name_of, text_of

REQUEST_LEASE = timedelta(minutes=10)
"""A request that was taken and not answered for so long is given out again: its worker died."""
REQUESTS_KEPT = timedelta(days=30)
_REQUESTS_MAX = 100
_NO_RIGHT = "42501"
_LOCK = 7_077_853  # any number of our own; two that install at once do so one after the other
_OURS = re.compile(r"prunella \((.*)\): .* \[([0-9a-f]{12})\]", re.DOTALL)

_TABLE = (
    """CREATE TABLE IF NOT EXISTS prunella.heal_requests (
        id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
        entity text NOT NULL, key text NOT NULL, issue text NOT NULL, action text NOT NULL,
        requested_by text NOT NULL DEFAULT session_user,
        requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        taken_at timestamptz, answer text, answered_at timestamptz)""",
    """CREATE UNIQUE INDEX IF NOT EXISTS heal_requests_one_open ON prunella.heal_requests (entity, key)
        WHERE answer IS NULL""",
    "COMMENT ON TABLE prunella.heal_requests IS 'what auto_heal_... asked for; the engine takes and answers it'",
)
_TAKE = text("""
    UPDATE prunella.heal_requests SET taken_at = clock_timestamp() WHERE id IN (
        SELECT id FROM prunella.heal_requests
        WHERE answer IS NULL AND (taken_at IS NULL OR taken_at < clock_timestamp() - :lease)
        ORDER BY requested_at, id LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING id, entity, key, issue, action, requested_by, requested_at
""")
_ANSWER = text("""
    UPDATE prunella.heal_requests SET answer = :answer, answered_at = clock_timestamp()
    WHERE id = :id AND answer IS NULL
""")
_FORGET = text("DELETE FROM prunella.heal_requests WHERE answered_at < clock_timestamp() - :kept")
_THERE = text("""
    SELECT 'FUNCTION' AS kind, n.nspname AS schema, p.proname AS name, p.oid::regprocedure::text AS called,
           p.proacl AS acl, obj_description(p.oid, 'pg_proc') AS comment
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY(:schemas)
    UNION ALL
    SELECT 'VIEW', n.nspname, c.relname, c.oid::regclass::text, c.relacl, obj_description(c.oid, 'pg_class')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY(:schemas) AND c.relkind IN ('r', 'v', 'm', 'f', 'p')
""")
_GRANTS = text("""
    SELECT e.privilege_type AS privilege, CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS role,
           e.is_grantable AS further
    FROM aclexplode(CAST(:acl AS aclitem[])) e LEFT JOIN pg_roles r ON r.oid = e.grantee WHERE e.grantee <> e.grantor
""")
_COLUMNS = text("""
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS full,
           format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL) AS plain
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE n.nspname = :schema AND c.relname = :table AND a.attnum > 0 AND NOT a.attisdropped
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealRequest:
    """What somebody asked for by `SELECT auto_heal_…(…)`; its id is the healing's."""

    id: str
    entity: str
    key: str
    issue: str
    action: str
    requested_by: str
    requested_at: datetime


async def install(database: Database, entities: Iterable[Entity], *, remedies: Iterable[str] = ()) -> list[str]:
    """Install or renew functions and views; return what was done, one line each, nothing when all was as it should be.

    Args:
        entities: those of this database.
        remedies: what `auto_heal_…` may ask for besides the entities' own remedies.

    Raises:
        DatabaseRefused: it is no PostgreSQL, a name is taken, a column is missing or has no zone, a right is missing.
    """
    if database.kind != "postgresql":
        raise DatabaseRefused(f"database {database.name}: SQL functions need PostgreSQL, this is {database.kind}")
    chosen, named = [one for one in entities if one.stuck], list(remedies)
    try:
        return await database.writing(lambda connection: _install(database, connection, chosen, named))
    except DatabaseRefused as error:
        if getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) != _NO_RIGHT:
            raise
        raise DatabaseRefused(
            f"{error}; run this once as the owner of the database, then: "
            "GRANT SELECT, UPDATE, DELETE ON prunella.heal_requests TO the role that prunella uses"
        ) from error


async def take_requests(database: Database) -> list[HealRequest]:
    """Take the requests that nobody has taken, oldest first; none where nothing is installed."""
    if database.kind != "postgresql":
        return []

    def take(connection: Connection) -> list[HealRequest]:
        if not _has(connection, "heal_requests"):
            return []
        rows = connection.execute(_TAKE, {"lease": REQUEST_LEASE, "most": _REQUESTS_MAX}).mappings()
        return sorted((HealRequest(**row) for row in rows), key=lambda one: (one.requested_at, one.id))

    return await database.writing(take)


async def answer(database: Database, request_id: str, words: str) -> bool:
    """Write what came of a request, once; False when it has its answer. What is long answered is forgotten."""

    def write(connection: Connection) -> bool:
        connection.execute(_FORGET, {"kept": REQUESTS_KEPT})
        return connection.execute(_ANSWER, {"id": request_id, "answer": words}).rowcount == 1

    return await database.writing(write)


def _install(
    database: Database, connection: Connection, entities: Sequence[Entity], remedies: Sequence[str]
) -> list[str]:
    _run(connection, f"SELECT pg_advisory_xact_lock({_LOCK})")
    schema = database.source.schema or connection.exec_driver_sql("SELECT current_schema()").scalar()
    if schema is None:
        raise DatabaseRefused(
            f"database {database.name}: no schema to install in; set databases.{database.name}.schema"
        )
    _run(connection, "SET LOCAL search_path = pg_catalog, pg_temp")  # names mean what they say, and types show theirs
    _prepare(connection)
    wanted = compat_anywhere.pieces(schema)
    has_store = _has(connection, "incidents") and _has(connection, "runs")
    for entity in entities:
        place = Place(database.source, schema, _columns(connection, schema, entity.table), has_store)
        wanted += compat_entities.pieces(entity, place, remedies)
    return _renew(database.name, connection, wanted)


def _prepare(connection: Connection) -> None:
    there = connection.execute(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": OWN}).scalar()
    if there is None:  # IF NOT EXISTS asks for the right to create it even so
        _run(connection, f"CREATE SCHEMA {OWN}")
    if not _has(connection, "heal_requests"):
        for statement in _TABLE:
            _run(connection, statement)


def _renew(database: str, connection: Connection, wanted: Sequence[Piece]) -> list[str]:
    """Drop what is no longer wanted or has changed, views first; make what is missing, with the grants it had."""
    schemas = sorted({OWN, *(one.schema for one in wanted)})
    there = [dict(row) for row in connection.execute(_THERE, {"schemas": schemas}).mappings()]
    by_name = {(one.schema, one.name): one for one in wanted}
    current: set[tuple[str, str]] = set()
    dropped: dict[tuple[str, str], Any] = {}
    for one in sorted(there, key=lambda row: row["kind"], reverse=True):
        place = (one["schema"], one["name"])
        mark, piece = _OURS.fullmatch(one["comment"] or ""), by_name.get(place)
        if mark is None and piece is not None:
            raise DatabaseRefused(
                f"database {database}: {one['called']} is there already and is not prunella's; "
                "rename or drop it, then run this again"
            )
        if mark is None or (piece is None and mark[1] != database):
            continue
        if piece is not None and mark[2] == piece.digest:
            current.add(place)
            continue
        _run(connection, f"DROP {one['kind']} {one['called']}")
        dropped[place] = one["acl"]
    for one_piece in wanted:
        place = (one_piece.schema, one_piece.name)
        if place not in current:
            _make(database, connection, one_piece, dropped.get(place))
    return _told(wanted, current, dropped)


def _make(database: str, connection: Connection, piece: Piece, acl: Any) -> None:
    _run(connection, piece.create)
    made = connection.execute(_THERE, {"schemas": [piece.schema]}).mappings()
    mine = next(row for row in made if row["name"] == piece.name and row["comment"] is None)
    target = f"{piece.kind} {mine['called']}"
    _run(connection, f"COMMENT ON {target} IS {text_of(piece.comment(database))}")
    on = mine["called"] if piece.kind == "VIEW" else target
    given = connection.execute(_GRANTS, {"acl": mine["acl"]}).mappings().all()  # by default privileges
    for role in sorted({"PUBLIC", *(one["role"] for one in given)}):
        _run(connection, f"REVOKE ALL ON {on} FROM {role}")
    for one in connection.execute(_GRANTS, {"acl": acl}).mappings().all():
        further = " WITH GRANT OPTION" if one["further"] else ""
        _run(connection, f"GRANT {one['privilege']} ON {on} TO {one['role']}{further}")


def _told(wanted: Sequence[Piece], current: set[tuple[str, str]], dropped: dict[tuple[str, str], Any]) -> list[str]:
    names = {(one.schema, one.name) for one in wanted}
    lines = [
        f"{'renewed' if (one.schema, one.name) in dropped else 'created'} {name_of(one.schema, one.name)}"
        for one in wanted
        if (one.schema, one.name) not in current
    ]
    return lines + [f"dropped {name_of(*place)}" for place in sorted(set(dropped) - names)]


def _columns(connection: Connection, schema: str, table: str) -> dict[str, Typed]:
    rows = connection.execute(_COLUMNS, {"schema": schema, "table": table})
    return {row.name: Typed(row.full, row.plain) for row in rows}


def _has(connection: Connection, table: str) -> bool:
    found = connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{OWN}.{table}"}).scalar()
    return found is not None


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
