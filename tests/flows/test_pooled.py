"""The whole way of an event behind a transaction pooler: accepted, healed, verified, resolved, and told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.running import Up, configuration, event, eventually, running
from pooler import PGBOUNCER, bouncing, pooling
from prunella.testing import FaultyServer

pytestmark = pytest.mark.slow


@pytest.fixture(params=["ours", "ours and a way past it"] + (["pgbouncer"] if PGBOUNCER else []))
def pooled(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres_url: str) -> Iterator[Up]:
    """A real `prunella up` that reaches its database through a pooler with few sessions."""
    before = bouncing(fresh_postgres_url) if request.param == "pgbouncer" else pooling(fresh_postgres_url)
    way = {"PRUNELLA_DIRECT_URL": fresh_postgres_url} if request.param.endswith("it") else {}
    with (
        FaultyServer() as shop,
        before as url,
        running(tmp_path, shop, url, configuration(shop), **way) as up,
    ):
        yield up


def test_events_are_healed_behind_a_pooler(pooled: Up) -> None:
    """Given many events at once, all are healed and none is sent twice; the start says what stands in between."""
    said = "".join(pooled.lines)
    assert said.count("through a transaction pooler") == 1
    assert ("service.direct_url" in said) and ("asked for every" in said) == (
        "PRUNELLA_DIRECT_URL" not in pooled.environ
    )
    accepted = [
        pooled.heal(event(f"s{number % 8}", number), prefer="respond-async")["recovery_id"] for number in range(24)
    ]
    for incident in set(accepted):
        path = f"/api/v1/incidents/{incident}"
        eventually(lambda path=path: pooled.get(path)["state"] == "resolved")  # type: ignore[misc]
    assert pooled.heal(event("s9"))["status"] == "resolved"
    assert pooled.shop.ledger.double_effects == 0
    log = (pooled.folder / "up.log").read_text()
    assert "Traceback" not in log, log[-3000:]
    pooled.stop()
