"""An application hands a call over; `prunella up`, which knows the function as a plug-in, makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.running import configuration, eventually, running
from flows.test_start import command
from prunella.testing import FaultyServer

pytestmark = pytest.mark.slow

_PLUGIN = """
from pathlib import Path
import prunella as pr

crm = pr.policy("crm", retry=pr.Retry(attempts=1), max_inline_wait_s=0.5)

@crm.durable("order_id")
def ship(order_id, note=""):
    with Path("shipped.txt").open("a") as file:
        file.write(f"{order_id} {note}\\n")
"""
_APPLICATION = """
import sys
import prunella as pr
from prunella.testing import faults, throttled
from shop_calls import crm, ship

with pr.connect(sys.argv[1], resume=False), faults(crm, [throttled(1)]):
    try:
        ship(7, note="express")
    except pr.HandedOver as told:
        print(told.operation_id)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_engine_makes_a_call_that_an_application_handed_over(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Handed over beside a running engine, on its own database: made once, under its own name."""
    url = f"sqlite:///{tmp_path / 'p.db'}" if kind == "sqlite" else request.getfixturevalue("fresh_postgres_url")
    (tmp_path / "shop_calls.py").write_text(_PLUGIN)
    shipped = tmp_path / "shipped.txt"
    with FaultyServer() as shop:
        config = configuration(shop).replace("service: {", "service: {plugins: [shop_calls], ")
        with running(tmp_path, shop, url, config) as up:
            done = subprocess.run(
                [sys.executable, "-c", _APPLICATION, url], cwd=tmp_path, capture_output=True, text=True, check=True
            )
            eventually(shipped.exists)
            eventually(
                lambda: up.rows("SELECT id, state, attempts FROM durable_calls") == [(done.stdout.strip(), "done", 2)]
            )
            up.stop()
    assert shipped.read_text() == "7 express\n"


def test_plugin_that_can_not_be_imported_is_named(tmp_path: Path) -> None:
    """The engine does not start without what it was told to bring along."""
    (tmp_path / "prunella.yaml").write_text("service: {plugins: [shop.nowhere], listen: '127.0.0.1:0'}\n")
    done = command(tmp_path, "up")
    assert done.returncode == 2
    assert "service.plugins: shop.nowhere can't be imported (ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr
