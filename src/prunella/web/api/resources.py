"""/api/v1: incidents, services and secrets, as people and their tools read and change them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunella.app import App, sealed_credential
from prunella.core.records import Credential, Gate, Incident
from prunella.core.services import SecretRef, Service
from prunella.core.states import IncidentState
from prunella.engine import people, rate, report
from prunella.web.api.events import in_utc
from prunella.web.api.self_heal import read_json
from prunella.web.auth import Gatehouse
from prunella.web.problems import Problem, unprocessable

_PAGE = 50
_PAGE_MAX = 500

Limit = Annotated[int, Query(ge=1, le=_PAGE_MAX)]


class CredentialsIn(BaseModel):
    """Tokens as an OAuth provider hands them out."""

    model_config = ConfigDict(extra="forbid")

    access_token: Annotated[str, Field(min_length=1, max_length=16_384)]
    refresh_token: Annotated[str, Field(min_length=1, max_length=16_384)] | None = None
    expires_in: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    account: Annotated[str, Field(max_length=200)] = ""


class SecretIn(BaseModel):
    """A value for `secret://NAME`."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[str, Field(min_length=1, max_length=65_536)]


class ReasonIn(BaseModel):
    """Why a person does something."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""


def router(app: App, gatehouse: Gatehouse) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1")
    _incident_routes(routes, app, gatehouse)
    _service_routes(routes, app, gatehouse)
    _secret_routes(routes, app, gatehouse)
    return routes


def _incident_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    @routes.get("/incidents", tags=["incidents"])
    async def list_incidents(
        request: Request,
        state: IncidentState | Literal["open_any"] | None = None,
        service: str | None = None,
        procedure: str | None = None,
        category: str | None = None,
        limit: Limit = _PAGE,
        cursor: str | None = None,
    ) -> JSONResponse:
        gatehouse.reads(request)
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

    @routes.get("/incidents/{incident_id}", tags=["incidents"])
    async def read_incident(request: Request, incident_id: str) -> JSONResponse:
        gatehouse.reads(request)
        story = await report.story(app.parts, incident_id)
        if story is None:
            raise unknown("incident", incident_id)
        return JSONResponse(story_json(story))

    @routes.post("/incidents/{incident_id}/{act}", tags=["incidents"])
    async def act_on_incident(
        request: Request, incident_id: str, act: Literal["ack", "retry", "suppress", "escalate"]
    ) -> JSONResponse:
        caller = gatehouse.acts(request)
        reason = await read_reason(request)
        incident = await people.act_on_incident(app.parts, incident_id, act, by=caller.name, reason=reason)
        if incident is None:
            raise unknown("incident", incident_id)
        return JSONResponse(incident_json(incident, None))


def _service_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    @routes.get("/services", tags=["services"])
    async def list_services(request: Request) -> JSONResponse:
        gatehouse.reads(request)
        async with app.store.transaction() as tx:
            gates = {gate.service: gate for gate in await tx.gates.all()}
            accounts = {name: await tx.credentials.of_service(name) for name in app.settings.services}
        services = sorted(app.settings.services.items())
        items = [service_json(one, gates.get(name), accounts[name]) for name, one in services]
        return JSONResponse({"items": items, "next_cursor": None})

    @routes.post("/services/{name}/{act}", tags=["services"])
    async def act_on_service(
        request: Request, name: str, act: Literal["disable", "enable", "pause", "resume", "probe"]
    ) -> JSONResponse:
        caller = gatehouse.acts(request)
        reason = await read_reason(request)
        gate = await people.act_on_service(app.parts, name, act, by=caller.name, reason=reason)
        if gate is None:
            raise unknown("service", name)
        return JSONResponse(service_json(app.settings.services[name], gate, []))

    @routes.put("/services/{name}/credentials", tags=["services"])
    async def put_credentials(request: Request, name: str) -> JSONResponse:
        caller = gatehouse.rules(request)
        if name not in app.settings.services:
            raise unknown("service", name)
        try:
            given = CredentialsIn.model_validate(await read_json(request))
        except ValidationError as error:
            raise unprocessable(error) from None
        expires = app.parts.clock.now() + timedelta(seconds=given.expires_in) if given.expires_in else None
        sealed = sealed_credential(app.vault, name, given.account, given.access_token, given.refresh_token, expires)
        await people.put_credential(app.parts, sealed, by=caller.name)
        return JSONResponse({"service": name, "account": given.account, "stored": True})


def _secret_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    """Named secrets go in and never come out."""

    @routes.get("/secrets", tags=["secrets"])
    async def list_secrets(request: Request) -> JSONResponse:
        gatehouse.rules(request)
        async with app.store.transaction() as tx:
            return JSONResponse({"items": await tx.credentials.secret_names(), "next_cursor": None})

    @routes.put("/secrets/{name:path}", tags=["secrets"])
    async def put_secret(request: Request, name: str) -> JSONResponse:
        caller = gatehouse.rules(request)
        try:
            given = SecretIn.model_validate(await read_json(request))
        except ValidationError as error:
            raise unprocessable(error) from None
        await people.put_secret(app.parts, app.vault.sealed(SecretRef(name), given.value), name, by=caller.name)
        return JSONResponse({"name": name, "stored": True})

    @routes.delete("/secrets/{name:path}", tags=["secrets"])
    async def drop_secret(request: Request, name: str) -> JSONResponse:
        caller = gatehouse.rules(request)
        if not await people.drop_secret(app.parts, name, by=caller.name):
            raise unknown("secret", name)
        return JSONResponse({"name": name, "stored": False})


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


def service_json(service: Service, gate: Gate | None, accounts: Sequence[Credential]) -> dict[str, Any]:
    """Spell a service with its gate, rate and counters; tokens are never spelled."""
    shut = {"state": "closed", "reason": None, "reopen_at": None}
    if gate is not None:
        shut = {"state": gate.state.value, "reason": gate.reason, "reopen_at": spell_time(gate.reopen_at)}
    counters = ("failures", "auth", "data", "unknown", "recovery_fail_count")
    return {
        "name": service.name,
        "gate": shut,
        "rate": rate_json(service, gate),
        "throttled_until": spell_time(gate.throttled_until) if gate else None,
        "counters": {counter: getattr(gate, counter) if gate else 0 for counter in counters},
        "last_recovery_at": spell_time(gate.last_recovery_at) if gate else None,
        "auto_recovery_enabled": gate.auto_recovery_enabled if gate else True,
        "accounts": [
            {
                "account": one.account or None,
                "expires_at": spell_time(one.expires_at),
                "refreshed_at": spell_time(one.refreshed_at),
                "needs_person": one.needs_person,
            }
            for one in accounts
        ],
    }


def rate_json(service: Service, gate: Gate | None) -> dict[str, Any] | None:
    """Spell how fast our calls to a service may begin; None where only `calls_max` limits them."""
    if service.rate_per_s is None:
        return None
    learned = rate.of(gate, service) if gate is not None else None
    return {
        "per_s": service.rate_per_s if learned is None else round(learned, 4),
        "initial_per_s": service.rate_per_s,
        "changed_at": spell_time(gate.rate_since) if gate is not None else None,
    }


async def read_reason(request: Request) -> str:
    """Read the reason that a body may give."""
    try:
        return ReasonIn.model_validate(await read_json(request)).reason
    except ValidationError as error:
        raise unprocessable(error) from None


def unknown(what: str, name: str) -> Problem:
    """Say that there is no such thing."""
    return Problem(404, f"Unknown {what}", f"there is no {what} {name[:100]!r}")


def spell_time(moment: datetime | None) -> str | None:
    """Write a moment as JSON does."""
    return moment.isoformat() if moment is not None else None


def cursor_of(moment: datetime, last_id: str) -> str:
    """Name the last row of a page, so that the next one goes on behind it."""
    return base64.urlsafe_b64encode(f"{moment.isoformat()} {last_id}".encode()).decode()


def before(cursor: str | None) -> tuple[datetime, str] | None:
    """Read a cursor; None begins at the newest row."""
    if cursor is None:
        return None
    try:
        spelled, last_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        moment = datetime.fromisoformat(spelled)
        return in_utc(moment.replace(tzinfo=moment.tzinfo or UTC)), last_id
    except ValueError:  # binascii.Error is one
        raise Problem(422, "The cursor is not ours", "take next_cursor of the page before, unchanged") from None
