"""The documents' names as views: the same facts, never a second table."""

from __future__ import annotations

from sqlalchemy import Connection, text

# Document B: status is resolved, disabled or pending; action_taken and signals are the engine's own words.
_SYSTEM_INTEGRITY_EVENTS = """
SELECT i.id, s.event_id, i.service AS service_name, i.because AS failure_reason, i.category AS failure_category,
       i.action_taken, s.failure AS analyzer_signals,
       (SELECT max(a.reason) FROM {p}audit a WHERE a.incident_id = i.id AND a.action = 'advice.given') AS llm_reasoning,
       CASE WHEN i.state = 'resolved' THEN 'resolved' WHEN g.state = 'disabled' THEN 'disabled' ELSE 'pending' END
       AS status,
       i.resolved_at, i.first_seen AS created_at, COALESCE(i.resolved_at, i.last_seen) AS updated_at
FROM {p}incidents i
LEFT JOIN {p}signals s ON s.id = i.signal_id
LEFT JOIN {p}gates g ON g.service = i.service
"""

_INTEGRATION_EVENTS = """
SELECT s.id, s.event_id, s.service AS service_name,
       CASE WHEN s.outcome = 'success' THEN 'success' ELSE 'error' END AS status,
       {code} AS error_code, {message} AS error_message, {http} AS http_status, s.received_at AS created_at
FROM {p}signals s
"""

_INTEGRATIONS = """
SELECT g.service AS service_name, g.state, g.recovery_fail_count, g.last_recovery_at, g.auto_recovery_enabled, g.reason
FROM {p}gates g
"""

# Document A: source, procedure, target, status, details, time of everything a procedure did.
_HEALING_LOGS = """
SELECT r.id, 'prunella' AS source, r.procedure AS procedure_id, r.service AS target, r.state AS status,
       r.remedy || ': ' || r.detail AS details, r.started_at AS created_at
FROM {p}runs r
UNION ALL
SELECT a.id, a.actor AS source, a.target AS procedure_id, a.target AS target,
       a.action AS status, a.reason AS details, a.at AS created_at
FROM {p}audit a
WHERE a.action IN ('procedure.finished', 'procedure.failed', 'incident.refuse', 'gate.disabled')
"""

VIEWS = {
    "system_integrity_events": _SYSTEM_INTEGRITY_EVENTS,
    "integration_events": _INTEGRATION_EVENTS,
    "integrations": _INTEGRATIONS,
    "healing_logs": _HEALING_LOGS,
}


def drop_views(connection: Connection) -> None:
    """Drop every view, so that it can be created anew."""
    prefix = "prunella." if connection.dialect.name == "postgresql" else ""
    for name in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {prefix}{name}"))


def create_views(connection: Connection) -> None:
    """Create every view; on PostgreSQL in our own schema."""
    postgres = connection.dialect.name == "postgresql"
    prefix = "prunella." if postgres else ""
    json = {
        "code": "s.failure->>'code'" if postgres else "json_extract(s.failure, '$.code')",
        "message": "s.failure->>'message'" if postgres else "json_extract(s.failure, '$.message')",
        "http": "(s.failure->>'status')::integer" if postgres else "json_extract(s.failure, '$.status')",
    }
    for name, query in VIEWS.items():
        connection.execute(
            text(f"CREATE VIEW {prefix}{name} AS {query.format(p=prefix, **json)}".replace("::", "\\:\\:"))
        )
