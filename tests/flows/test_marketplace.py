"""Procedures beside a running `prunella up`: document D's routes, plans and their answers, and the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from databases.shop import Shop
from flows.marketplace import marketplace
from flows.running import Up, eventually

pytestmark = pytest.mark.slow
Market = tuple[Up, Shop]
D = "/api/v1/self-healing"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def market(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[Market]:
    """A shop and a prunella, both on one kind of database."""
    folder = tmp_path_factory.mktemp(f"market-{request.param}")
    if request.param == "sqlite":
        with marketplace(folder, f"sqlite:///{folder / 'prunella.db'}", f"sqlite:///{folder / 'shop.db'}") as started:
            yield started
        return
    with new_database() as url, marketplace(folder, url, url) as started:
        yield started


def order(shop: Shop, number: int, status: str = "PENDING", minutes: float = 45, vendor: int = 1) -> None:
    """Put an order into the shop that has been in its status for so many minutes."""
    shop.run(f"INSERT INTO orders VALUES ({number}, '{status}', {vendor}, {shop.past(minutes * 60)})")


def status(shop: Shop, number: int) -> str:
    """Return the status of an order."""
    return str(shop.rows(f"SELECT status FROM orders WHERE id = {number}")[0][0])


def test_stuck_order_is_seen_healed_and_counted(market: Market) -> None:
    """Given a stuck order, it is listed, healed by the user's own step, verified, counted, and not stuck any more."""
    up, shop = market
    order(shop, 1)
    (listed,) = [one for one in up.get(f"{D}/stuck-orders", "OPERATIONS")["stuckOrders"] if one["order_id"] == 1]
    assert (listed["issue_type"], listed["recommended_action"]) == ("STUCK_PENDING", "REASSIGN_VENDOR")
    answer = up.act("POST", f"{D}/heal/1", {}, "OPERATIONS").json()
    assert (answer["success"], answer["status"], answer["new_status"]) == (True, "SUCCESS", "CONFIRMED")
    assert up.act("POST", f"{D}/heal/1", {}).status_code == 409
    assert up.act("POST", f"{D}/heal/777", {}).status_code == 404
    assert up.act("POST", f"{D}/heal/1", {"recoveryAction": "PRAY"}).status_code == 422
    rows = up.get(f"{D}/statistics", days=7)["statistics"]
    assert ("STUCK_PENDING", "SUCCESS") in [(one["issue_type"], one["recovery_status"]) for one in rows]
    assert "STUCK_PENDING" in up.cli("statistics")


def test_cycle_heals_what_it_can_and_hands_over_once(market: Market) -> None:
    """Given one order that can be healed and one that can't, three cycles heal one and call a person once."""
    up, shop = market
    order(shop, 2)
    order(shop, 3, vendor=13)
    first = up.act("POST", f"{D}/run-cycle").json()
    assert (first["success"], first["result"]) == (True, {"healed": 1, "failed": 1})
    for _ in range(3):
        up.act("POST", f"{D}/run-cycle")
    assert (status(shop, 2), status(shop, 3)) == ("CONFIRMED", "PENDING")
    told = [one for one in up.get(f"{D}/notifications", "OPERATIONS")["notifications"] if one["order_id"] == 3]
    assert [one["type"] for one in told] == ["MANUAL_INTERVENTION_REQUIRED"]
    assert told[0]["notification_id"] in up.cli("notifications")
    assert "acknowledged" in up.cli("ack", told[0]["notification_id"])
    assert up.act("POST", f"{D}/notifications/{told[0]['notification_id']}/acknowledge").status_code == 409
    assert "was acknowledged by" in up.cli("ack", told[0]["notification_id"], check=False)


def test_plan_is_shown_approved_carried_out_and_undone(market: Market) -> None:
    """Given a procedure at level L2, the command line shows its plan, answers it, and puts it back again."""
    up, shop = market
    dry = json.loads(up.cli("run", "hide-zero-stock", "--dry-run", "--json"))
    assert (dry["plan"]["count"], dry["runs"]) == (2, [])
    shown = up.cli("run", "hide-zero-stock", "--dry-run")
    assert "visible=1" in shown
    assert "UPDATE" in shown
    assert "hide-zero-stock: 1 found" in up.cli("run", "hide-zero-stock")
    (waiting,) = json.loads(up.cli("approvals", "--json"))["items"]
    assert waiting["id"] in up.cli("approvals")
    assert "nobody can be asked here" in up.cli("approve", waiting["id"], check=False)
    assert "(409)" in up.cli("approve", waiting["id"], "--digest", "0" * 32, check=False)
    assert shop.rows("SELECT count(*) FROM products WHERE visible = 0")[0][0] == 0
    assert "approved" in up.cli("approve", waiting["id"], "--digest", waiting["digest"])
    eventually(lambda: shop.rows("SELECT count(*) FROM products WHERE visible = 0")[0][0] == 2)
    eventually(lambda: up.get("/api/v1/runs", "OPERATIONS", procedure="hide-zero-stock")["items"] != [])
    (run,) = up.get("/api/v1/runs", "OPERATIONS", procedure="hide-zero-stock")["items"]
    eventually(lambda: up.get(f"/api/v1/runs/{run['id']}", "OPERATIONS")["state"] == "verified")
    assert "2 rows put back, 0 refused" in up.cli("undo", run["id"])
    assert shop.rows("SELECT count(*) FROM products WHERE visible = 0")[0][0] == 0
    assert "undone before" in up.cli("undo", run["id"], check=False)


def test_pauses_are_seen_and_ended_from_the_command_line(market: Market) -> None:
    """Given the kill switch or a paused procedure, nothing of it runs until it is resumed."""
    up, shop = market
    order(shop, 4)
    assert "paused by cli" in up.cli("pause", "--reason", "migration")
    assert re.search("paused by cli:[^ ]+: migration", up.act("POST", f"{D}/heal/4", {}).json()["detail"])
    assert "goes on" in up.cli("resume")
    assert "(409)" in up.cli("resume", check=False)
    assert "paused" in up.cli("pause", "--procedure", "stuck-order")
    assert "paused by cli" in up.cli("procedures")
    assert "(409)" in up.cli("run", "stuck-order", check=False)
    assert "goes on" in up.cli("resume", "--procedure", "stuck-order")
    assert "paused" in up.cli("pause", "--service", "s1")
    assert "closed" in up.cli("resume", "--service", "s1")
    assert "not both" in up.cli("pause", "--service", "s1", "--procedure", "stuck-order", check=False)
    eventually(lambda: status(shop, 4) == "CONFIRMED")
    order(shop, 5, "CONFIRMED", 90)
    assert "CONFIRMED" in up.cli("entities", "order")
    assert "there is no entity 'ship'" in up.cli("entities", "ship", check=False)


def test_plans_are_read_on_a_page(market: Market) -> None:
    """Given a waiting plan, its page shows targets, sample, SQL and digest, and the command that answers it."""
    up, shop = market
    shop.run("UPDATE products SET stock = 0 WHERE id = 3")
    for one in up.get("/api/v1/incidents", procedure="hide-zero-stock", state="open_any")["items"]:
        up.act("POST", f"/api/v1/incidents/{one['id']}/retry")  # what was undone is a person's until they say so
    up.cli("run", "hide-zero-stock", check=False)  # the retry may run it at the same moment
    eventually(lambda: json.loads(up.cli("approvals", "--json"))["items"] != [])
    (waiting,) = json.loads(up.cli("approvals", "--json"))["items"]
    link = up.cli("token", "--role", "OPERATIONS", "--link").strip()
    opened = up.client.post("/login", data={"token": link.partition("token=")[2]})
    cookie = {"cookie": opened.headers["set-cookie"].split(";")[0]}
    assert waiting["id"] in up.client.get("/approvals", headers=cookie).text
    page = up.client.get(f"/approvals/{waiting['id']}", headers=cookie)
    for words in (waiting["digest"], f"prunella approve {waiting['id']}", "UPDATE", "visible", "hide-zero-stock"):
        assert words in page.text
    up.client.cookies.clear()
    assert up.client.get("/approvals").status_code == 401
    assert "rejected" in up.cli("reject", waiting["id"], "--reason", "keep them")
    assert up.act("POST", f"/api/v1/approvals/{waiting['id']}/reject", {}).status_code == 409


def test_doctor_names_what_is_wrong_and_grants_are_printed(market: Market) -> None:
    """Given checks without their indexes, doctor prints the CREATE INDEX with status 1; the role's SQL is printed."""
    up, shop = market
    said = up.cli("doctor", check=False)
    assert "CREATE INDEX" in said
    assert "to put right" in said
    statements = up.cli("db", "grant", "--print", "--role", "healer")
    assert ("CREATE ROLE" in statements.upper()) is (shop.kind == "postgresql")
    assert "write --print" in up.cli("db", "grant", check=False)
    assert "no database 'attic'" in up.cli("db", "grant", "--print", "--database", "attic", check=False)
