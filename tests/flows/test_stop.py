"""Stopping in good order: told before it happens, in time, and what was cut off goes on elsewhere."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx2
import pytest

from flows.running import Up, configuration, event, eventually, running, start
from prunella.testing import FaultyServer, hang

pytestmark = pytest.mark.slow

PATIENT = "timeout: 9s\n    honours_idempotency_key: true"


def config(shop: FaultyServer, within: str) -> str:
    """Return a configuration whose services take their time, and which stops within `within`."""
    told = configuration(shop).replace("timeout: 2s", PATIENT)
    return told.replace("environment: development", f"environment: development, stop_within: {within}")


def under_way(up: Up, service: str) -> str:
    """Let a call hang in the middle; return its incident."""
    up.shop.script(f"/{service}/orders", [hang(30), "ok"])
    incident: str = up.heal(event(service), prefer="respond-async")["recovery_id"]
    up.shop.wait_for(lambda: any(one.path == f"/{service}/orders" for one in up.shop.ledger.requests), 10)
    return incident


def test_readiness_ends_before_the_socket_does(tmp_path: Path) -> None:
    """After SIGTERM the process says that it is not ready while it still answers, and lives until it has stopped."""
    with FaultyServer() as shop, running(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", config(shop, "2s")) as up:
        under_way(up, "s1")
        assert up.client.get("/readyz").status_code == 200
        up.process.terminate()
        answers = []
        while True:
            try:
                answers.append(up.client.get("/readyz"))
            except httpx2.TransportError:
                break
        refused = [one.json()["checks"]["stopping"] for one in answers if one.status_code == 503]
        assert refused
        assert set(refused) == {"this process was told to stop"}
        assert answers[-1].status_code == 503
        assert up.process.wait(10) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_cut_off_goes_on_elsewhere(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A call that outlasts the stop time is cut off: status 0 in time, and the next process goes on with it at once."""
    file = f"sqlite:///{tmp_path / 'p.db'}"
    url = file if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres_url"))
    with FaultyServer() as shop, running(tmp_path, shop, url, config(shop, "1s")) as up:
        incident = under_way(up, "s1")
        began = time.monotonic()
        up.process.terminate()
        assert up.process.wait(10) == 0
        assert time.monotonic() - began < 8  # the call itself would end after 9 s
        assert up.rows("SELECT state FROM runs") == [("running",)]
        again = start(up.folder, shop, url, (up.folder / "prunella.yaml").read_text())
        try:
            eventually(lambda: again.get(f"/api/v1/incidents/{incident}")["state"] == "resolved", 10)
            assert again.get(f"/api/v1/incidents/{incident}")["runs"][0]["state"] == "unknown"
            assert shop.ledger.double_effects == 0
        finally:
            again.end()


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Who asks twice does not want to wait for what is under way."""
    with FaultyServer() as shop, running(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", config(shop, "30s")) as up:
        under_way(up, "s1")
        began = time.monotonic()
        up.process.terminate()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(10) == 0
        assert time.monotonic() - began < 8  # the call itself would end after 9 s
