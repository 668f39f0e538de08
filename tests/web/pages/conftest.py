"""A small shop on SQLite: pages show what the engine says, whichever database said it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from web.market import Market, filled, market


@pytest.fixture
async def mart(anyio_backend: str, tmp_path: Path, sqlite_path: Path) -> AsyncIterator[Market]:
    """Wire a prunella that looks after the shop; nothing runs by itself."""
    with filled(f"sqlite:///{tmp_path / 'shop.db'}") as shop:
        async with market(shop, sqlite_path) as wired:
            yield wired
