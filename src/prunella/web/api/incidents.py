"""/api/v1/incidents: what is broken, how it came to that, and what people do about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Response

from prunella.app import App
from prunella.core.records import Category, Gate, Incident, Level, Severity
from prunella.core.states import IncidentState, RunState
from prunella.engine import people, report
from prunella.web.access import Acts, Reads, Seen, Why
from prunella.web.api.paging import (
    PAGE,
    Cursor,
    Limit,
    Out,
    Page,
    Status,
    Time,
    before,
    cut,
    spell_time,
    unknown,
)
from prunella.web.api.routing import Rooms, tag_of
from prunella.web.filters import IncidentFilter


class EntryOut(Out):
    """A line of a timeline."""

    at: Time
    actor: str
    action: str
    reason: str


class AttemptOut(Out):
    """An attempt to heal, within its incident's story."""

    id: str
    remedy: str
    issue: str | None
    rows: int
    state: RunState
    attempt: int
    idempotency_key: str
    status: int | None
    detail: str
    started_at: Time
    ended_at: Time | None


class IncidentOut(Out):
    """An incident."""

    id: str
    title: str
    service: str
    account: str | None
    procedure: str
    resource: str | None
    category: Category
    kind: str
    confidence: float
    because: str
    state: IncidentState
    status: Status
    severity: Severity
    level: Level
    attempts: int
    count: int
    first_seen: Time
    last_seen: Time
    next_at: Time | None
    held_reason: str | None
    action_taken: str
    acknowledged_by: str | None
    regressed: bool
    regressions: int
    previous_id: str | None
    forced: bool
    resolved_at: Time | None

    @classmethod
    def of(cls, incident: Incident, gate: Gate | None) -> IncidentOut:
        """Spell an incident."""
        return cls(**_facts(incident, gate))


class StoryOut(IncidentOut):
    """An incident with its timeline and runs."""

    advice: str
    issue_id: str | None
    decided: dict[str, Any]
    evidence: Any
    payload_shape: Any
    timeline: list[EntryOut]
    runs: list[AttemptOut]

    @classmethod
    def told(cls, story: report.Story) -> StoryOut:
        """Spell an incident's story."""
        evidence = story.evidence or {}
        return cls(
            **_facts(story.incident, story.gate),
            advice=story.incident.advice,
            issue_id=story.incident.issue_id,
            decided=dict(story.incident.decided),
            evidence=evidence.get("failure"),
            payload_shape=evidence.get("payload_shape"),
            timeline=[
                EntryOut(at=entry.at.isoformat(), actor=entry.actor, action=entry.action, reason=entry.reason)
                for entry in story.timeline
            ],
            runs=[
                AttemptOut(
                    id=run.id,
                    remedy=run.remedy,
                    issue=run.issue or None,
                    rows=run.touched,
                    state=run.state,
                    attempt=run.attempt,
                    idempotency_key=run.idempotency_key,
                    status=run.status,
                    detail=run.detail,
                    started_at=run.started_at.isoformat(),
                    ended_at=spell_time(run.ended_at),
                )
                for run in story.runs
            ],
        )


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/incidents", tags=["incidents"])

    @routes.get("", summary="List incidents, newest first")
    async def list_incidents(
        _: Reads, wanted: Annotated[IncidentFilter, Depends()], limit: Limit = PAGE, cursor: Cursor = None
    ) -> Page[IncidentOut]:
        found, gates, next_cursor = await page_of(app, wanted, limit, cursor)
        return Page(items=[IncidentOut.of(one, gates.get(one.service)) for one in found], next_cursor=next_cursor)

    @routes.get("/{incident_id}", summary="Tell an incident's story")
    async def read_incident(_: Reads, incident_id: str, answer: Response) -> StoryOut:
        story = await report.story(app.parts, incident_id)
        if story is None:
            raise unknown("incident", incident_id)
        answer.headers["etag"] = tag_of(story.incident.version)
        return StoryOut.told(story)

    @routes.post("/{incident_id}/{act}", summary="Acknowledge, retry, suppress, hand over or resolve an incident")
    async def act_on_incident(
        caller: Acts,
        why: Why,
        seen: Seen,
        incident_id: str,
        act: Literal["ack", "retry", "suppress", "escalate", "resolve"],
        answer: Response,
    ) -> IncidentOut:
        incident = await people.act_on_incident(
            app.parts, incident_id, act, by=caller.name, reason=why.reason, seen=seen.version
        )
        if incident is None:
            raise unknown("incident", incident_id)
        answer.headers["etag"] = tag_of(incident.version)
        async with app.store.transaction() as tx:
            return IncidentOut.of(incident, await tx.gates.read(incident.service))

    return routes


async def page_of(
    app: App, wanted: IncidentFilter, limit: int, cursor: str | None
) -> tuple[list[Incident], dict[str, Gate], str | None]:
    """Return one page of incidents, newest first, the gates of all services, and the cursor of the next page."""
    async with app.store.transaction() as tx:
        found = await tx.incidents.list(most=limit + 1, before=before(cursor), **wanted.asked())
        gates = {gate.service: gate for gate in await tx.gates.all()}
    page, next_cursor = cut(found, limit, lambda one: (one.first_seen, one.id))
    return page, gates, next_cursor


def _facts(incident: Incident, gate: Gate | None) -> dict[str, Any]:
    return {
        "id": incident.id,
        "title": incident.title,
        "service": incident.service,
        "account": incident.account or None,
        "procedure": incident.procedure or f"recover.{incident.category.value}",
        "resource": incident.resource or None,
        "category": incident.category,
        "kind": incident.kind,
        "confidence": incident.confidence,
        "because": incident.because,
        "state": incident.state,
        "status": report.outward_status(incident, gate),
        "severity": incident.severity,
        "level": incident.level,
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
