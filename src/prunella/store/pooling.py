"""Whether a transaction pooler stands before PostgreSQL: told by what it does, since no port and no name is sure to.

Behind one (PgBouncer in transaction mode, Supavisor), each transaction may run in another session of the server. Then
nothing that lives in a session may be relied upon: prepared statements, settings, session locks, LISTEN.
"""

from __future__ import annotations

from typing import Any

import psycopg

_TURNS = (0, 0, 1, 0, 1, 1)


async def is_pooled(conninfo: str) -> bool:
    """Tell whether transactions of one connection run in several sessions, or two connections share one.

    A server without a pooler never looks like it. One connection asks twice in a row, since a pooler that takes turns
    gives it another session then; two ask in turns, since a pooler that keeps the last session warm lends it on. None
    asks while another holds a session: where few are left, that would wait for ever.
    """
    async with await _connect(conninfo) as one, await _connect(conninfo) as other:
        seen: dict[int, set[int]] = {0: set(), 1: set()}
        for place in _TURNS:
            seen[place].add(await _session(other if place else one))
    return len(seen[0]) > 1 or len(seen[1]) > 1 or bool(seen[0] & seen[1])


def note(*, direct: bool) -> str:
    """Say what follows for a person.

    Args:
        direct: a way past the pooler is named.
    """
    here = "PostgreSQL is reached through a transaction pooler: nothing is prepared, no lock outlives a transaction"
    if direct:
        return f"{here}; tables are changed, and workers woken, by way of service.direct_url"
    return f"{here}, and work is asked for every 0.5 s; service.direct_url can name a way past it, to be woken at once"


async def _connect(conninfo: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)


async def _session(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])
