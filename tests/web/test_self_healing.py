"""Document D's routes answer as it says, on SQLite and PostgreSQL, with every refusal by its status."""

from __future__ import annotations

import asyncio

import pytest

from prunella.web.auth import Role
from web.market import Market

pytestmark = pytest.mark.anyio
AT = "/api/v1/self-healing"


async def test_stuck_orders_are_listed_as_document_d_says(mart: Market) -> None:
    """Strictly older than the threshold, whole minutes rounded down, number keys, actions in capitals, oldest first."""
    mart.order(123)
    mart.order(7, "CONFIRMED", 61.9)
    mart.order(8, minutes=29)
    mart.order(9, "CANCELLED", 500)
    assert await mart.get(f"{AT}/stuck-orders") == {
        "success": True,
        "count": 2,
        "stuckOrders": [
            {
                "order_id": 7,
                "issue_type": "STUCK_CONFIRMED",
                "stuck_minutes": 61,
                "recommended_action": "RETRY_WORKFLOW",
            },
            {
                "order_id": 123,
                "issue_type": "STUCK_PENDING",
                "stuck_minutes": 45,
                "recommended_action": "REASSIGN_VENDOR",
            },
        ],
    }


async def test_unknown_entity_is_404(mart: Market) -> None:
    """A name that is not configured is refused, and the known ones are named."""
    for method, path in (("GET", "stuck-orders"), ("POST", "run-cycle"), ("POST", "heal/1")):
        reply = await mart.ask(method, f"{AT}/{path}?entity=ship")
        assert (reply.status_code, "known: order" in reply.json()["detail"]) == (404, True)


async def test_heal_answers_with_what_came_of_it(mart: Market) -> None:
    """A stuck order is moved on: the id of its attempt, the action, SUCCESS or waiting for proof, the new status."""
    mart.order(123)
    wish = {"issueType": "STUCK_PENDING", "recoveryAction": "REASSIGN_VENDOR"}
    answer = await mart.post(f"{AT}/heal/123", wish)
    run = await mart.get(f"/api/v1/runs/{answer['healing_id']}")
    assert (run["resource"], run["remedy"], run["state"]) == ("123", "reassign_vendor", "verified")
    assert answer == {
        "success": True,
        "healing_id": run["id"],
        "order_id": 123,
        "issue_type": "STUCK_PENDING",
        "recovery_action": "REASSIGN_VENDOR",
        "status": "SUCCESS",
        "new_status": "CONFIRMED",
        "message": "reassign_vendor: now CONFIRMED",
    }
    assert mart.status(123) == "CONFIRMED"


async def test_heal_without_a_body_does_what_the_rule_says(mart: Market) -> None:
    """No issue and no action: the recommended one."""
    mart.order(5, "CONFIRMED", 90)
    answer = await mart.post(f"{AT}/heal/5")
    assert (answer["recovery_action"], answer["new_status"]) == ("RETRY_WORKFLOW", "ACCEPTED")


async def test_another_action_than_the_recommended_one_may_be_asked_for(mart: Market) -> None:
    """A person's choice counts."""
    mart.order(5)
    answer = await mart.post(f"{AT}/heal/5", {"recoveryAction": "CANCEL_ORDER"})
    assert (answer["recovery_action"], mart.status(5)) == ("CANCEL_ORDER", "CANCELLED")


@pytest.mark.parametrize(
    "body",
    [
        {"recoveryAction": "PRAY"},
        {"recoveryAction": "reassign_vendor"},
        {"issueType": "STUCK_DELIVERED"},
        {"issueType": ""},
        {"issueType": 7},
        {"issue_type": "STUCK_PENDING"},
    ],
)
async def test_unknown_issue_or_action_is_422(mart: Market, body: dict[str, object]) -> None:
    """What nobody knows is refused before anything is done."""
    mart.order(5)
    await mart.post(f"{AT}/heal/5", body, 422)
    assert mart.status(5) == "PENDING"
    assert (await mart.get("/api/v1/runs"))["items"] == []


@pytest.mark.parametrize("key", ["6", "0", "99999999999999999999", "abc", "5;--", "%00", "5/6", "\\xZZ", "5.0", "٥"])
async def test_unknown_order_is_404(mart: Market, key: str) -> None:
    """A key that no row has, whatever it looks like."""
    mart.order(5)
    await mart.post(f"{AT}/heal/{key}", {}, 404)


async def test_order_that_is_not_stuck_is_409(mart: Market) -> None:
    """Fresh, done for good, or stuck in another way than said: refused with its status."""
    mart.order(1, minutes=2)
    mart.order(2, "CANCELLED", 900)
    mart.order(3)
    assert "its status is PENDING" in (await mart.post(f"{AT}/heal/1", {}, 409))["detail"]
    assert "its status is CANCELLED" in (await mart.post(f"{AT}/heal/2", {}, 409))["detail"]
    refused = await mart.post(f"{AT}/heal/3", {"issueType": "STUCK_CONFIRMED"}, 409)
    assert "is STUCK_PENDING, not STUCK_CONFIRMED" in refused["detail"]


async def test_order_that_is_being_healed_is_409_and_not_listed(mart: Market) -> None:
    """While one heals it, a second wish is refused, the list leaves it out, and a second cycle does not begin."""
    mart.order(5)
    mart.order(6)
    slow = mart.remedies["reassign_vendor"]
    slow.go_on.clear()
    first = asyncio.create_task(mart.post(f"{AT}/heal/5"))
    await slow.reached.wait()
    assert "being healed" in (await mart.post(f"{AT}/heal/5", {}, 409))["detail"]
    listed = await mart.get(f"{AT}/stuck-orders")
    assert [one["order_id"] for one in listed["stuckOrders"]] == [6]
    slow.go_on.set()
    assert (await first)["status"] == "SUCCESS"


async def test_failure_is_told_as_one(mart: Market) -> None:
    """A remedy that fails: not a success, FAILED, the row as it was, and why."""
    mart.order(5)
    mart.remedies["reassign_vendor"].fails = True
    answer = await mart.post(f"{AT}/heal/5")
    assert (answer["success"], answer["status"], answer["new_status"]) == (False, "FAILED", "PENDING")
    assert "no vendor left" in answer["message"]


async def test_third_failure_tries_the_remedy_that_comes_last(mart: Market) -> None:
    """Two failures, and the third gives up by cancelling; nobody is called, for that worked."""
    mart.order(5)
    mart.remedies["reassign_vendor"].fails = True
    for _ in range(2):
        assert (await mart.post(f"{AT}/heal/5"))["status"] == "FAILED"
    last = await mart.post(f"{AT}/heal/5")
    assert (last["recovery_action"], last["status"], last["new_status"]) == ("CANCEL_ORDER", "SUCCESS", "CANCELLED")
    assert (await mart.get(f"{AT}/notifications"))["count"] == 0


async def test_manual_intervention_hands_over_once(mart: Market) -> None:
    """A person asks for a person: MANUAL, one notice, and a second time it is theirs already."""
    mart.order(5)
    answer = await mart.post(f"{AT}/heal/5", {"recoveryAction": "MANUAL_INTERVENTION"})
    assert (answer["success"], answer["status"], answer["new_status"]) == (True, "MANUAL", "PENDING")
    assert answer["healing_id"] is not None
    assert (
        "person's already"
        in (await mart.post(f"{AT}/heal/5", {"recoveryAction": "MANUAL_INTERVENTION"}, 409))["detail"]
    )
    (told,) = (await mart.get(f"{AT}/notifications"))["notifications"]
    assert (told["type"], told["severity"], told["order_id"]) == ("MANUAL_INTERVENTION_REQUIRED", "HIGH", 5)


async def test_cycle_tells_healed_and_failed(mart: Market) -> None:
    """Every stuck order is taken; what failed is counted apart."""
    mart.order(1)
    mart.order(2)
    mart.order(3, "CONFIRMED", 90)
    mart.remedies["retry_workflow"].fails = True
    assert await mart.post(f"{AT}/run-cycle") == {"success": True, "result": {"healed": 2, "failed": 1}}


async def test_second_cycle_at_once_is_409(mart: Market) -> None:
    """One cycle runs at a time."""
    mart.order(5)
    slow = mart.remedies["reassign_vendor"]
    slow.go_on.clear()
    first = asyncio.create_task(mart.post(f"{AT}/run-cycle"))
    await slow.reached.wait()
    await mart.post(f"{AT}/run-cycle", None, 409)
    slow.go_on.set()
    assert (await first)["result"] == {"healed": 1, "failed": 0}


async def test_statistics_count_by_issue_and_action(mart: Market) -> None:
    """One row per issue and action with document D's names; a person who may only look sees them."""
    mart.order(5)
    await mart.post(f"{AT}/heal/5")
    told = await mart.get(f"{AT}/statistics?days=7", role=Role.VIEWER)
    (row,) = told["statistics"]
    assert (told["success"], told["days"]) == (True, 7)
    took = row.pop("avg_recovery_time_minutes")
    assert 0 <= took < 1
    assert row == {
        "issue_type": "STUCK_PENDING",
        "recovery_action": "REASSIGN_VENDOR",
        "recovery_status": "SUCCESS",
        "total_cases": 1,
        "successful_recoveries": 1,
        "failed_recoveries": 0,
    }
    assert (await mart.get(f"{AT}/statistics"))["days"] == 7


@pytest.mark.parametrize("days", ["0", "366", "-1", "many", "1.5", ""])
async def test_days_beyond_a_year_are_422(mart: Market, days: str) -> None:
    """1 to 365 days."""
    assert (await mart.ask("GET", f"{AT}/statistics?days={days}")).status_code == 422


async def test_notification_is_shown_until_acknowledged(mart: Market) -> None:
    """Without any channel a hand-over is on the dashboard; acknowledged, it is gone from what is pending, once."""
    mart.order(5)
    for name in ("reassign_vendor", "cancel_order"):
        mart.remedies[name].fails = True
    for _ in range(3):
        await mart.post(f"{AT}/heal/5")
    listed = await mart.get(f"{AT}/notifications")
    assert (listed["success"], listed["count"]) == (True, 1)
    (told,) = listed["notifications"]
    assert set(told) >= {
        "notification_id", "type", "severity", "title", "message", "order_id", "healing_id", "delivery", "created_at",
        "acknowledged_at",
    }  # fmt: skip
    assert (told["type"], told["severity"], told["order_id"]) == ("HEALING_FAILED", "HIGH", 5)
    assert (told["delivery"], told["acknowledged_at"]) == ({"dashboard": "sent"}, None)
    assert (await mart.get(f"/api/v1/runs/{told['healing_id']}"))["remedy"] == "cancel_order"
    path = f"{AT}/notifications/{told['notification_id']}/acknowledge"
    assert (await mart.post(path))["acknowledged_at"] is not None
    assert "was acknowledged by cli" in (await mart.post(path, None, 409))["detail"]
    assert (await mart.get(f"{AT}/notifications"))["count"] == 0
    (again,) = (await mart.get(f"{AT}/notifications?all=true"))["notifications"]
    assert again["acknowledged_at"] is not None
    await mart.post(f"{AT}/notifications/nobody/acknowledge", None, 404)


async def test_held_back_by_a_rule_is_409_with_its_reason(mart: Market) -> None:
    """While everything is paused a wish is refused, with who paused it."""
    mart.order(5)
    await mart.post("/api/v1/pause", {"reason": "migration"})
    assert "paused by cli: migration" in (await mart.post(f"{AT}/heal/5", {}, 409))["detail"]
    assert mart.status(5) == "PENDING"


async def test_database_that_is_away_is_503_and_one_that_refuses_502(mart: Market) -> None:
    """Neither is a fault of prunella's own."""
    mart.shop.run("DROP TABLE orders")
    assert (await mart.ask("GET", f"{AT}/stuck-orders")).status_code == 502
    assert (await mart.ask("POST", f"{AT}/heal/5")).status_code == 502
