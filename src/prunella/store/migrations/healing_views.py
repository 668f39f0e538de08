"""The names of documents A and D: what was healed, who was told, and the figures of it.

A run is a healing action; its id is the healing's. A hand-over to a person is one, too: MANUAL, by its audit entry.
"""

from __future__ import annotations

from prunella.store.migrations.spelling import Spelling

_FAILED = "('failed', 'timed_out', 'unknown', 'ineffective', 'undone')"
_RECOVERY_STATUS = f"""
CASE WHEN r.state IN {_FAILED} THEN 'FAILED' WHEN r.remedy = 'manual_intervention' AND r.state <> 'running'
THEN 'MANUAL' WHEN r.state = 'verified' THEN 'SUCCESS' ELSE 'IN_PROGRESS' END
"""
_ESCALATED = "('incident.escalated', 'incident.escalate')"
_TOLD = "('HEALING_FAILED', 'MANUAL_INTERVENTION_REQUIRED', 'SYSTEM_ALERT')"
_CODE = "COALESCE((SELECT c.code FROM {p}procedures c WHERE c.name = {name}), {name})"
"""What the documents call a procedure, its own name where they do not know it."""
_KNOWN = "(a.incident_id IS NULL OR i.id IS NOT NULL)"
"""An entry outlives its incident; what it was about is not known then, and is not guessed."""
_STUCK = "substr(m.issue, 1, 6) = 'STUCK_'"


def _code(prefix: str, name: str) -> str:
    return _CODE.format(p=prefix, name=name)


def healing_actions(sql: Spelling) -> str:
    """Every attempt of a procedure and every hand-over, with what it was about and what came of it (document D)."""
    p = sql.prefix
    seen = f"""
           {sql.json_number("i.memory", "facts", "stuck_minutes")} AS stuck_duration_minutes,
           {sql.json_text("i.memory", "facts", "status")} AS last_status"""
    last = f"SELECT r.issue FROM {p}runs r WHERE r.incident_id = i.id ORDER BY r.started_at DESC, r.id DESC LIMIT 1"  # noqa: S608, names of ours
    tries = f"SELECT count(*) FROM {p}runs r WHERE r.incident_id = i.id AND r.started_at <= a.at"  # noqa: S608, names of ours
    completed = f"CASE WHEN {_RECOVERY_STATUS} <> 'IN_PROGRESS' THEN COALESCE(r.verified_at, r.ended_at) END"
    return f"""
    SELECT r.id AS healing_id, r.resource AS order_id, r.issue AS issue_type, i.first_seen AS issue_detected_at, {seen},
           upper(r.remedy) AS recovery_action, {_RECOVERY_STATUS} AS recovery_status,
           r.started_at AS recovery_attempted_at, {completed} AS recovery_completed_at,
           CASE WHEN r.state IN {_FAILED} THEN r.detail END AS error_message, r.attempt - 1 AS retry_count,
           COALESCE(n.told, 0) > 0 AS admin_notified, n.sent_at AS admin_notified_at,
           {_code(p, "r.procedure")} AS procedure_id,
           r.incident_id, r.started_at AS created_at, COALESCE(r.verified_at, r.ended_at, r.started_at) AS updated_at
    FROM {p}runs r
    LEFT JOIN {p}incidents i ON i.id = r.incident_id
    LEFT JOIN (SELECT run_id, count(*) AS told, min(sent_at) AS sent_at FROM {p}notifications
               WHERE run_id IS NOT NULL GROUP BY run_id) n ON n.run_id = r.id
    WHERE r.issue <> ''
    UNION ALL
    SELECT a.id, i.resource, COALESCE(({last}), {sql.json_text("s.failure", "code")}), i.first_seen, {seen},
           'MANUAL_INTERVENTION', 'MANUAL', a.at, a.at, a.reason, CAST(({tries}) AS integer),
           COALESCE(n.told, 0) > 0, n.sent_at, {_code(p, "i.procedure")}, i.id, a.at, a.at
    FROM {p}audit a
    JOIN {p}incidents i ON i.id = a.incident_id AND i.procedure <> ''
    LEFT JOIN {p}signals s ON s.id = i.signal_id
    LEFT JOIN (SELECT incident_id, count(*) AS told, min(sent_at) AS sent_at FROM {p}notifications
               WHERE kind IN {_TOLD} GROUP BY incident_id) n ON n.incident_id = i.id
    WHERE a.action IN {_ESCALATED}
    """  # noqa: S608, names of ours


def admin_notifications(sql: Spelling) -> str:
    """What was told to administrators: one row per message and channel (document D)."""
    return f"""
    SELECT n.id AS notification_id, n.kind AS notification_type, n.severity, n.resource AS order_id,
           n.run_id AS healing_id, n.title, {sql.pairs("n.facts")} AS message, n.facts AS details,
           n.state = 'sent' AS sent, n.sent_at, n.channel AS delivery_method, n.state AS delivery_status,
           n.last_error AS delivery_error, n.acknowledged_at IS NOT NULL AS acknowledged, n.acknowledged_by,
           n.acknowledged_at, n.created_at
    FROM {sql.prefix}notifications n
    WHERE n.kind IN {_TOLD}
    """  # noqa: S608, names of ours


def healing_metrics(sql: Spelling) -> str:
    """The figures of stuck entities, one row per day; rates in percent, NULL where there was nothing (document D)."""

    def summed(column: str, condition: str) -> str:
        return f"CAST(sum(CASE WHEN {condition} THEN m.{column} ELSE 0 END) AS integer)"

    def detected(status: str) -> str:
        return summed("detected", f"m.issue = 'STUCK_{status.upper()}'")

    statuses = ("pending", "confirmed", "accepted", "processing")
    by_issue = "".join(f", {detected(status)} AS stuck_{status}_count" for status in statuses)
    by_action = "".join(
        f", CAST(sum(CASE WHEN m.action = '{action}' THEN m.succeeded + m.failed ELSE 0 END) AS integer)"
        f" AS {action}_count"
        for action in ("reassign_vendor", "retry_workflow", "cancel_order")
    )
    success = "100.0 * sum(m.succeeded) / NULLIF(sum(m.succeeded + m.failed), 0)"
    minutes = "sum(m.recovery_s) / 60.0 / NULLIF(sum(m.succeeded), 0)"
    return f"""
    SELECT {sql.date("m.day")} AS metric_date, CAST(sum(m.detected) AS integer) AS total_stuck_orders_detected
           {by_issue},
           CAST(sum(m.succeeded) AS integer) AS successful_recoveries,
           CAST(sum(m.failed) AS integer) AS failed_recoveries,
           CAST(sum(m.manual) AS integer) AS manual_interventions
           {by_action},
           {sql.rounded(success)} AS healing_success_rate, {sql.rounded(minutes)} AS avg_recovery_time_minutes,
           CAST(sum(m.notified) AS integer) AS admin_notifications_sent
    FROM {sql.prefix}daily_metrics m
    WHERE {_STUCK}
    GROUP BY m.day
    """  # noqa: S608, names of ours


def healing_statistics_view(sql: Spelling) -> str:
    """What was done and what came of it, by day, issue, action and status (document D)."""
    took = sql.minutes("h.issue_detected_at", "h.recovery_completed_at")
    proven = f"CASE WHEN h.recovery_status = 'SUCCESS' THEN {took} END"
    return f"""
    SELECT {sql.day("h.recovery_attempted_at")} AS stat_date, h.issue_type, h.recovery_action, h.recovery_status,
           CAST(count(*) AS integer) AS total_cases, {sql.rounded(f"avg({proven})")} AS avg_recovery_time_minutes,
           CAST(sum(CASE WHEN h.recovery_status = 'SUCCESS' THEN 1 ELSE 0 END) AS integer) AS successful_recoveries,
           CAST(sum(CASE WHEN h.recovery_status = 'FAILED' THEN 1 ELSE 0 END) AS integer) AS failed_recoveries,
           CAST(sum(CASE WHEN h.admin_notified THEN 1 ELSE 0 END) AS integer) AS admin_notifications_sent
    FROM {sql.prefix}healing_actions h
    GROUP BY {sql.day("h.recovery_attempted_at")}, h.issue_type, h.recovery_action, h.recovery_status
    """  # noqa: S608, names of ours


def healing_logs(sql: Spelling) -> str:
    """Source, procedure, target, status, details, time of everything that healing did (document A)."""
    p, named = sql.prefix, "COALESCE(NULLIF(i.procedure, ''), a.target)"
    return f"""
    SELECT r.id, 'prunella' AS source, {_code(p, "r.procedure")} AS procedure_id,
           COALESCE(NULLIF(r.resource, ''), r.service) AS target,
           r.state AS status, r.remedy || ': ' || r.detail AS details, r.started_at AS created_at
    FROM {p}runs r
    UNION ALL
    SELECT a.id, a.actor, {_code(p, named)}, COALESCE(NULLIF(i.resource, ''), a.target),
           a.action, a.reason, a.at
    FROM {p}audit a LEFT JOIN {p}incidents i ON i.id = a.incident_id
    WHERE (a.action IN ('procedure.finished', 'procedure.failed', 'incident.refuse', 'gate.disabled')
       OR a.action IN {_ESCALATED}) AND {_KNOWN}
    """  # noqa: S608, names of ours


def integration_logs(sql: Spelling) -> str:
    """The same in the words of document A's own log: attempts, runs of procedures, escalations."""
    p = sql.prefix
    target = "COALESCE(NULLIF(r.resource, ''), r.service)"
    attempt = sql.json_object(
        target=target, issue="r.issue", action="r.remedy", attempt="r.attempt", detail="r.detail", rows="r.touched"
    )
    escalation = sql.json_object(
        procedure="COALESCE(i.procedure, '')", target="COALESCE(NULLIF(i.resource, ''), a.target)", context="a.reason"
    )
    return f"""
    SELECT r.id, 'self_healer' AS source, {_code(p, "r.procedure")} AS action,
           CASE WHEN r.state = 'verified' THEN 'healed' WHEN r.state IN {_FAILED} THEN 'error' ELSE 'in_progress' END
           AS status,
           {attempt} AS details_json, CASE WHEN r.state IN {_FAILED} THEN r.detail END AS error_message,
           COALESCE(r.verified_at, r.ended_at, r.started_at) AS created_at
    FROM {p}runs r
    UNION ALL
    SELECT a.id, 'self_healer', {_code(p, "a.target")},
           CASE WHEN a.action = 'procedure.failed' THEN 'error' ELSE 'success' END,
           {sql.json_object(result="a.reason")}, CASE WHEN a.action = 'procedure.failed' THEN a.reason END, a.at
    FROM {p}audit a WHERE a.action IN ('procedure.finished', 'procedure.failed')
    UNION ALL
    SELECT a.id, 'self_healer', 'ESCALATION', 'warning', {escalation}, NULL, a.at
    FROM {p}audit a LEFT JOIN {p}incidents i ON i.id = a.incident_id
    WHERE a.action IN {_ESCALATED} AND {_KNOWN}
    """  # noqa: S608, names of ours
