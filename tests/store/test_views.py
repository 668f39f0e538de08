"""The documents' names show the same facts as our tables, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunella.core.records import Category, Failure
from prunella.core.states import GateState, IncidentState, RunState
from prunella.store.contract import Store
from store.making import NOW, Outside, at, entry, incident, run, signal

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
