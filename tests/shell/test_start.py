"""Configurations that would break out, weigh too much or open too wide: each is refused at the start, with its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from flows.running import start
from shell.conftest import Shell, body

pytestmark = pytest.mark.slow
_SHOP = 'databases: {shop: {url: "${SHOP_DATABASE_URL}"}}\nprocedures:\n'
OBJECT = "service: !!python/object/apply:os.system ['touch owned']\n"
_NAMES = (
    'goods"; DROP TABLE goods; --',
    "goods'; DROP TABLE goods; --",
    "goods; DROP TABLE goods",
    "go\u201dods",
    "ｇoods",
    "goods\u200b",
    "goods\0",
    "g" * 64,
    "select",
    "main.goods",
    '"goods"',
    "goods -- ",
    "goods) OR (1=1",
    "",
)


def refused(shell: Shell, text: str, **variables: str) -> str:
    """Return what is said of a configuration that must not start."""
    folder = Path(tempfile.mkdtemp(dir=shell.up.folder))
    kept = {name: shell.up.environ[name] for name in ("SHOP_DATABASE_URL", "PLANTED") if name in shell.up.environ}
    try:
        start(folder, shell.world, f"sqlite:///{folder / 'own.db'}", text, **kept, **variables).end()
    except AssertionError:
        told = (folder / "up.log").read_text()
    else:
        pytest.fail("it came up")
    assert "prunella.yaml" in told or "PRUNELLA_" in told, told
    assert "Traceback" not in told
    return told


def procedure(number: int, table: str = "goods", column: str = "stock") -> str:
    """Return a procedure over a table and a column of these names."""
    check = f"{{rows: {{table: {body(table).decode()}, where: {{{body(column).decode()}: 0}}}}}}"
    return f"  p{number}: {{database: shop, check: {check}, remedy: {{set: {{visible: 0}}}}, every: 1h}}\n"


def test_names_that_are_no_names_are_refused_each_at_its_place(shell: Shell) -> None:
    """As tables and as columns: none starts, every one is named with its line, and the database is as it was."""
    tables = [procedure(number, table=name) for number, name in enumerate(_NAMES)]
    columns = [procedure(50 + number, column=name) for number, name in enumerate(_NAMES)]
    text = _SHOP + "".join(tables + columns)
    first = refused(shell, text)
    left = [
        one
        for one in tables + columns
        if not any(f"prunella.yaml:{3 + n}:" in first for n, o in enumerate(tables + columns) if o is one)
    ]
    if left:  # what the file's shape does not tell, the live catalogue does
        second = refused(shell, _SHOP + "".join(left))
        assert [one for number, one in enumerate(left) if f"prunella.yaml:{3 + number}:" not in second] == [], second
    assert shell.database.rows("SELECT count(*) FROM goods") is not None


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)),
        OBJECT,
        "service: " + "[" * 20_000,
    ],
    ids=["alias bomb", "object", "deep"],
)
def test_file_that_is_a_bomb_does_not_start(shell: Shell, text: str) -> None:
    """It ends at once with its place, and runs nothing."""
    before = shell.clock.monotonic()
    refused(shell, text)
    assert shell.clock.monotonic() - before < 5
    assert list(shell.up.folder.glob("*/owned")) == []


@pytest.mark.parametrize("key", ["abcde", "YWJjZGU=", "a" * 44])
def test_weak_key_does_not_start(shell: Shell, key: str) -> None:
    """Five bytes, no base64, one letter for ever: refused, and not shown."""
    told = refused(shell, "service: {environment: production}\n", PRUNELLA_SECRET_KEY=key)
    assert "PRUNELLA_SECRET_KEY" in told
    assert key not in told
