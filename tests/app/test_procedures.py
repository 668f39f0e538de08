"""What prunella.yaml says about procedures becomes procedures that run."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from prunella.app import App, open_app
from prunella.core.errors import ConfigError
from prunella.core.states import RunState
from prunella.engine import orders
from prunella.settings import load

pytestmark = pytest.mark.anyio

CONFIG = """\
service: {{database_url: "sqlite:///{folder}/prunella.db"}}
databases:
  shop: {{url: "sqlite:///{folder}/shop.db", time_zone: UTC}}
procedures:
  hide:
    database: shop
    check: {{rows: {{table: {table}, where: {{stock: 0, visible: true}}}}}}
    remedy: {{set: {{visible: false, batch: 5}}}}
    every: 30m
"""
SHOP = """\
CREATE TABLE products (id integer PRIMARY KEY, stock integer, visible boolean);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
INSERT INTO products SELECT i, i > 20, 1 FROM n;
"""
STUBBORN = """\
CREATE TRIGGER back AFTER UPDATE ON products WHEN new.visible = 0
BEGIN UPDATE products SET visible = 1 WHERE id = new.id; END;
"""


@asynccontextmanager
async def opened(folder: Path, *, table: str = "products", also: str = "") -> AsyncIterator[App]:
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        shop.executescript(SHOP + also)
    file = folder / "prunella.yaml"
    file.write_text(CONFIG.format(folder=folder, table=table))
    async with open_app(load(file, {})) as app:
        yield app


def hidden(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        return int(shop.execute("SELECT count(*) FROM products WHERE visible = 0").fetchone()[0])


def images(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        return int(shop.execute("SELECT count(*) FROM prunella_archive").fetchone()[0])


async def test_configured_procedure_heals_and_proves(tmp_path: Path) -> None:
    """Twenty of two hundred rows, in batches of five, each with its image."""
    async with opened(tmp_path) as app:
        swept = await orders.run_now(app.parts, "hide", by="ada")
    assert (swept.found, swept.resolved) == (1, 1)
    assert (hidden(tmp_path), images(tmp_path)) == (20, 20)


async def test_first_batch_has_to_help_before_the_rest_follows(tmp_path: Path) -> None:
    """Where something undoes the change at once, one batch is all that is tried."""
    async with opened(tmp_path, also=STUBBORN) as app:
        swept = await orders.run_now(app.parts, "hide", by="ada")
    assert (swept.resolved, swept.runs[0].touched, images(tmp_path)) == (0, 5, 5)
    assert swept.runs[0].state is RunState.INEFFECTIVE


async def test_name_that_is_not_in_the_catalogue_is_refused_at_its_place(tmp_path: Path) -> None:
    """A typo is found before anything runs, with file, line, column and what was meant."""
    with pytest.raises(ConfigError) as caught:
        async with opened(tmp_path, table="product"):
            pass
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path / 'prunella.yaml'}:7:")
    assert "did you mean products?" in problem
