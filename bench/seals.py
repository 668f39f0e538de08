"""What the seals over the audit cost: seal 100,000 entries and check them, on SQLite and on PostgreSQL.

Run with `python -m bench.seals`.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from chaos.postgres import postgres

from prunella.app import wire
from prunella.core.clock import SystemClock
from prunella.core.records import AuditEntry
from prunella.egress import Egress
from prunella.engine import seals
from prunella.settings import Settings
from prunella.store import migrations
from prunella.store.contract import Store
from prunella.store.postgres import PostgresStore
from prunella.store.secrets import Keys
from prunella.store.sqlite import SqliteStore

COUNT = 100_000


async def measure(name: str, store: Store) -> None:
    """Write, seal and check the entries of one store."""
    app = wire(Settings(), store, Egress(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), Keys([b"k" * 32]))
    then = store.clock.now() - timedelta(minutes=1)
    words = "tried 2 of 3: HTTP 503 from https://crm.example/orders, the next one in 2 s"
    for start in range(0, COUNT, 5_000):
        entries = [
            AuditEntry(
                id=f"{n:036}", at=then, actor="prunella", action="incident.wait", target="crm",
                incident_id=f"{n // 9:036}",
                reason=words, details={"n": n},
            )
            for n in range(start, start + 5_000)
        ]  # fmt: skip
        async with store.transaction() as tx:
            await tx.audit.add(entries)
    began = time.perf_counter()
    sealed = await seals.seal(app.parts)
    middle = time.perf_counter()
    found = await seals.verify(app.parts)
    ended = time.perf_counter()
    assert (sealed, found.entries, found.broken) == (COUNT, COUNT, None)
    print(f"{name}: {COUNT} entries sealed in {middle - began:.2f} s, checked in {ended - middle:.2f} s")
    await store.close()


async def on_sqlite(folder: Path) -> None:
    """Measure a file."""
    migrations.upgrade(f"sqlite:///{folder / 'prunella.db'}")
    await measure("SQLite", SqliteStore.open_file(folder / "prunella.db", SystemClock()))


async def on_postgres(url: str) -> None:
    """Measure a server."""
    migrations.upgrade(url)
    await measure("PostgreSQL", await PostgresStore.open(url))


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(on_sqlite(Path(folder)))
    with postgres() as server:
        asyncio.run(on_postgres(server.uri()))


if __name__ == "__main__":
    main()
