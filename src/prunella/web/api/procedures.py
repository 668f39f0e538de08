"""/api/v1: procedures, their plans and runs, what they found, and the switch that stops everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunella.app import App
from prunella.core.errors import IllegalTransition
from prunella.core.procedures import EndIdleRemedy, PluginCheck, PluginRemedy
from prunella.core.records import Approval, AuditEntry, Run
from prunella.core.states import ApprovalState
from prunella.engine import entities, inbox, orders, proposals
from prunella.engine.pauses import KILL_SWITCH
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.sweep import Swept
from prunella.web.api.resources import Limit, read_reason, spell_time, unknown
from prunella.web.api.self_heal import read_json
from prunella.web.api.self_healing import must_be_entity, notification_json
from prunella.web.auth import Gatehouse
from prunella.web.problems import Problem, unprocessable

_PAGE = 50


class RunIn(BaseModel):
    """How a procedure shall run."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False


class ApproveIn(BaseModel):
    """Which plan somebody agrees to."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(min_length=1, max_length=200)]


def router(app: App, gatehouse: Gatehouse) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1")
    _procedure_routes(routes, app, gatehouse)
    _approval_routes(routes, app, gatehouse)
    _run_routes(routes, app, gatehouse)
    _reading_routes(routes, app, gatehouse)
    _switch_routes(routes, app, gatehouse)
    return routes


def _procedure_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    @routes.get("/procedures", tags=["procedures"])
    async def list_procedures(request: Request) -> JSONResponse:
        gatehouse.reads(request)
        items, rounds = await _procedures(app), await _rounds(app)
        return JSONResponse({"items": items, "rounds": rounds, "next_cursor": None})

    @routes.post("/procedures/{name}/run", tags=["procedures"])
    async def run(request: Request, name: str) -> JSONResponse:
        caller = gatehouse.acts(request)
        _must_be_procedure(app, name)
        try:
            wish = RunIn.model_validate(await read_json(request))
        except ValidationError as error:
            raise unprocessable(error) from None
        if wish.dry_run:
            return JSONResponse(swept_json(name, await orders.dry_run(app.parts, name), dry_run=True))
        return JSONResponse(swept_json(name, await orders.run_now(app.parts, name, by=caller.name), dry_run=False))

    @routes.post("/procedures/{name}/{act}", tags=["procedures"])
    async def act(request: Request, name: str, act: Literal["pause", "resume"]) -> JSONResponse:
        caller = gatehouse.acts(request)
        _must_be_procedure(app, name)
        reason = await read_reason(request)
        change = orders.pause if act == "pause" else orders.resume
        await change(app.parts, name, by=caller.name, reason=reason)
        return JSONResponse(next(one for one in await _procedures(app) if one["name"] == name))


def _approval_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    @routes.get("/approvals", tags=["approvals"])
    async def list_approvals(
        request: Request, state: ApprovalState | None = None, procedure: str | None = None, limit: Limit = _PAGE
    ) -> JSONResponse:
        gatehouse.acts(request)
        equal = {"state": state, "procedure": procedure}
        async with app.store.transaction() as tx:
            found = await tx.approvals.list(most=limit, **_given(equal))
        return JSONResponse({"items": [approval_json(one) for one in found], "next_cursor": None})

    @routes.get("/approvals/{approval_id}", tags=["approvals"])
    async def read_approval(request: Request, approval_id: str) -> JSONResponse:
        gatehouse.acts(request)
        return JSONResponse(approval_json(await _approval(app, approval_id)))

    @routes.post("/approvals/{approval_id}/approve", tags=["approvals"])
    async def approve(request: Request, approval_id: str) -> JSONResponse:
        caller = gatehouse.acts(request)
        try:
            digest = ApproveIn.model_validate(await read_json(request)).digest
        except ValidationError as error:
            raise unprocessable(error) from None
        approved = ApprovalState.APPROVED
        return JSONResponse(await _answered(app, approval_id, approved, by=caller.name, digest=digest))

    @routes.post("/approvals/{approval_id}/reject", tags=["approvals"])
    async def reject(request: Request, approval_id: str) -> JSONResponse:
        caller = gatehouse.acts(request)
        reason = await read_reason(request)
        rejected = ApprovalState.REJECTED
        return JSONResponse(await _answered(app, approval_id, rejected, by=caller.name, reason=reason))


def _run_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    @routes.get("/runs", tags=["runs"])
    async def list_runs(
        request: Request, procedure: str | None = None, incident: str | None = None, limit: Limit = _PAGE
    ) -> JSONResponse:
        gatehouse.acts(request)
        equal = {"procedure": procedure, "incident_id": incident}
        async with app.store.transaction() as tx:
            found = await tx.runs.list(most=limit, **_given(equal))
        return JSONResponse({"items": [run_json(one) for one in found], "next_cursor": None})

    @routes.get("/runs/{run_id}", tags=["runs"])
    async def read_run(request: Request, run_id: str) -> JSONResponse:
        gatehouse.acts(request)
        async with app.store.transaction() as tx:
            found = await tx.runs.get(run_id)
        if found is None:
            raise unknown("run", run_id)
        return JSONResponse(run_json(found))

    @routes.post("/runs/{run_id}/undo", tags=["runs"])
    async def undo(request: Request, run_id: str) -> JSONResponse:
        caller = gatehouse.acts(request)
        undone = await orders.undo(app.parts, run_id, by=caller.name)
        if undone is None:
            raise unknown("run", run_id)
        return JSONResponse({"run": run_id, "restored": undone.restored, "refused": dict(undone.refused)})


def _reading_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    @routes.get("/entities/{entity}/stuck", tags=["entities"])
    async def stuck(request: Request, entity: str) -> JSONResponse:
        gatehouse.acts(request)
        found = await entities.stuck(app.parts, must_be_entity(app, entity))
        items = [
            {
                "key": one.key,
                "issue": one.issue,
                "status": one.status,
                "stuck_minutes": one.minutes,
                "remedy": one.remedy,
                "message": one.message,
            }
            for one in found
        ]
        return JSONResponse({"items": items, "next_cursor": None})

    @routes.get("/notifications", tags=["notifications"])
    async def notifications(
        request: Request, everything: Annotated[bool, Query(alias="all")] = False, limit: Limit = _PAGE
    ) -> JSONResponse:
        gatehouse.acts(request)
        told = await inbox.pending(app.parts, everything=everything, most=limit)
        return JSONResponse({"items": [notification_json(one) for one in told], "next_cursor": None})

    @routes.get("/audit", tags=["audit"])
    async def audit(
        request: Request, target: str | None = None, incident: str | None = None, limit: Limit = _PAGE
    ) -> JSONResponse:
        gatehouse.acts(request)
        equal = {"target": target, "incident_id": incident}
        async with app.store.transaction() as tx:
            found = await tx.audit.list(most=limit, **_given(equal))
        return JSONResponse({"items": [audit_json(one) for one in found], "next_cursor": None})


def _switch_routes(routes: APIRouter, app: App, gatehouse: Gatehouse) -> None:
    """The kill switch: nothing begins while it is thrown."""

    @routes.get("/pause", tags=["pause"])
    async def read_switch(request: Request) -> JSONResponse:
        gatehouse.reads(request)
        return JSONResponse(await _switch(app))

    @routes.post("/pause", tags=["pause"])
    async def pause(request: Request) -> JSONResponse:
        caller = gatehouse.acts(request)
        await orders.pause(app.parts, None, by=caller.name, reason=await read_reason(request))
        return JSONResponse(await _switch(app))

    @routes.post("/resume", tags=["pause"])
    async def resume(request: Request) -> JSONResponse:
        caller = gatehouse.acts(request)
        await orders.resume(app.parts, None, by=caller.name, reason=await read_reason(request))
        return JSONResponse(await _switch(app))


# How things are spelled -------------------------------------------------------------------------------------------


def procedure_json(ready: Ready, row: Mapping[str, Any] | None, next_run: str | None) -> dict[str, Any]:
    """Spell a procedure with what its schedule remembers; rows of the user's tables are never in it."""
    policy, known = ready.policy, row or {}
    check = policy.check.name if isinstance(policy.check, PluginCheck) else _sort(policy.check)
    remedy = policy.remedy.name if isinstance(policy.remedy, PluginRemedy) else _sort(policy.remedy)
    return {
        "name": ready.name,
        "id": policy.id,
        "database": policy.database,
        "check": check,
        "remedy": remedy or ", ".join(_ladder(ready)) or None,
        "level": policy.level.value,
        "schedule": {"every_s": policy.every_s, "cron": policy.cron},
        "last_run": spell_time(known.get("last_started_at")),
        "next_run": next_run,
        "paused_by": known.get("paused_by"),
        "runs": known.get("runs", 0),
        "failures": known.get("failures", 0),
        "last_result": known.get("last_result"),
    }


def swept_json(name: str, swept: Swept, *, dry_run: bool) -> dict[str, Any]:
    """Spell what a run came to, or would come to."""
    verdict = None
    if swept.verdict is not None:
        until = spell_time(swept.verdict.until)
        verdict = {"answer": swept.verdict.answer.value, "reason": swept.verdict.reason, "until": until}
    figures = ("found", "healed", "failed", "resolved", "escalated")
    return {
        "procedure": name,
        "dry_run": dry_run,
        **{figure: getattr(swept, figure) for figure in figures},
        "verdict": verdict,
        "plan": swept.plan,
        "waiting": swept.waiting,
        "runs": [run_json(one) for one in swept.runs],
    }


def approval_json(approval: Approval) -> dict[str, Any]:
    """Spell a plan and its answer."""
    return {
        "id": approval.id,
        "incident_id": approval.incident_id,
        "procedure": approval.procedure,
        "plan": dict(approval.plan),
        "digest": approval.digest,
        "state": approval.state.value,
        "created_at": spell_time(approval.created_at),
        "expires_at": spell_time(approval.expires_at),
        "proposed_by": approval.proposed_by,
        "decided_at": spell_time(approval.decided_at),
        "decided_by": approval.decided_by,
        "reason": approval.reason,
        "superseded_by": approval.superseded_by,
        "used_at": spell_time(approval.used_at),
    }


def run_json(run: Run) -> dict[str, Any]:
    """Spell an attempt."""
    return {
        "id": run.id,
        "incident_id": run.incident_id,
        "service": run.service,
        "procedure": run.procedure,
        "resource": run.resource or None,
        "issue": run.issue or None,
        "remedy": run.remedy,
        "state": run.state.value,
        "attempt": run.attempt,
        "idempotency_key": run.idempotency_key,
        "status": run.status,
        "detail": run.detail,
        "rows": run.touched,
        "worker": run.worker,
        "started_at": spell_time(run.started_at),
        "ended_at": spell_time(run.ended_at),
        "verified_at": spell_time(run.verified_at),
    }


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """Spell an entry of the audit."""
    return {
        "id": entry.id,
        "at": spell_time(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "incident_id": entry.incident_id,
        "reason": entry.reason,
    }


def _ladder(ready: Ready) -> list[str]:
    """Name the remedies that an entity's rules name; others may be asked for, and are none of its own."""
    if ready.entity is None:
        return sorted(ready.remedies)
    return sorted({rule.remedy for rule in ready.entity.stuck.values()} | ({ready.give_up} - {MANUAL}))


# What the routes ask ----------------------------------------------------------------------------------------------


async def _procedures(app: App) -> list[dict[str, Any]]:
    async with app.store.transaction() as tx:
        rows = {row["name"]: row for row in await tx.procedures.all()}
    return [
        procedure_json(ready, rows.get(name), _next_run(app, name, rows.get(name)))
        for name, ready in sorted(app.parts.procedures.items())
    ]


async def _rounds(app: App) -> list[dict[str, Any]]:
    """Return what every deployment does by itself: the scan, retention, and a probe per service."""
    async with app.store.transaction() as tx:
        rows = {row["name"]: row for row in await tx.procedures.all()}
    return [
        {
            "name": name,
            "schedule": {"every_s": one.every_s, "cron": one.cron},
            "last_run": spell_time(row.get("last_started_at")),
            "next_run": _next_run(app, name, rows.get(name)),
            "runs": row.get("runs", 0),
            "failures": row.get("failures", 0),
            "last_result": row.get("last_result"),
        }
        for name, one in sorted(app.rounds.items())
        if name not in app.parts.procedures
        for row in [rows.get(name, {})]
    ]


def _next_run(app: App, name: str, row: Mapping[str, Any] | None) -> str | None:
    last = row["last_started_at"] if row is not None else None
    return spell_time(app.rounds[name].after(last)) if last is not None and not row["paused_by"] else None  # type: ignore[index]


async def _approval(app: App, approval_id: str) -> Approval:
    async with app.store.transaction() as tx:
        found = await tx.approvals.get(approval_id)
    if found is None:
        raise unknown("approval", approval_id)
    return found


async def _answered(app: App, approval_id: str, state: ApprovalState, **answer: str) -> dict[str, Any]:
    """Write an answer; where it comes too late, say which plan stands now."""
    try:
        answered = await proposals.answer(app.parts, approval_id, state, **answer)
    except IllegalTransition as error:
        standing = await _approval(app, approval_id)
        extra = {"state": standing.state.value, "digest": standing.digest, "superseded_by": standing.superseded_by}
        raise Problem(409, "This plan can't be answered so", str(error), extra=extra) from None
    if answered is None:
        raise unknown("approval", approval_id)
    return approval_json(answered)


async def _switch(app: App) -> dict[str, Any]:
    async with app.store.transaction() as tx:
        thrown = (await tx.switches.all()).get(KILL_SWITCH)
    if thrown is None:
        return {"paused": False, "by": None, "reason": None, "since": None}
    since = spell_time(thrown["since"])
    return {"paused": True, "by": thrown["by"], "reason": thrown["reason"], "since": since}


def _must_be_procedure(app: App, name: str) -> None:
    if name not in app.parts.procedures:
        known = ", ".join(sorted(app.parts.procedures)) or "none"
        raise Problem(404, "Unknown procedure", f"there is no procedure {name[:100]!r}; known: {known}")


def _given(equal: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in equal.items() if value is not None}


def _sort(source: object) -> str | None:
    """Name a check or a remedy as prunella.yaml does: FreshnessCheck is `freshness`."""
    if source is None:
        return None
    if isinstance(source, EndIdleRemedy):
        return "end_idle_connections"
    name = type(source).__name__.removesuffix("Check").removesuffix("Remedy")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
