"""A run that is killed in its middle leaves exactly as many images as rows that it changed, and can be put back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from databases.test_restore import undo
from users import opened, rows

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROWS = 20_000
TABLE = "CREATE TABLE products (id integer PRIMARY KEY, note text)"
FILLED = f"""INSERT INTO products WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
    SELECT i, 'note ' || i FROM n"""


@pytest.mark.parametrize("act", ["delete", "set"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_archived_is_changed_after_kill_9(
    kind: str, act: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whenever the process dies, what is archived is what was changed: no more, no less."""
    fresh: Any = request.getfixturevalue("fresh_postgres_url") if kind == "postgresql" else None
    url = fresh or f"sqlite:///{tmp_path}/shop.db"
    async with opened(url, TABLE, FILLED) as shop:
        command = [sys.executable, str(Path(__file__).with_name("killed.py")), url, act]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
            assert process.stdout is not None
            for _ in range(25):
                assert process.stdout.readline() == b"batch\n"
            process.kill()
        archive = "prunella_archive" if kind == "sqlite" else "prunella.archive"
        counted = f"SELECT (SELECT count(*) FROM {archive}), (SELECT count(*) FROM products WHERE note <> 'hidden')"
        ((archived, left),) = await rows(shop, counted)
        assert 500 <= archived < ROWS
        assert archived + left == ROWS
        restored = await undo(shop)
        assert (restored.rows, restored.refused) == (archived, {})
        assert await rows(shop, "SELECT count(*) FROM products WHERE note = 'note ' || id") == [(ROWS,)]
