"""A process that hides and deletes rows batch by batch until it is killed; run by test_killed.py."""

from __future__ import annotations

import asyncio
import sys
import warnings

from prunella.core.findings import Finding
from prunella.core.procedures import DatabaseSource
from prunella.core.redact import Secret
from prunella.databases.handle import Database
from prunella.remedies.contract import Assignment
from prunella.remedies.rows import ArchiveAndDelete, SetRows


async def main(url: str, act: str) -> None:
    """Say that the run begins, and run."""
    database = Database(DatabaseSource(name="shop", url=Secret(url)))
    keys = tuple(range(1, 20_001))
    finding = Finding(key="products", issue="ROWS_MATCH", message="…", keys=keys)
    given = Assignment(run_id="run-1", incident_id="i", attempt=1, idempotency_key="k", finding=finding)

    async def told(*_: object) -> str | None:
        print("batch", flush=True)
        return None

    if act == "delete":
        await ArchiveAndDelete(database, "products", batch=20, go_on=told).apply([given])
    else:
        await SetRows(database, "products", {"note": "hidden"}, batch=20, go_on=told).apply([given])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asyncio.run(main(sys.argv[1], sys.argv[2]))
