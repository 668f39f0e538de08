"""Document B's names: events, what became of them, and the state of each integration."""

from __future__ import annotations

from prunella.store.migrations.spelling import Spelling


def system_integrity_events(sql: Spelling) -> str:
    """Every incident: status is resolved, disabled or pending; action_taken and signals are the engine's own words."""
    p = sql.prefix
    opinion = f"SELECT max(a.reason) FROM {p}audit a WHERE a.incident_id = i.id AND a.action = 'advice.given'"  # noqa: S608, names of ours
    return f"""
    SELECT i.id, s.event_id, i.service AS service_name, i.because AS failure_reason, i.category AS failure_category,
           i.action_taken, s.failure AS analyzer_signals, ({opinion}) AS llm_reasoning,
           CASE WHEN i.state = 'resolved' THEN 'resolved' WHEN g.state = 'disabled' THEN 'disabled' ELSE 'pending' END
           AS status,
           i.resolved_at, i.first_seen AS created_at, COALESCE(i.resolved_at, i.last_seen) AS updated_at
    FROM {p}incidents i
    LEFT JOIN {p}signals s ON s.id = i.signal_id
    LEFT JOIN {p}gates g ON g.service = i.service
    """  # noqa: S608, names of ours


def integration_events(sql: Spelling) -> str:
    """Every signal, with code, message and HTTP status where there are any."""
    status = sql.json_text("s.failure", "status")
    return f"""
    SELECT s.id, s.event_id, s.service AS service_name,
           CASE WHEN s.outcome = 'success' THEN 'success' ELSE 'error' END AS status,
           {sql.json_text("s.failure", "code")} AS error_code, {sql.json_text("s.failure", "message")} AS error_message,
           CAST({status} AS integer) AS http_status, s.received_at AS created_at
    FROM {sql.prefix}signals s
    """  # noqa: S608, names of ours


def integrations(sql: Spelling) -> str:
    """Every gate, with its recovery counters."""
    return f"""
    SELECT g.service AS service_name, g.state, g.recovery_fail_count, g.last_recovery_at, g.auto_recovery_enabled,
           g.reason
    FROM {sql.prefix}gates g
    """  # noqa: S608, names of ours
