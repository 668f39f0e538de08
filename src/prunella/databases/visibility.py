"""Whether this role sees a table's rows at all: nothing seen is not the same as nothing there.

PostgreSQL's row-level security hides rows silently; a look at a table that it hides is blind, and never "all healthy".
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, text

from prunella.databases import counting
from prunella.databases.handle import Database

_ACTIVE = "SELECT row_security_active(to_regclass(%s))"
_FACTS = text(
    """
    SELECT current_user AS role, greatest(c.reltuples, 0)::bigint AS estimate,
      EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('r', '*')
        AND (p.polroles = '{0}' OR EXISTS (SELECT 1 FROM unnest(p.polroles) r WHERE pg_has_role(r, 'USAGE')))) AS some,
      EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('r', '*')
        AND pg_get_expr(p.polqual, p.polrelid) = 'true'
        AND (p.polroles = '{0}' OR EXISTS (SELECT 1 FROM unnest(p.polroles) r WHERE pg_has_role(r, 'USAGE'))))
      AND NOT EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive
        AND p.polcmd IN ('r', '*')
        AND (p.polroles = '{0}' OR EXISTS (SELECT 1 FROM unnest(p.polroles) r WHERE pg_has_role(r, 'USAGE')))) AS every
    FROM pg_class c WHERE c.oid = to_regclass(:name)
    """
)


def blind(database: Database, connection: Connection, table: Table, *, whole: bool = False) -> str | None:
    """Say why a look at the table shows nothing although there may be something; None where it sees.

    Args:
        whole: every row has to be seen, as of a table of parents: who misses some takes live rows for orphans.
    """
    if database.kind != "postgresql":
        return None
    name = connection.dialect.identifier_preparer.format_table(table).replace("%%", "%")
    if not connection.exec_driver_sql(_ACTIVE, (name,)).scalar():
        return None
    facts: Any = connection.execute(_FACTS, {"name": name}).mappings().one_or_none()
    if facts is None:
        return None
    if not facts["some"]:
        return _sentence(table, facts["role"], "no policy lets it see any")
    if whole and not facts["every"]:
        return _sentence(table, facts["role"], "its policies may hide some, and hidden parents look like missing ones")
    if facts["estimate"] > 0 and counting.size(connection, table, 1) == 0:
        return _sentence(table, facts["role"], f"it sees none of about {facts['estimate']}")
    return None


def _sentence(table: Table, role: str, why: str) -> str:
    return (
        f"row-level security hides rows of {table.name} from {role}: {why}; "
        f"give it a policy (FOR SELECT TO {role} USING (true)) or BYPASSRLS, see prunella db grant --print"
    )
