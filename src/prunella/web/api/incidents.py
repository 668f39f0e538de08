"""/api/v1/incidents: what is broken, how it came to that, and what people do about it."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.core.records import Gate, Incident
from prunella.core.states import IncidentState
from prunella.engine import people, report
from prunella.web.access import Acts, Reads, Why
from prunella.web.api.paging import PAGE, Limit, before, cursor_of, spell_time, unknown


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/incidents", tags=["incidents"])

    @routes.get("")
    async def list_incidents(
        _: Reads,
        state: IncidentState | Literal["open_any"] | None = None,
        service: str | None = None,
        procedure: str | None = None,
        category: str | None = None,
        limit: Limit = PAGE,
        cursor: str | None = None,
    ) -> JSONResponse:
        equal: dict[str, Any] = {"service": service, "procedure": procedure, "category": category, "state": state}
        if state == "open_any":
            equal["state"] = [one.value for one in IncidentState if one is not IncidentState.RESOLVED]
        wanted = {name: value for name, value in equal.items() if value is not None}
        async with app.store.transaction() as tx:
            found = await tx.incidents.list(most=limit + 1, before=before(cursor), **wanted)
            gates = {gate.service: gate for gate in await tx.gates.all()}
        items = [incident_json(one, gates.get(one.service)) for one in found[:limit]]
        last = found[limit - 1] if len(found) > limit else None
        return JSONResponse({"items": items, "next_cursor": cursor_of(last.first_seen, last.id) if last else None})

    @routes.get("/{incident_id}")
    async def read_incident(_: Reads, incident_id: str) -> JSONResponse:
        story = await report.story(app.parts, incident_id)
        if story is None:
            raise unknown("incident", incident_id)
        return JSONResponse(story_json(story))

    @routes.post("/{incident_id}/{act}")
    async def act_on_incident(
        caller: Acts, why: Why, incident_id: str, act: Literal["ack", "retry", "suppress", "escalate"]
    ) -> JSONResponse:
        incident = await people.act_on_incident(app.parts, incident_id, act, by=caller.name, reason=why.reason)
        if incident is None:
            raise unknown("incident", incident_id)
        return JSONResponse(incident_json(incident, None))

    return routes


def incident_json(incident: Incident, gate: Gate | None) -> dict[str, Any]:
    """Spell an incident."""
    return {
        "id": incident.id,
        "title": incident.title,
        "service": incident.service,
        "account": incident.account or None,
        "procedure": incident.procedure or f"recover.{incident.category.value}",
        "resource": incident.resource or None,
        "category": incident.category.value,
        "kind": incident.kind,
        "confidence": incident.confidence,
        "because": incident.because,
        "state": incident.state.value,
        "status": report.outward_status(incident, gate),
        "severity": incident.severity.value,
        "level": incident.level.value,
        "attempts": incident.attempts,
        "count": incident.count,
        "first_seen": spell_time(incident.first_seen),
        "last_seen": spell_time(incident.last_seen),
        "next_at": spell_time(incident.next_at),
        "held_reason": incident.held_reason,
        "action_taken": incident.action_taken,
        "acknowledged_by": incident.acknowledged_by,
        "regressed": incident.regressed,
        "regressions": incident.regressions,
        "previous_id": incident.previous_id,
        "forced": incident.forced,
        "resolved_at": spell_time(incident.resolved_at),
    }


def story_json(story: report.Story) -> dict[str, Any]:
    """Spell an incident with its timeline and runs."""
    evidence = story.evidence or {}
    return incident_json(story.incident, story.gate) | {
        "advice": story.incident.advice,
        "evidence": evidence.get("failure"),
        "payload_shape": evidence.get("payload_shape"),
        "timeline": [
            {"at": spell_time(entry.at), "actor": entry.actor, "action": entry.action, "reason": entry.reason}
            for entry in story.timeline
        ],
        "runs": [
            {
                "id": run.id,
                "remedy": run.remedy,
                "issue": run.issue or None,
                "rows": run.touched,
                "state": run.state.value,
                "attempt": run.attempt,
                "idempotency_key": run.idempotency_key,
                "status": run.status,
                "detail": run.detail,
                "started_at": spell_time(run.started_at),
                "ended_at": spell_time(run.ended_at),
            }
            for run in story.runs
        ],
    }
