"""Procedures, plans, runs and switches over HTTP: what is shown, what may be done, and each refusal by its status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prunella.core.states import IncidentState
from prunella.runner.local import LocalRunner
from prunella.web.auth import Role
from web.market import HIDE, ORDERS, Market

pytestmark = pytest.mark.anyio


async def proposed(mart: Market) -> dict[str, Any]:
    """Let the plan for the products out of stock be proposed; return its approval."""
    await mart.post(f"/api/v1/procedures/{HIDE}/run")
    (approval,) = (await mart.get("/api/v1/approvals?state=waiting"))["items"]
    return dict(approval)


def hidden(mart: Market) -> list[int]:
    """Return the products that nobody sees."""
    return [row[0] for row in mart.shop.rows("SELECT id FROM products WHERE visible = 0 ORDER BY id")]


async def test_procedures_are_listed_with_what_their_schedule_remembers(mart: Market) -> None:
    """Name, id, check, remedy, level and schedule; after a run its figures; no rows, whoever looks."""
    mart.order(5)
    before = {one["name"]: one for one in (await mart.get("/api/v1/procedures", role=Role.VIEWER))["items"]}
    assert before[HIDE] == {
        "name": HIDE,
        "id": "HEAL_DATA_002",
        "database": "shop",
        "check": "rows",
        "remedy": "set",
        "level": "L2",
        "schedule": {"every_s": None, "cron": "0 * * * *"},
        "last_run": None,
        "next_run": None,
        "paused_by": None,
        "runs": 0,
        "failures": 0,
        "last_result": None,
    }
    assert before[ORDERS]["check"] == "stuck"
    assert before[ORDERS]["remedy"] == "cancel_order, reassign_vendor, retry_workflow"
    await mart.post(f"/api/v1/procedures/{ORDERS}/run")
    after = {one["name"]: one for one in (await mart.get("/api/v1/procedures"))["items"]}[ORDERS]
    assert (after["runs"], after["failures"], after["last_result"]["healed"]) == (1, 0, 1)
    assert after["last_run"] < after["next_run"]


async def test_dry_run_shows_the_plan_and_writes_nothing(mart: Market) -> None:
    """Targets, count, share, sample before and after, SQL, verdict; the rows and the store stay as they are."""
    told = await mart.post(f"/api/v1/procedures/{HIDE}/run", {"dry_run": True})
    plan = told["plan"]
    assert (told["dry_run"], told["found"], told["verdict"]["answer"]) == (True, 1, "propose")
    assert (plan["targets"], plan["count"], plan["share_at_most"] <= 0.2) == (["1", "2"], 2, True)
    assert [row["visible"] for row in plan["before"] + plan["after"]] == [1, 1, 0, 0]
    assert "UPDATE" in plan["sql"].upper()
    assert hidden(mart) == []
    assert (await mart.get("/api/v1/incidents"))["items"] == []
    assert (await mart.get("/api/v1/approvals"))["items"] == []


async def test_approved_plan_is_carried_out_and_undone(mart: Market) -> None:
    """Waiting, approved with its digest, run, both rows hidden; its run is undone, and not a second time."""
    approval = await proposed(mart)
    assert hidden(mart) == []
    path = f"/api/v1/approvals/{approval['id']}"
    assert (await mart.get(path))["plan"]["count"] == 2
    answered = await mart.post(f"{path}/approve", {"digest": approval["digest"]})
    assert (answered["state"], answered["decided_by"]) == ("approved", "cli")
    ran = await mart.post(f"/api/v1/procedures/{HIDE}/run")
    assert hidden(mart) == [1, 2]
    (run,) = ran["runs"]
    assert await mart.post(f"/api/v1/runs/{run['id']}/undo") == {"run": run["id"], "restored": 2, "refused": {}}
    assert hidden(mart) == []
    assert (await mart.get(f"/api/v1/runs/{run['id']}"))["state"] == "undone"
    await mart.post(f"/api/v1/runs/{run['id']}/undo", None, 409)


async def test_answers_that_make_no_sense_are_refused(mart: Market) -> None:
    """Unknown 404; no digest 422; another digest, or answered before, 409 with what stands."""
    approval = await proposed(mart)
    path = f"/api/v1/approvals/{approval['id']}"
    for act, body in (("approve", {"digest": "d"}), ("reject", {"reason": "r"})):
        await mart.post(f"/api/v1/approvals/nobody/{act}", body, 404)
    assert (await mart.ask("GET", "/api/v1/approvals/nobody")).status_code == 404
    for wrong in ({}, {"digest": ""}, {"digest": 7}, {"digest": "d", "more": 1}):
        await mart.post(f"{path}/approve", wrong, 422)
    await mart.post(f"{path}/reject", {"reason": 7}, 422)
    refused = await mart.post(f"{path}/approve", {"digest": "0" * 32}, 409)
    assert (refused["digest"], refused["superseded_by"]) == (approval["digest"], None)
    assert (await mart.post(f"{path}/reject", {"reason": "not today"}))["state"] == "rejected"
    again = await mart.post(f"{path}/approve", {"digest": approval["digest"]}, 409)
    assert again["state"] == "rejected"
    assert (await mart.ask("GET", "/api/v1/approvals?state=pondering")).status_code == 422
    await mart.post(f"/api/v1/procedures/{HIDE}/run")
    assert hidden(mart) == []


async def test_superseded_plan_names_its_successor(mart: Market) -> None:
    """The world changed: the old plan is refused with the id of the one that stands."""
    old = await proposed(mart)
    mart.shop.run("UPDATE products SET stock = 0 WHERE id = 3")
    fresh = await proposed(mart)
    refused = await mart.post(f"/api/v1/approvals/{old['id']}/approve", {"digest": old["digest"]}, 409)
    assert (refused["state"], refused["superseded_by"]) == ("superseded", fresh["id"])


async def test_unknown_procedure_and_run_are_404(mart: Market) -> None:
    """Whatever is done to them."""
    for path in ("procedures/nothing/run", "procedures/nothing/pause", "procedures/nothing/resume", "runs/nobody/undo"):
        await mart.post(f"/api/v1/{path}", None, 404)
    assert (await mart.ask("GET", "/api/v1/runs/nobody")).status_code == 404
    assert (await mart.ask("GET", "/api/v1/entities/ship/stuck")).status_code == 404
    for wrong in ({"dry_run": "perhaps"}, {"dryrun": True}):
        await mart.post(f"/api/v1/procedures/{HIDE}/run", wrong, 422)
    await mart.post(f"/api/v1/procedures/{HIDE}/dance", None, 422)


async def test_paused_procedure_does_not_run_until_resumed(mart: Market) -> None:
    """Paused by name: run is refused, resume ends it, and a second resume is refused."""
    path = f"/api/v1/procedures/{HIDE}"
    assert (await mart.post(f"{path}/pause", {"reason": "sale"}))["paused_by"] == "cli"
    await mart.post(f"{path}/run", None, 409)
    assert (await mart.post(f"{path}/resume"))["paused_by"] is None
    await mart.post(f"{path}/resume", None, 409)
    assert (await mart.post(f"{path}/run"))["found"] == 1


async def test_switch_stops_everything_and_says_who_threw_it(mart: Market) -> None:
    """Everything is held with its reason; the first who threw it stays named; resume ends it, once."""
    mart.order(5)
    assert await mart.get("/api/v1/pause") == {"paused": False, "by": None, "reason": None, "since": None}
    await mart.post("/api/v1/pause", {"reason": "migration"})
    thrown = await mart.post("/api/v1/pause", {"reason": "again"})
    assert (thrown["paused"], thrown["by"], thrown["reason"]) == (True, "cli", "migration")
    ran = await mart.post(f"/api/v1/procedures/{ORDERS}/run")
    assert (ran["healed"], ran["verdict"]["answer"]) == (0, "wait")
    assert mart.status(5) == "PENDING"
    assert (await mart.post("/api/v1/resume"))["paused"] is False
    await mart.post("/api/v1/resume", None, 409)


async def test_incident_of_a_procedure_is_shown_and_retried(mart: Market) -> None:
    """Procedure, resource and regressions are told; a retry forgets the attempts and has its procedure run."""
    mart.order(5)
    for name in ("reassign_vendor", "cancel_order"):
        mart.remedies[name].fails = True
    for _ in range(3):
        await mart.post("/api/v1/self-healing/heal/5")
    (incident,) = (await mart.get(f"/api/v1/incidents?procedure={ORDERS}"))["items"]
    assert (incident["procedure"], incident["resource"], incident["regressions"]) == (ORDERS, "5", 0)
    assert (incident["state"], incident["attempts"]) == ("escalated", 3)
    again = await mart.post(f"/api/v1/incidents/{incident['id']}/retry")
    assert (again["state"], again["attempts"], again["held_reason"]) == ("open", 0, None)
    assert isinstance(mart.app.runner, LocalRunner)
    assert ("procedure", (ORDERS,)) in [(one.handler, one.ids) for one in mart.app.runner.in_memory()]
    async with mart.app.store.transaction() as tx:
        stored = await tx.incidents.get(incident["id"])
        assert stored is not None
        assert "gave_up" not in stored.memory
    mart.remedies["reassign_vendor"].fails = False
    await mart.post(f"/api/v1/procedures/{ORDERS}/run")
    assert mart.status(5) == "CONFIRMED"


async def test_retry_of_what_is_no_longer_configured_is_409(mart: Market) -> None:
    """Nobody could carry it out."""
    await mart.post(f"/api/v1/procedures/{HIDE}/run")
    (incident,) = (await mart.get("/api/v1/incidents"))["items"]
    async with mart.app.store.transaction() as tx:
        stored = await tx.incidents.take(incident["id"])
        await tx.incidents.save(replace(stored, procedure="long-gone", state=IncidentState.ESCALATED))
    refused = await mart.post(f"/api/v1/incidents/{incident['id']}/retry", None, 409)
    assert "no longer in prunella.yaml" in refused["detail"]


async def test_stuck_entities_notices_and_audit_are_listed(mart: Market) -> None:
    """What is stuck by its own names; what was told; who did what, by target and by incident."""
    mart.order(5)
    (one,) = (await mart.get("/api/v1/entities/order/stuck"))["items"]
    assert (one["key"], one["issue"], one["status"], one["stuck_minutes"]) == (5, "STUCK_PENDING", "PENDING", 45)
    await proposed(mart)
    (told,) = (await mart.get("/api/v1/notifications"))["items"]
    assert (told["type"], told["delivery"]) == ("APPROVAL_REQUIRED", {"dashboard": "sent"})
    assert (await mart.get("/api/v1/self-healing/notifications"))["count"] == 0
    entries = (await mart.get(f"/api/v1/audit?target={HIDE}"))["items"]
    assert {"approval.proposed", "procedure.finished"} <= {entry["action"] for entry in entries}
    (incident,) = (await mart.get("/api/v1/incidents"))["items"]
    mine = (await mart.get(f"/api/v1/audit?incident={incident['id']}&limit=500"))["items"]
    assert {entry["incident_id"] for entry in mine} == {incident["id"]}
