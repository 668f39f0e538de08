"""The documents' names show the same facts as our tables, on both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunella.core.records import Category, Failure, Incident, Notification, Run
from prunella.core.states import GateState, IncidentState, RunState
from prunella.store import migrations
from prunella.store.contract import Store
from prunella.store.metrics import Daily
from store.making import NOW, Outside, at, entry, incident, notification, run, signal

pytestmark = pytest.mark.anyio


async def test_integration_events_show_every_signal(store: Store, outside: Outside) -> None:
    """Document B's events: status success or error, with code, message and HTTP status where there are any."""
    failure = Failure(service="hubspot", status=401, code="invalid_token", message='Token "expired"')
    async with store.transaction() as tx:
        arrived = [
            (signal(1, failure=failure), None, None),
            (signal(2, outcome="success", failure=None), None, None),
            (signal(3, failure=Failure(service="hubspot", exc_type="TimeoutError")), None, None),
        ]
        await tx.signals.add(arrived)
    rows = outside(
        "SELECT event_id, service_name, status, error_code, error_message, http_status"
        " FROM integration_events ORDER BY id"
    )
    assert rows == [
        ("event-1", "hubspot", "error", "invalid_token", 'Token "expired"', 401),
        ("event-2", "hubspot", "success", None, None, None),
        ("event-3", "hubspot", "error", None, "", None),
    ]


@pytest.mark.parametrize(
    ("state", "gate", "status"),
    [
        (IncidentState.HEALING, GateState.CLOSED, "pending"),
        (IncidentState.ESCALATED, None, "pending"),
        (IncidentState.ESCALATED, GateState.DISABLED, "disabled"),
        (IncidentState.RESOLVED, GateState.DISABLED, "resolved"),
    ],
)
async def test_system_integrity_events_show_every_incident(
    store: Store, outside: Outside, state: IncidentState, gate: GateState | None, status: str
) -> None:
    """Document B's incidents: reason, category, what was done, and a status: resolved, disabled or pending."""
    async with store.transaction() as tx:
        await tx.signals.add([(signal(), None, None)])
        opened = await tx.incidents.open_or_join(incident(category=Category.AUTH, action_taken="token_refreshed"))
        when = at(5) if state is IncidentState.RESOLVED else None
        await tx.incidents.save(replace(opened, state=state, resolved_at=when))
        if gate is not None:
            await tx.gates.save(replace(await tx.gates.take("hubspot", NOW), state=gate))
    rows = outside(
        "SELECT id, event_id, service_name, failure_reason, failure_category, action_taken, llm_reasoning, status,"
        " resolved_at IS NULL, created_at = updated_at FROM system_integrity_events"
    )
    expected = ("incident-1", "event-1", "hubspot", "status 503", "auth", "token_refreshed", None, status)
    assert rows == [(*expected, when is None, when is None)]


async def test_system_integrity_events_show_an_opinion(store: Store, outside: Outside) -> None:
    """Document B's llm_reasoning is what the advisor said, where it said something."""
    async with store.transaction() as tx:
        await tx.incidents.open_or_join(incident())
        said = {"incident_id": "incident-1", "actor": "advisor"}
        await tx.audit.add([entry(1, action="advice.given", reason="an opinion: wait", **said)])
        await tx.audit.add([entry(2, action="incident.opened", reason="status 503", incident_id="incident-1")])
    assert outside("SELECT llm_reasoning FROM system_integrity_events") == [("an opinion: wait",)]


async def test_integrations_show_every_gate(store: Store, outside: Outside) -> None:
    """Document B's integrations: state, recovery counters, and why."""
    async with store.transaction() as tx:
        gate = await tx.gates.take("hubspot", NOW)
        await tx.gates.save(replace(gate, state=GateState.DISABLED, reason="3 auth failures", recovery_fail_count=2))
    rows = outside(
        "SELECT service_name, state, recovery_fail_count, last_recovery_at, auto_recovery_enabled, reason"
        " FROM integrations"
    )
    assert rows == [("hubspot", "disabled", 2, None, True, "3 auth failures")]


async def test_healing_logs_show_what_was_done(store: Store, outside: Outside) -> None:
    """Document A's log: every attempt, and the ends of procedures; the rest of the audit is not healing."""
    async with store.transaction() as tx:
        await tx.runs.add([run(state=RunState.DONE, detail="created")])
        await tx.audit.add([entry(1, action="procedure.finished", target="patrol", reason="2 healed", actor="worker")])
        await tx.audit.add([entry(2, action="secret.put")])
    rows = outside("SELECT source, procedure_id, target, status, details FROM healing_logs ORDER BY id")
    assert rows == [
        ("worker", "patrol", "patrol", "procedure.finished", "2 healed"),
        ("prunella", "heal", "hubspot", "done", "replay: created"),
    ]


# Documents A and D ----------------------------------------------------------------------------------------------------


def stuck(number: int = 1, **changed: Any) -> Incident:
    """An order that is stuck, as the sweep opens it."""
    fields: dict[str, Any] = {
        "service": "shop",
        "procedure": "stuck-order",
        "resource": "123",
        "memory": {"facts": {"stuck_minutes": 45, "status": "PENDING"}},
    }
    return incident(number, **{**fields, **changed})


def healing(number: int = 1, **changed: Any) -> Run:
    """An attempt at it."""
    fields: dict[str, Any] = {
        "operation_id": None,
        "service": "shop",
        "procedure": "stuck-order",
        "remedy": "reassign_vendor",
        "resource": "123",
        "issue": "STUCK_PENDING",
    }
    return run(number, **{**fields, **changed})


async def recorded(store: Store, *runs: Run, told: Sequence[Notification] = (), **changed: Any) -> None:
    """Open the incident and write its attempts as they ended, and what was told."""
    async with store.transaction() as tx:
        await tx.incidents.open_or_join(stuck(**changed))
        await tx.runs.add(runs)
        await tx.outbox.add(told)


@pytest.mark.parametrize(
    ("state", "status", "error"),
    [
        (RunState.RUNNING, "IN_PROGRESS", None),
        (RunState.DONE, "IN_PROGRESS", None),
        (RunState.VERIFIED, "SUCCESS", None),
        (RunState.FAILED, "FAILED", "no other vendor"),
        (RunState.TIMED_OUT, "FAILED", "no other vendor"),
        (RunState.UNKNOWN, "FAILED", "no other vendor"),
        (RunState.INEFFECTIVE, "FAILED", "no other vendor"),
        (RunState.UNDONE, "FAILED", "no other vendor"),
    ],
)
async def test_healing_actions_show_every_attempt(
    store: Store, outside: Outside, state: RunState, status: str, error: str | None
) -> None:
    """Document D's table: order, issue, action, one of its four statuses, what was seen, the error, earlier tries."""
    await recorded(store, healing(state=state, detail="no other vendor", attempt=2, ended_at=at(60)))
    rows = outside(
        "SELECT healing_id, order_id, issue_type, stuck_duration_minutes, last_status, recovery_action,"
        " recovery_status, recovery_completed_at IS NULL, error_message, retry_count, procedure_id FROM healing_actions"
    )
    expected = ("run-1", "123", "STUCK_PENDING", 45, "PENDING", "REASSIGN_VENDOR", status)
    assert rows == [(*expected, status == "IN_PROGRESS", error, 1, "stuck-order")]


async def test_healing_actions_show_a_hand_over(store: Store, outside: Outside) -> None:
    """What was left to a person is an action, too: MANUAL, with the reason, the tries before it and who was told."""
    told = notification(kind="MANUAL_INTERVENTION_REQUIRED", resource="123", run_id="run-1", sent_at=at(70))
    await recorded(store, healing(state=RunState.FAILED, ended_at=at(60)), told=[told])
    async with store.transaction() as tx:
        escalated = {"action": "incident.escalated", "target": "shop", "incident_id": "incident-1"}
        await tx.audit.add([entry(1, at=at(65), reason="3 attempts failed", **escalated)])
    rows = outside(
        "SELECT healing_id, order_id, issue_type, recovery_action, recovery_status, error_message, retry_count,"
        " admin_notified, admin_notified_at IS NOT NULL FROM healing_actions WHERE recovery_status = 'MANUAL'"
    )
    expected = ("entry-1", "123", "STUCK_PENDING", "MANUAL_INTERVENTION", "MANUAL", "3 attempts failed", 1, True, True)
    assert rows == [expected]


async def test_healing_actions_leave_out_what_no_procedure_did(store: Store, outside: Outside) -> None:
    """Replays for an event are document B's; facts that are no number of minutes are no error."""
    await recorded(store, run(7), healing(), memory={"facts": {"stuck_minutes": "long"}})
    rows = outside("SELECT healing_id, stuck_duration_minutes, last_status FROM healing_actions")
    assert rows == [("run-1", None, None)]


async def test_admin_notifications_show_what_administrators_are_told(store: Store, outside: Outside) -> None:
    """Document D's queue: type, severity, order, healing, message, delivery, acknowledgement; nothing of other kinds."""
    manual = {
        "kind": "MANUAL_INTERVENTION_REQUIRED",
        "resource": "123",
        "run_id": "run-1",
        "title": "123 needs a person",
    }
    async with store.transaction() as tx:
        await tx.outbox.add([notification(1, **manual), notification(2)])
        await tx.outbox.acknowledge("notification-1", "ann", at(5))
    rows = outside(
        "SELECT notification_id, notification_type, severity, order_id, healing_id, title, message, sent,"
        " delivery_method, delivery_status, acknowledged, acknowledged_by FROM admin_notifications"
    )
    message = "Service: hubspot\nError: status 503"
    told = ("notification-1", "MANUAL_INTERVENTION_REQUIRED", "HIGH", "123", "run-1", "123 needs a person", message)
    assert rows == [(*told, False, "ops", "waiting", True, "ann")]


async def test_healing_metrics_show_the_days(store: Store, outside: Outside) -> None:
    """Document D's daily figures: what was found and done by issue and action; rates are NULL where nothing ended."""
    stuck_order: dict[str, Any] = {"procedure": "stuck-order", "issue": "STUCK_PENDING", "action": "reassign_vendor"}
    async with store.transaction() as tx:
        await tx.metrics.add(
            [
                Daily(day="2026-03-01", **stuck_order, detected=4, succeeded=3, failed=1, recovery_s=450.0),
                Daily(day="2026-03-02", **stuck_order, detected=1),
                Daily(day="2026-03-01", procedure="stale", issue="STALE_SYNC", action="webhook", detected=9),
            ]
        )
        manual = {**stuck_order, "action": "manual_intervention"}
        await tx.metrics.add([Daily(day="2026-03-01", **manual, manual=1, notified=1)])
    rows = outside(
        "SELECT CAST(metric_date AS text), total_stuck_orders_detected, stuck_pending_count, stuck_confirmed_count,"
        " successful_recoveries, failed_recoveries, manual_interventions, reassign_vendor_count, healing_success_rate,"
        " avg_recovery_time_minutes, admin_notifications_sent FROM healing_metrics ORDER BY metric_date"
    )
    assert rows == [
        ("2026-03-01", 4, 4, 0, 3, 1, 1, 4, 75.0, 2.5, 1),
        ("2026-03-02", 1, 1, 0, 0, 0, 0, 0, None, None, 0),
    ]
    assert outside("SELECT count(*) FROM healing_metrics WHERE metric_date = CURRENT_DATE") == [(0,)]


async def test_healing_statistics_view_breaks_the_attempts_down(store: Store, outside: Outside) -> None:
    """Per day, issue, action and status: cases, minutes from detection to proof, successes, failures."""
    well = {"state": RunState.VERIFIED, "ended_at": at(30)}
    await recorded(
        store,
        healing(1, **well, verified_at=at(120)),
        healing(2, **well, verified_at=at(180)),
        healing(3, state=RunState.FAILED, ended_at=at(60)),
    )
    rows = outside(
        "SELECT CAST(stat_date AS text), issue_type, recovery_action, recovery_status, total_cases,"
        " avg_recovery_time_minutes, successful_recoveries, failed_recoveries, admin_notifications_sent"
        " FROM healing_statistics_view ORDER BY recovery_status"
    )
    group = ("2026-03-01", "STUCK_PENDING", "REASSIGN_VENDOR")
    assert rows == [(*group, "FAILED", 1, None, 0, 1, 0), (*group, "SUCCESS", 2, 2.5, 2, 0, 0)]


async def test_healing_logs_name_the_resource(store: Store, outside: Outside) -> None:
    """A run of a procedure is about its resource, and so is an escalation."""
    await recorded(store, healing(state=RunState.FAILED, detail="no other vendor"))
    async with store.transaction() as tx:
        await tx.audit.add([entry(1, action="incident.escalated", target="shop", incident_id="incident-1", reason="3")])
    rows = outside("SELECT id, procedure_id, target, status, details FROM healing_logs ORDER BY id DESC")
    assert rows == [
        ("run-1", "stuck-order", "123", "failed", "reassign_vendor: no other vendor"),
        ("entry-1", "stuck-order", "123", "incident.escalated", "3"),
    ]


async def test_healing_logs_say_what_the_documents_call_it(store: Store, outside: Outside) -> None:
    """A procedure that the documents know stands in the log by their name for it (HEAL_ORDER)."""
    async with store.transaction() as tx:
        await tx.procedures.register("stuck-order", "HEAL_ORDER")
        await tx.procedures.register("stuck-order")
    await recorded(store, healing(state=RunState.FAILED, detail="no other vendor"))
    assert outside("SELECT procedure_id FROM healing_logs") == [("HEAL_ORDER",)]
    assert outside("SELECT action FROM integration_logs") == [("HEAL_ORDER",)]
    assert outside("SELECT procedure_id FROM healing_actions") == [("HEAL_ORDER",)]


async def test_integration_logs_speak_document_a(store: Store, outside: Outside) -> None:
    """Document A's log of the self_healer: healed or error per attempt, success or error per run, escalations."""
    await recorded(
        store,
        healing(1, state=RunState.VERIFIED, verified_at=at(9), detail="vendor 7"),
        healing(2, state=RunState.FAILED, detail="no other vendor"),
    )
    async with store.transaction() as tx:
        await tx.audit.add([entry(1, action="procedure.finished", target="stuck-order", reason="looked 3")])
        await tx.audit.add([entry(2, action="procedure.failed", target="stuck-order", reason="no database")])
        await tx.audit.add([entry(3, action="incident.escalated", incident_id="incident-1", reason="3 failed")])
    rows = outside(
        "SELECT id, source, action, status, CAST(details_json AS text) LIKE '%123%', error_message"
        " FROM integration_logs ORDER BY id"
    )
    assert rows == [
        ("entry-1", "self_healer", "stuck-order", "success", False, None),
        ("entry-2", "self_healer", "stuck-order", "error", False, "no database"),
        ("entry-3", "self_healer", "ESCALATION", "warning", True, None),
        ("run-1", "self_healer", "stuck-order", "healed", True, None),
        ("run-2", "self_healer", "stuck-order", "error", True, "no other vendor"),
    ]


def test_tables_of_the_user_keep_their_names(tmp_path: Path) -> None:
    """In a SQLite file that holds the user's own integration_logs, too, that table stays; other views are made."""
    path = tmp_path / "both.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE integration_logs (id INTEGER)")
    migrations.upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as file:
        kinds = dict(
            file.execute("SELECT name, type FROM sqlite_master WHERE name IN ('integration_logs', 'healing_logs')")
        )
    assert kinds == {"integration_logs": "table", "healing_logs": "view"}
