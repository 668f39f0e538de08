"""Applications and a real `prunella up`: what their guards notice, hand over and learn, beside it and from afar."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.running import Up, configuration, eventually, running, start
from flows.test_start import command
from prunella.testing import FaultyServer

pytestmark = pytest.mark.slow

_PLUGIN = """
from pathlib import Path
import prunella as pr

crm = pr.policy("s1", retry=pr.Retry(attempts=1), max_inline_wait_s=0.5)

@crm.durable("order_id")
def ship(order_id, note=""):
    with Path("shipped.txt").open("a") as file:
        file.write(f"{order_id} {note}\\n")
"""
_HAND_OVER = """
import sys, time
import prunella as pr
from prunella.testing import faults, throttled
from shop_calls import crm, ship

with pr.connect(*sys.argv[1:3], resume=False), faults(crm, [throttled(1)]):
    try:
        ship(7, note="express")
    except pr.HandedOver as told:
        print(told.operation_id, flush=True)
    if "--linger" in sys.argv:
        time.sleep(60)
"""
_DELIVER = "import sys, prunella as pr\npr.connect(*sys.argv[1:]).close()"
_BREAK_AND_HEAL = """
import sys
import prunella as pr

crm = pr.policy("crm", breaker=pr.Breaker(failures=2, open_s=0.2))

def push(ok):
    if not ok:
        raise ConnectionError("refused")

with pr.connect(*sys.argv[1:]):
    for ok in (False, False):
        try:
            crm.call(push, ok)
        except ConnectionError:
            pass
    input()
    crm.call(push, True)
"""


@pytest.fixture
def shop() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


def with_plugin(folder: Path, shop: FaultyServer) -> str:
    (folder / "shop_calls.py").write_text(_PLUGIN)
    return configuration(shop).replace("service: {", "service: {plugins: [shop_calls], ")


def address(up: Up, kind: str) -> list[str]:
    """Return what an application connects to: the engine's own database, or the engine."""
    return [up.url, up.cli("token", "--role", "APPLICATION").strip()] if kind == "engine" else [up.database_url]


def application(folder: Path, program: str, *arguments: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, **how)


def said(program: subprocess.Popen[str]) -> str:
    """Return what a program printed before it ended well."""
    told = program.communicate(timeout=30)[0]
    assert program.returncode == 0
    return told.strip()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "engine"])
def test_breaker_that_opens_is_an_incident_until_it_is_proven(
    kind: str, tmp_path: Path, shop: FaultyServer, request: pytest.FixtureRequest
) -> None:
    """The engine hears of it within seconds, as severe, and the probe that succeeds resolves it."""
    url = str(request.getfixturevalue("fresh_postgres_url")) if kind == "postgresql" else f"sqlite:///{tmp_path}/p.db"
    with running(tmp_path, shop, url, configuration(shop)) as up:
        program = application(tmp_path, _BREAK_AND_HEAL, *address(up, kind), stdin=subprocess.PIPE)

        def incidents() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = up.get("/api/v1/incidents", service="crm")["items"]
            return found

        eventually(lambda: len(incidents()) == 1)
        (opened,) = incidents()
        assert (opened["category"], opened["severity"]) == ("network", "HIGH")
        assert opened["because"] == "code circuit_breaker_open"
        assert "2 failures in a row" in up.get(f"/api/v1/incidents/{opened['id']}")["evidence"]["message"]
        assert opened["status"] == "pending"
        assert program.stdin is not None
        program.stdin.write("\n")
        assert said(program) == ""
        eventually(lambda: incidents()[0]["status"] == "resolved")
        eventually(lambda: up.rows("SELECT count(*) FROM guard_notices") == [(0,)])
        up.stop()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "engine"])
def test_engine_makes_a_call_that_an_application_handed_over(
    kind: str, tmp_path: Path, shop: FaultyServer, request: pytest.FixtureRequest
) -> None:
    """On the engine's own database, or over HTTP with a token: made once, under its own name, by who knows the function."""
    url = str(request.getfixturevalue("fresh_postgres_url")) if kind == "postgresql" else f"sqlite:///{tmp_path}/p.db"
    with running(tmp_path, shop, url, with_plugin(tmp_path, shop)) as up:
        operation = said(application(tmp_path, _HAND_OVER, *address(up, kind)))
        eventually(lambda: up.rows("SELECT id, state, attempts FROM durable_calls") == [(operation, "done", 2)])
        up.stop()
    assert (tmp_path / "shipped.txt").read_text() == "7 express\n"
    assert "HandedOver" not in (tmp_path / "up.log").read_text()


def test_call_survives_an_engine_that_is_down_and_an_application_that_is_killed(
    tmp_path: Path, shop: FaultyServer
) -> None:
    """Handed over to nobody, then `kill -9`: the spool brings it when both are back, and it is made once."""
    config = with_plugin(tmp_path, shop)
    up = start(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", config)
    where = address(up, "engine")
    listen = up.url.removeprefix("http://")
    up.kill()
    up.end()
    program = application(tmp_path, _HAND_OVER, *where, "--linger")
    assert program.stdout is not None
    operation = program.stdout.readline().strip()
    os.kill(program.pid, signal.SIGKILL)
    program.communicate()
    assert operation
    with running(tmp_path, shop, f"sqlite:///{tmp_path / 'p.db'}", config, listen) as up:
        assert said(application(tmp_path, _DELIVER, *where)) == ""
        assert said(application(tmp_path, _DELIVER, *where)) == ""
        eventually(lambda: up.rows("SELECT id, state, attempts FROM durable_calls") == [(operation, "done", 2)])
        up.stop()
    assert (tmp_path / "shipped.txt").read_text() == "7 express\n"


def test_plugin_that_can_not_be_imported_is_named(tmp_path: Path) -> None:
    """The engine does not start without what it was told to bring along."""
    (tmp_path / "prunella.yaml").write_text("service: {plugins: [shop.nowhere], listen: '127.0.0.1:0'}\n")
    done = command(tmp_path, "up")
    assert done.returncode == 2
    assert "service.plugins: shop.nowhere can't be imported (ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr
