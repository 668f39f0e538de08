"""The audit checked from the command line, and over HTTP by the same route."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from cli.conftest import Command
from prunella.core.clock import SystemClock
from prunella.engine.seals import seal_over
from prunella.store.sqlite import SqliteStore
from prunella.web.auth import Role
from store.making import entry
from web.conftest import Web
from web.conftest import web as _web

web = _web


@pytest.fixture
def sealed(configured: Path, sqlite_path: Path) -> Path:
    """Write ten entries under two seals."""
    clock = SystemClock()

    async def write() -> None:
        store = SqliteStore.open_file(sqlite_path, clock)
        last = None
        for start in (0, 5):
            entries = [entry(n, at=clock.now() - timedelta(minutes=1)) for n in range(start, start + 5)]
            async with store.transaction() as tx:
                await tx.audit.add(entries)
                last = seal_over(entries, last, clock.now())
                await tx.seals.put(last, [one.id for one in entries])
        await store.close()

    anyio.run(write)
    return sqlite_path


def test_whole_chain_is_said_to_be_whole(command: Command, sealed: Path) -> None:
    """Figures, and what to note for the next time; the noted seal is taken back."""
    said = command("audit", "verify")
    assert (said.status, said.out.splitlines()[0]) == (0, "the audit is as it was written: 10 entries under 2 seals")
    found = json.loads(command("audit", "verify", "--json").out)
    assert (found["ok"], found["broken"], found["noted"]) == (True, None, f"2:{found['last']['digest']}")
    assert command("audit", "verify", "--noted", found["noted"]).status == 0


def test_broken_seal_is_named_with_exit_code_1(command: Command, sealed: Path) -> None:
    """A deleted entry is told with its seal, in words and in JSON."""
    with closing(sqlite3.connect(sealed, isolation_level=None)) as file:
        file.execute("DROP TRIGGER audit_is_not_lost")
        file.execute("DELETE FROM audit WHERE id = 'entry-7'")
    said = command("audit", "verify")
    assert (said.status, said.out) == (1, "seal 2 is broken: 4 entries stand under it, where there were 5\n")
    said = command("audit", "verify", "--json")
    assert (said.status, json.loads(said.out)["broken"]["seal"]) == (1, 2)


def test_noted_seal_that_is_gone_is_told(command: Command, sealed: Path) -> None:
    """What was noted and stands in no chain means that the chain is another one; nonsense is refused."""
    said = command("audit", "verify", "--noted", f"2:{'0' * 64}")
    assert (said.status, said.out) == (1, "seal 2 is broken: is another one than was noted\n")
    said = command("audit", "verify", "--noted", "yesterday")
    assert said.status != 0
    assert "NUMBER:DIGEST" in said.err


@pytest.mark.anyio
async def test_empty_chain_is_whole(web: Web) -> None:
    """Nothing written, nothing sealed, nothing broken."""
    answer = await web.ask("GET", "/api/v1/audit/verify", web.token(Role.OPERATIONS))
    assert answer.json() == {
        "ok": True, "seals": 0, "entries": 0, "forgotten": 0, "unsealed": 0, "broken": None, "last": None, "noted": None,
    }  # fmt: skip
