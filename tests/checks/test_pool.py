"""The server's connections, those of everybody."""

from __future__ import annotations

import pytest

from databases.shop import Shop
from prunella.checks.pool import KEY, Pool
from prunella.core.errors import ConfigError
from prunella.core.procedures import PoolCheck

pytestmark = pytest.mark.anyio


async def test_pool_counts_connections_of_others(pg_shop: Shop) -> None:
    """With a tiny limit the server is too full, and the finding says of what; with a large one it is fine."""
    with pg_shop.engine.connect() as other:
        other.exec_driver_sql("SELECT 1")
        (found,) = (await Pool(pg_shop.handle(), PoolCheck(above=0.001)).look()).findings
    assert (found.key, found.issue) == (KEY, "POOL_HIGH")
    assert found.facts["used"] >= 2
    assert found.facts["idle_in_transaction"] >= 1
    assert found.facts["max"] == int(pg_shop.rows("SHOW max_connections")[0][0])
    assert (await Pool(pg_shop.handle(), PoolCheck(above=0.99)).look()).findings == ()


async def test_pool_counts_without_the_right_to_see_others(pg_shop: Shop) -> None:
    """A role without pg_monitor counts them all the same."""
    url = pg_shop.role("plain")
    with pg_shop.engine.connect() as other:
        other.exec_driver_sql("SELECT 1")
        (found,) = (await Pool(pg_shop.handle(url=url), PoolCheck(above=0.001)).look(KEY)).findings
    assert found.facts["used"] >= 2


def test_pool_of_a_file_is_refused(tmp_path: object) -> None:
    """SQLite has no connections to run out of; that is said when the check is built."""
    from databases.shop import opened

    with opened(f"sqlite:///{tmp_path}/shop.db") as shop, pytest.raises(ConfigError, match="SQLite is a file"):
        Pool(shop.handle(), PoolCheck())
