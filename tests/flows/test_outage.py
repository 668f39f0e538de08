"""PostgreSQL crashes and stays away for a while: nothing accepted is lost, and work goes on by itself.

`PRUNELLA_OUTAGE_S` says for how long; `make outage` takes a minute.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from chaos.postgres import Postgres, postgres

from flows.running import INGEST, Up, configuration, event, eventually, problem, running
from prunella.testing import FaultyServer, delayed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OUTAGE_S = float(os.environ.get("PRUNELLA_OUTAGE_S", "3"))
BACK_WITHIN_S = 10.0
HONOURING = "timeout: 2s\n    honours_idempotency_key: true"
"""Or a call whose outcome could not be written down for a minute would be left to a person, rightly."""
ASYNC = {"prefer": "respond-async"}


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test alone."""
    with postgres() as started:
        yield started


def accept(up: Up, service: str, number: int) -> bool:
    """Report an event; a refusal is a 503 that says when to come back, and holds no address."""
    try:
        reply = up.post(event(service, number), **ASYNC)
    except httpx2.TransportError as error:
        raise AssertionError("the API has to answer while its database is away") from error
    if reply.status_code == 202:
        return True
    assert reply.status_code == 503, reply.text
    assert int(reply.headers["retry-after"]) > 0
    assert "host=" not in problem(reply)["detail"]
    return False


@pytest.mark.parametrize("how", ["crash", "restart"] if OUTAGE_S > 3 else ["crash"])
def test_outage_loses_nothing_and_ends_by_itself(how: str, tmp_path: Path, server: Postgres) -> None:
    """Events accepted before, during and after are all healed once; the last within 10 s of the database's return."""
    with (
        FaultyServer() as shop,
        running(tmp_path, shop, server.uri(), configuration(shop).replace("timeout: 2s", HONOURING)) as up,
    ):
        for number in range(6):
            shop.script(f"/s{number}", [delayed(0.5, "ok")] * 9)
        accepted = [number for number in range(12) if accept(up, f"s{number % 6}", number)]
        assert len(accepted) == 12
        server.kill() if how == "crash" else server.stop()
        away = time.monotonic()
        refused = 0
        numbers = iter(range(100, 100_000))
        while time.monotonic() - away < OUTAGE_S:
            number = next(numbers)
            refused += not accept(up, f"s{number % 6}", number)
            ready = up.client.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["database"] != "ok") == (503, True)
            page = up.client.get("/", headers={"accept": "text/html", **up.as_role("VIEWER")})
            assert (page.status_code, "does not answer" in page.text) == (503, True)
            threading.Event().wait(0.1)
        assert refused > 0
        server.start()
        back = time.monotonic()
        while not accept(up, "s7", number := next(numbers)):
            threading.Event().wait(0.1)
        eventually(lambda: up.client.get("/readyz").status_code == 200, BACK_WITHIN_S)
        open_ = "SELECT count(*) FROM incidents WHERE state NOT IN ('resolved', 'escalated')"
        eventually(lambda: up.rows(open_) == [(0,)], BACK_WITHIN_S + 15)
        took_s = time.monotonic() - back
        print(f"{how}: {refused} refused in {OUTAGE_S:.0f} s, all healed {took_s:.1f} s after the database was back")
        ids = {one[0] for one in up.rows("SELECT event_id FROM signals")}
        assert {f"s{number % 6}-{number}" for number in accepted} | {f"s7-{number}"} <= ids
        assert up.rows("SELECT count(*) FROM operations WHERE state <> 'done'") == [(0,)]
        assert shop.ledger.double_effects == 0
        assert took_s < BACK_WITHIN_S, took_s
        log = (up.folder / "up.log").read_text()
        assert "answers again" in log
        assert server.uri().partition("host=")[2] not in log
        assert INGEST not in log
