"""Acceptance scenarios of procedures, played on running processes; those that take hours are played in virtual time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from databases.shop import Shop, opened
from flows.running import Up, eventually, start
from flows.shops import Store
from prunella.testing import FaultyServer

ORDERS = 400
SHIP = """
from prunella.plugin import Outcome, remedy


@remedy("ship_again", idempotent=True)
async def ship_again(ctx, parcel):
    reply = await ctx.egress.request("carrier", "POST", f"/parcels/{parcel['id']}", json={"parcel": parcel["id"]})
    return Outcome.changed(status="SENT") if reply.status == 200 else Outcome.failed(f"HTTP {reply.status}")
"""
PARCELS = """\
service: {{listen: "${{LISTEN}}", plugins: [shipping]}}
egress: {{allow_http: true, allow_hosts: ["{host}"]}}
services: {{carrier: {{base_url: "{url}/carrier", timeout: 5s}}}}
databases: {{shop: {{url: "${{SHOP_DATABASE_URL}}"}}}}
entities:
  parcel:
    database: shop
    table: parcels
    key: id
    status: status
    since: updated_at
    transitions: {{WAITING: [SENT]}}
    stuck: {{WAITING: {{after: 30m, remedy: ship_again}}}}
    every: 1h
    first_run: wait
"""


# 8: many workers ------------------------------------------------------------------------------------------------------


@contextmanager
def workers(folder: Path, url: str, carrier: FaultyServer, count: int) -> Iterator[list[Up]]:
    """Start several prunellas on one PostgreSQL database, over 400 stuck parcels among 900."""
    (folder / "shipping.py").write_text(SHIP)
    config = PARCELS.format(host=urlsplit(carrier.url).netloc, url=carrier.url)
    with opened(url) as shop, ExitStack() as ended:
        shop.run("CREATE TABLE parcels (id integer PRIMARY KEY, status text, updated_at MOMENT)")
        rows = ", ".join(f"({n}, 'WAITING', {shop.past(3600 if n <= ORDERS else 60)})" for n in range(1, 901))
        shop.run(f"INSERT INTO parcels VALUES {rows}")
        running = [start(folder, carrier, url, config, SHOP_DATABASE_URL=url)]
        ended.callback(running[0].end)
        with ThreadPoolExecutor(count) as pool:  # the first one has made the tables
            more = [pool.submit(start, folder, carrier, url, config, SHOP_DATABASE_URL=url) for _ in range(count - 1)]
            for one in more:
                running.append(one.result())
                ended.callback(running[-1].end)
        yield running


def cycle(worker: Up) -> int:
    """Ask a worker for a cycle and return how it answered."""
    return worker.act("POST", "/api/v1/self-healing/run-cycle?entity=parcel", role="OPERATIONS").status_code


def sent(up: Up) -> int:
    """Return how many parcels have left."""
    with opened(up.environ["SHOP_DATABASE_URL"]) as shop:
        return int(shop.rows("SELECT count(*) FROM parcels WHERE status = 'SENT'")[0][0])


def test_scenario_8_four_workers_make_400_outside_calls(
    tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """8: four workers and 400 stuck parcels: exactly 400 calls, each under a key of its own."""
    with new_database() as url, FaultyServer() as carrier, workers(tmp_path, url, carrier, 4) as running:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(cycle, running * 2))
        assert set(answers) <= {200, 409}
        eventually(lambda: cycle(running[0]) in (200, 409) and sent(running[0]) == ORDERS, within_s=30)
        calls = [one for one in carrier.ledger.requests if one.method == "POST"]
        assert (len(calls), len({one.key for one in calls})) == (ORDERS, ORDERS)
        assert len({one.path for one in calls}) == ORDERS


def test_scenario_8_a_frozen_worker_does_nothing_twice(
    tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """8: a worker is stopped in mid-wave, its leases run out, another goes on, it wakes up: 400 effects, 400 keys."""
    with new_database() as url, FaultyServer() as carrier, workers(tmp_path, url, carrier, 2) as (frozen, other):
        waiting = threading.Thread(target=cycle, args=(frozen,))
        waiting.start()
        carrier.wait_for(lambda: len(carrier.ledger.requests) > 40, 20)
        os.kill(frozen.process.pid, signal.SIGSTOP)
        with opened(url) as shop:  # as if a minute had passed
            for table in ("procedures", "incidents"):
                shop.run(f"UPDATE prunella.{table} SET lease_until = lease_until - interval '10 minutes'")
        before = len(carrier.ledger.requests)
        assert before < ORDERS
        eventually(lambda: cycle(other) == 200 and sent(other) >= ORDERS, within_s=40)
        os.kill(frozen.process.pid, signal.SIGCONT)
        waiting.join(30)
        calls = [one for one in carrier.ledger.requests if one.method == "POST"]
        assert carrier.ledger.effects == ORDERS
        assert len({one.key for one in calls}) == ORDERS
        assert carrier.ledger.key_misuses == 0
        states = other.rows("SELECT state, count(*) FROM runs GROUP BY state ORDER BY state")
        assert dict(states).get("running", 0) == 0


# 14 to 16: what is not to be touched ----------------------------------------------------------------------------------


def test_scenario_14_a_parent_that_comes_late_saves_its_child(healed_shop: Store) -> None:
    """14: a writer that commits child before parent loses no row: children younger than 10 min are never looked at."""
    healed_shop.fill(
        "INSERT INTO livechat_messages (id, conversation_id, body, created_at) VALUES (5001, 5000, 'hi', AGO(1))"
    )
    swept = healed_shop.run("orphan-messages")
    assert "5001" not in json.dumps(swept["plan"])
    healed_shop.fill("INSERT INTO livechat_conversations VALUES (5000)")
    healed_shop.run("orphan-messages")
    assert healed_shop.rows("SELECT body FROM livechat_messages WHERE id = 5001") == [("hi",)]


def test_scenario_15_a_check_that_matches_most_of_a_table_is_held(healed_shop: Store) -> None:
    """15: 60 % of a table matches: held with the share in words, on the incident and to people; nothing is written."""
    healed_shop.fill("DELETE FROM shelves")
    healed_shop.fill(
        "INSERT INTO shelves VALUES " + ", ".join(f"({n}, {0 if n <= 60 else 5}, true)" for n in range(1, 101))
    )
    swept = healed_shop.run("hide-shelves")
    assert (swept["healed"], swept["verdict"]["answer"]) == (0, "wait")
    assert "60% of shelves matches (60 of 100 rows), and share_max is 20%" in swept["verdict"]["reason"]
    held = next(one for one in healed_shop.incidents("hide-shelves") if one["state"] == "open")
    assert held["held_reason"] == swept["verdict"]["reason"]
    assert healed_shop.rows("SELECT count(*) FROM shelves WHERE shown") == [(100,)]
    told = healed_shop.up.get("/api/v1/notifications", role="OPERATIONS", all="true", limit=500)["items"]
    assert [one["type"] for one in told if one["incident_id"] == held["id"]] == ["HELD"]


def test_scenario_16_no_targets_is_nothing_to_do(healed_shop: Store) -> None:
    """16: an empty target set is a no-op with its reason, and leaves no run."""
    healed_shop.fill("DELETE FROM drafts")
    swept = healed_shop.run("drop-drafts")
    assert (swept["found"], swept["plan"], swept["runs"]) == (0, None, [])
    assert swept["verdict"]["reason"] == "there is nothing to do"


# 17 to 19: people -----------------------------------------------------------------------------------------------------


def proposed(store: Store) -> dict[str, Any]:
    """Return the plan that waits for an answer."""
    (approval,) = store.items("approvals", state="waiting", procedure="clear-flags")
    return approval


def test_scenario_17_an_old_yes_does_not_run_a_new_plan(healed_shop: Store) -> None:
    """17: five of twenty targets healed themselves: the old plan can't be approved, the fifteen are shown anew."""
    healed_shop.fill(
        "DELETE FROM flags",
        f"INSERT INTO flags VALUES {', '.join(f'({n}, {chr(39)}stale{chr(39)}, NULL)' for n in range(100, 120))}",
    )
    healed_shop.run("clear-flags")
    old = proposed(healed_shop)
    assert old["plan"]["count"] == 20
    healed_shop.fill("UPDATE flags SET state = 'fine' WHERE id < 105")
    healed_shop.did(f"/api/v1/approvals/{old['id']}/approve", {"digest": old["digest"]})
    eventually(lambda: len(healed_shop.items("approvals", state="waiting", procedure="clear-flags")) == 1)
    new = proposed(healed_shop)
    assert (new["plan"]["count"], new["id"] != old["id"]) == (15, True)
    assert healed_shop.rows("SELECT count(*) FROM flags WHERE state = 'stale'") == [(15,)]
    late = healed_shop.ask("POST", f"/api/v1/approvals/{old['id']}/approve", {"digest": old["digest"]})
    assert (late.status_code, late.json()["superseded_by"]) == (409, new["id"])
    healed_shop.did(f"/api/v1/approvals/{new['id']}/reject", {"reason": "not today"})


@pytest.mark.parametrize("path", ["approvals/1/approve", "runs/1/undo", "procedures/clear-flags/run", "pause"])
def test_scenario_19_a_viewer_can_change_nothing(healed_shop: Store, path: str) -> None:
    """19: a viewer's token, a forged one and none at all are refused with a reason."""
    assert healed_shop.ask("POST", f"/api/v1/{path}", {}, role="VIEWER").status_code == 403
    forged = {"authorization": "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiQURNSU4ifQ."}
    for headers in (forged, {}):
        reply = healed_shop.up.client.post(f"/api/v1/{path}", json={}, headers=headers)
        assert (reply.status_code, reply.headers["content-type"]) == (401, "application/problem+json")


# 20: dry run ----------------------------------------------------------------------------------------------------------


def test_scenario_20_a_dry_run_writes_nothing_and_calls_nobody(healed_shop: Store) -> None:
    """20: a dry run leaves the user's database and the outside as they were; applying it makes that same difference."""
    healed_shop.fill("DELETE FROM flags")
    healed_shop.run("clear-flags")  # what another test left with people is well by now
    healed_shop.fill("INSERT INTO flags VALUES (200, 'stale', 'x'), (201, 'fine', 'y')")
    before, calls = contents(healed_shop.shop), len(healed_shop.n8n.ledger.effects_by_key)
    dry = healed_shop.run("clear-flags", dry=True)
    for name in ("hide-zero-stock", "orphan-messages", "stale-supplier-stock", "stuck-order", "failed-syncs"):
        healed_shop.run(name, dry=True)
    assert contents(healed_shop.shop) == before
    assert len(healed_shop.n8n.ledger.effects_by_key) == calls
    healed_shop.run("clear-flags")
    approval = proposed(healed_shop)
    assert approval["digest"] == dry["plan"]["digest"]
    healed_shop.did(f"/api/v1/approvals/{approval['id']}/approve", {"digest": approval["digest"]})
    eventually(lambda: healed_shop.rows("SELECT state FROM flags WHERE id = 200") == [("clear",)])
    after = dry["plan"]["after"]
    assert healed_shop.rows("SELECT id, state, note FROM flags WHERE id = 200") == [tuple(after[0].values())]


def test_scenario_20_a_role_that_may_only_read_is_enough_for_a_dry_run(
    tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """20: with a read-only role and a closed network the plan is the same; a real run is refused, and says what to do."""
    config = """\
service: {listen: "${LISTEN}"}
databases: {shop: {url: "${SHOP_DATABASE_URL}"}}
procedures:
  hide:
    database: shop
    check: {rows: {table: shelves, where: {stock: 0, shown: true}}}
    remedy: {set: {shown: false}}
    every: 1h
    first_run: wait
"""
    with new_database() as url, opened(url) as shop, FaultyServer() as nobody:
        shop.run("CREATE TABLE shelves (id integer PRIMARY KEY, stock integer, shown boolean)")
        shop.run("INSERT INTO shelves SELECT n, CASE WHEN n < 3 THEN 0 ELSE 5 END, true FROM generate_series(1, 50) n")
        reader = shop.role("reader", "GRANT SELECT ON shelves TO {role}")
        up = start(tmp_path, nobody, f"sqlite:///{tmp_path / 'p.db'}", config, SHOP_DATABASE_URL=reader)
        try:
            dry = up.act("POST", "/api/v1/procedures/hide/run", {"dry_run": True}).json()
            assert (dry["plan"]["count"], dry["plan"]["targets"]) == (2, ["1", "2"])
            real = up.act("POST", "/api/v1/procedures/hide/run", {}).json()
            assert (real["healed"], real["failed"]) == (0, 1)
            assert "prunella db grant --print" in real["runs"][0]["detail"]
            assert shop.rows("SELECT count(*) FROM shelves WHERE shown") == [(50,)]
            assert nobody.ledger.requests == []
        finally:
            up.end()


def contents(shop: Shop) -> dict[str, str]:
    """Return a digest of every table of the user."""
    names = (
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if shop.kind == "postgresql"
        else "SELECT name FROM sqlite_master WHERE type = 'table'"
    )
    tables = sorted(name for (name,) in shop.rows(names))
    return {
        name: hashlib.sha256(repr(sorted(map(repr, shop.rows(f'SELECT * FROM "{name}"')))).encode()).hexdigest()
        for name in tables
    }


# 24, 26, 27: time, windows, the kill switch ---------------------------------------------------------------------------


def test_scenario_24_a_row_from_tomorrow_is_a_finding_and_never_fresh(healed_shop: Store) -> None:
    """24: the newest row that is not in the future decides; one dated tomorrow goes to a person, no workflow starts."""
    healed_shop.fill("INSERT INTO future_feed VALUES (1, AGO(60)), (2, AGO(-86400))")
    healed_shop.run("future-feed")
    (incident,) = healed_shop.incidents("future-feed")
    assert incident["state"] == "escalated"
    assert healed_shop.requests("/webhook/future") == []
    healed_shop.fill("DELETE FROM future_feed", "INSERT INTO future_feed VALUES (1, AGO(100000)), (2, AGO(-86400))")
    healed_shop.run("future-feed")
    assert len(healed_shop.requests("/webhook/future")) == 1


def test_scenario_24_a_column_without_a_zone_is_refused_at_the_start(
    tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """24: a timestamp without a zone does not load until time_zone is declared; then the session's zone decides nothing."""
    config = """\
service: {listen: "${LISTEN}"}
databases: {shop: {url: "${SHOP_DATABASE_URL}"}}
procedures:
  stale:
    database: shop
    check: {freshness: {table: feed, column: synced, older_than: 1h}}
    remedy: manual_intervention
    every: 1h
    first_run: wait
"""
    with new_database() as url, opened(url) as shop, FaultyServer() as nobody:
        shop.run("CREATE TABLE feed (id integer PRIMARY KEY, synced timestamp)")
        shop.run("INSERT INTO feed VALUES (1, (now() - interval '5 minutes') AT TIME ZONE 'Asia/Kolkata')")
        own = f"sqlite:///{tmp_path / 'p.db'}"
        with pytest.raises(AssertionError) as refused:
            start(tmp_path, nobody, own, config, SHOP_DATABASE_URL=url)
        assert "prunella.yaml:6:46" in str(refused.value) or "time_zone" in str(refused.value)
        declared = config.replace('_URL}"}', '_URL}", time_zone: Asia/Kolkata}')
        zoned = make_url(url).update_query_dict({"options": "-c timezone=America/New_York"})
        session = zoned.render_as_string(hide_password=False)
        up = start(tmp_path, nobody, own, declared, SHOP_DATABASE_URL=session)
        try:
            assert up.act("POST", "/api/v1/procedures/stale/run", {}).json()["found"] == 0
        finally:
            up.end()


def test_scenario_26_nothing_is_healed_within_a_window(healed_shop: Store, tmp_path: Path) -> None:
    """26: inside a maintenance window detection goes on, nothing is written, and the window stands in the reason."""
    if healed_shop.shop.kind == "postgresql":
        pytest.skip("the rule asks no database; played once")
    shop_url = f"sqlite:///{tmp_path / 'shop.db'}"
    config = """\
service: {listen: "${LISTEN}"}
databases: {shop: {url: "${SHOP_DATABASE_URL}"}}
windows: [{name: always, cron: "* * * * *", for: 10m, pause: [procedures, notifications]}]
procedures:
  hide:
    database: shop
    check: {rows: {table: shelves, where: {stock: 0, shown: true}}}
    remedy: {set: {shown: false}}
    every: 1h
    first_run: wait
"""
    with opened(shop_url) as shop, FaultyServer() as nobody:
        shop.run("CREATE TABLE shelves (id integer PRIMARY KEY, stock integer, shown boolean)")
        shop.run("INSERT INTO shelves VALUES " + ", ".join(f"({n}, {0 if n < 3 else 5}, true)" for n in range(1, 51)))
        up = start(tmp_path, nobody, f"sqlite:///{tmp_path / 'p.db'}", config, SHOP_DATABASE_URL=shop_url)
        try:
            swept = up.act("POST", "/api/v1/procedures/hide/run", {}).json()
            assert (swept["found"], swept["healed"]) == (1, 0)
            assert "always" in swept["verdict"]["reason"]
            assert swept["verdict"]["until"] is not None
            (incident,) = up.get("/api/v1/incidents", role="OPERATIONS")["items"]
            assert incident["held_reason"] == swept["verdict"]["reason"]
            assert shop.rows("SELECT count(*) FROM shelves WHERE shown") == [(50,)]
        finally:
            up.end()


def test_scenario_27_the_kill_switch_stops_every_new_step(healed_shop: Store) -> None:
    """27: with the switch thrown detection goes on and nothing is written; resumed, it heals by itself."""
    healed_shop.fill("DELETE FROM orders")
    healed_shop.order(270, "CONFIRMED", 90)
    healed_shop.did("/api/v1/pause", {"reason": "we look into it"})
    try:
        assert healed_shop.cycle() == {"healed": 0, "failed": 0}
        held = next(one for one in healed_shop.incidents("stuck-order") if one["resource"] == "270")
        assert "we look into it" in held["held_reason"]
        assert healed_shop.up.get("/api/v1/self-healing/stuck-orders", role="OPERATIONS")["count"] == 1
    finally:
        healed_shop.did("/api/v1/resume", {})
    eventually(lambda: healed_shop.up.get("/api/v1/self-healing/stuck-orders", role="OPERATIONS")["count"] == 0)
    actors = {one["action"] for one in healed_shop.items("audit", target="everything")}
    assert {"pause", "resume"} <= actors
