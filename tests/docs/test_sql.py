"""The SQL of every page runs: files that make a shop on SQLite, questions on a PostgreSQL that has the functions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import yaml

from cli.conftest import Command
from cli.conftest import command as _command
from cli.conftest import folder as _folder
from docs.checks import settings_of
from docs.pages import Block, Page, page, pages

command, folder = _command, _folder
FILES = [(one.name, block) for one in pages() for block in one.blocks("sql") if block.file]
ASKING = "docs/procedures.md"
TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL, updated_at timestamptz NOT NULL);
INSERT INTO orders VALUES (123, 'PENDING', now() - interval '1 hour');
CREATE TABLE livechat_conversations (id int PRIMARY KEY);
CREATE TABLE livechat_messages (id int PRIMARY KEY, conversation_id int);
INSERT INTO livechat_messages VALUES (1, 7);
"""


def made(block: Block) -> list[str]:
    """Make a shop by a page's file; return its tables."""
    with closing(sqlite3.connect(":memory:")) as shop:
        shop.executescript(block.text)
        return [name for (name,) in shop.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


@pytest.mark.parametrize(("name", "block"), FILES, ids=[name for name, _ in FILES])
def test_files_make_a_shop(name: str, block: Block) -> None:
    """A file of tables and rows runs on SQLite as it stands."""
    assert made(block)


def test_other_pages_show_no_sql_that_nobody_runs() -> None:
    """Whoever writes SQL on a page that is neither a file nor among the functions adds it here."""
    assert {one.name for one in pages() if any(not block.file for block in one.blocks("sql"))} == {ASKING}


def test_questions_are_answered(command: Command, folder: Path, fresh_postgres_url: str) -> None:
    """Every statement of the page about SQL gets rows, once the page's entity is configured and the functions installed."""
    shown = page(ASKING)
    entities = next(
        held["entities"] for _, text in reversed([*settings_of(shown)]) if "entities" in (held := yaml.safe_load(text))
    )
    ours = {
        "service": {"database_url": f"sqlite:///{folder}/prunella.db"},
        "databases": {"shop": {"url": fresh_postgres_url}},
    }
    (folder / "prunella.yaml").write_text(yaml.safe_dump({**ours, "entities": entities}))
    with psycopg.connect(fresh_postgres_url, autocommit=True) as shop:
        shop.execute(TABLES.encode())
        assert command("db", "upgrade", "--compat").status == 0
        (block,) = shown.blocks("sql")
        for line in block.text.splitlines():
            assert len(shop.execute(line.encode()).fetchall()) == 1, line


def test_wrong_sql_is_noticed() -> None:
    """A file with a slip makes nothing."""
    (planted,) = Page("planted.md", "```sql\n-- shop.sql\nCREATE TABLE t (id INTEGER\n```\n").blocks("sql")
    with pytest.raises(sqlite3.OperationalError):
        made(planted)
