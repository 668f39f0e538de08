"""What only SQLite has to promise: one process, told by name; and a full disk that leaves nothing half-written."""

from __future__ import annotations

import os
import signal as signals
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from prunella.core.clock import SystemClock
from prunella.core.errors import StoreLocked, StoreUnavailable
from prunella.store import migrations
from prunella.store.sqlite import SqliteStore
from store.making import NOW, entry, signal

pytestmark = pytest.mark.anyio

HOLD = """
import sys
from pathlib import Path
from prunella.store.sqlite import hold
lock = hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the file."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def audit_rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute("SELECT count(*) FROM audit").fetchone()[0])


# One process


@pytest.mark.slow
async def test_second_process_is_refused_by_name(sqlite_path: Path) -> None:
    """While another process has the file, opening it fails and names that process, the file and the ways out."""
    with holder(sqlite_path) as other:
        with pytest.raises(StoreLocked) as refused:
            SqliteStore.open_file(sqlite_path, SystemClock())
        assert f"process {other.pid}" in str(refused.value)
        assert str(sqlite_path) in str(refused.value)
        assert "PostgreSQL" in str(refused.value)


@pytest.mark.slow
async def test_lock_ends_with_the_process(sqlite_path: Path) -> None:
    """After kill -9 of the holder the file opens at once, and the next one refused hears the new owner's name."""
    with holder(sqlite_path) as other:
        other.send_signal(signals.SIGKILL)
        other.wait()
        store = SqliteStore.open_file(sqlite_path, SystemClock())
    with pytest.raises(StoreLocked, match=f"process {os.getpid()};"):
        SqliteStore.open_file(sqlite_path, SystemClock())
    await store.close()


async def test_closed_store_frees_the_file(sqlite_path: Path) -> None:
    """Closing gives the file to whoever comes next."""
    for _ in range(2):
        store = SqliteStore.open_file(sqlite_path, SystemClock())
        await store.revision()
        await store.close()


async def test_file_that_is_no_database_is_refused_and_freed(tmp_path: Path) -> None:
    """A file of something else is a clear error and not a lock for ever."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be read as the header of one. " * 10)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"notes\.txt: file is not a database"):
            SqliteStore.open_file(path, SystemClock())


async def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    """A path into nowhere is a clear error."""
    with pytest.raises(StoreUnavailable, match=r"nowhere"):
        SqliteStore.open_file(tmp_path / "nowhere" / "prunella.db", SystemClock())


async def test_file_is_opened_for_durability(sqlite_path: Path) -> None:
    """Write-ahead log, and every commit on the disk before it is called done."""
    store = SqliteStore.open_file(sqlite_path, SystemClock())
    settings = {name: (await store.run(f"PRAGMA {name}", {}))[0][0][0] for name in ("journal_mode", "synchronous")}
    await store.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2}


# Failures


async def test_full_disk_leaves_nothing_half_written(sqlite_path: Path) -> None:
    """When the disk is full the whole transaction is refused, actions do not run; with room again all goes on."""
    database = sqlite3.connect(sqlite_path, isolation_level=None)
    store = SqliteStore(database, SystemClock())
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 8}")
    ran: list[str] = []
    with pytest.raises(StoreUnavailable, match=r"full; nothing of this request was recorded"):
        async with store.transaction() as tx:
            tx.on_commit(lambda: ran.append("action"))
            await tx.audit.add([entry()])
            await tx.signals.add([(signal(number, event_id=f"{number}" * 200), None, None) for number in range(400)])
    assert (audit_rows(sqlite_path), ran) == (0, [])
    async with store.transaction() as tx:
        await tx.audit.add([entry()])
    database.execute("PRAGMA max_page_count = 100000")
    async with store.transaction() as tx:
        await tx.audit.add([entry(number, reason="x" * 1000) for number in range(2, 400)])
    await store.close()
    assert audit_rows(sqlite_path) == 399


async def test_commit_that_fails_leaves_nothing(sqlite_path: Path) -> None:
    """When the commit itself is refused, the block ends with an error, nothing stays and no action runs."""
    database = sqlite3.connect(sqlite_path, isolation_level=None)
    store = SqliteStore(database, SystemClock())
    refuse = [True]

    def authorise(action: int, what: str | None, *_: str | None) -> int:
        return sqlite3.SQLITE_DENY if refuse[0] and (action, what) == (22, "COMMIT") else sqlite3.SQLITE_OK

    database.set_authorizer(authorise)
    ran: list[str] = []
    with pytest.raises(StoreUnavailable, match="not authorized"):
        async with store.transaction() as tx:
            tx.on_commit(lambda: ran.append("action"))
            await tx.audit.add([entry()])
    assert (audit_rows(sqlite_path), ran, database.in_transaction) == (0, [], False)
    refuse[0] = False
    database.set_authorizer(None)
    async with store.transaction() as tx:
        await tx.audit.add([entry()])
    await store.close()
    assert audit_rows(sqlite_path) == 1


async def test_writer_from_outside_makes_it_wait_and_then_say_so(sqlite_path: Path) -> None:
    """A backup tool that holds the write lock for too long is reported as unavailable; afterwards all goes on."""
    store = SqliteStore.open_file(sqlite_path, SystemClock())
    await store.run("PRAGMA busy_timeout = 20", {})
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            async with store.transaction():
                raise AssertionError
        other.execute("ROLLBACK")
    async with store.transaction() as tx:
        await tx.gates.take("hubspot", NOW)
    await store.close()


async def test_revision_is_read_from_the_file(sqlite_path: Path) -> None:
    """A file that was overwritten by something else is not well, and asking for the revision says so."""
    migrations.upgrade(f"sqlite:///{sqlite_path}")
    sqlite_path.write_bytes(b"x" * 8192)  # noqa: ASYNC240, a test may wait for its own file
    database = sqlite3.connect(sqlite_path, isolation_level=None)
    store = SqliteStore(database, SystemClock())
    with pytest.raises(StoreUnavailable, match="not a database"):
        await store.revision()
    await store.close()
