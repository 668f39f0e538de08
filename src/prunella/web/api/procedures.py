"""/api/v1/procedures: what runs by itself, when, and what its last run came to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from prunella.app import App
from prunella.core.procedures import EndIdleRemedy, PluginCheck, PluginRemedy
from prunella.engine import orders
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.sweep import Swept
from prunella.web.access import Acts, Reads, Sent, Why
from prunella.web.api.paging import spell_time
from prunella.web.api.runs import run_json
from prunella.web.problems import Problem


class RunIn(BaseModel):
    """How a procedure shall run."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/procedures", tags=["procedures"])

    @routes.get("")
    async def list_procedures(_: Reads) -> JSONResponse:
        items, rounds = await _procedures(app), await _rounds(app)
        return JSONResponse({"items": items, "rounds": rounds, "next_cursor": None})

    @routes.post("/{name}/run")
    async def run(caller: Acts, wish: Annotated[RunIn, Depends(Sent(RunIn))], name: str) -> JSONResponse:
        _must_be_procedure(app, name)
        if wish.dry_run:
            return JSONResponse(swept_json(name, await orders.dry_run(app.parts, name), dry_run=True))
        return JSONResponse(swept_json(name, await orders.run_now(app.parts, name, by=caller.name), dry_run=False))

    @routes.post("/{name}/{act}")
    async def act(caller: Acts, why: Why, name: str, act: Literal["pause", "resume"]) -> JSONResponse:
        _must_be_procedure(app, name)
        change = orders.pause if act == "pause" else orders.resume
        await change(app.parts, name, by=caller.name, reason=why.reason)
        return JSONResponse(next(one for one in await _procedures(app) if one["name"] == name))

    return routes


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


def _ladder(ready: Ready) -> list[str]:
    """Name the remedies that an entity's rules name; others may be asked for, and are none of its own."""
    if ready.entity is None:
        return sorted(ready.remedies)
    return sorted({rule.remedy for rule in ready.entity.stuck.values()} | ({ready.give_up} - {MANUAL}))


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


def _must_be_procedure(app: App, name: str) -> None:
    if name not in app.parts.procedures:
        known = ", ".join(sorted(app.parts.procedures)) or "none"
        raise Problem(404, "Unknown procedure", f"there is no procedure {name[:100]!r}; known: {known}")


def _sort(source: object) -> str | None:
    """Name a check or a remedy as prunella.yaml does: FreshnessCheck is `freshness`."""
    if source is None:
        return None
    if isinstance(source, EndIdleRemedy):
        return "end_idle_connections"
    name = type(source).__name__.removesuffix("Check").removesuffix("Remedy")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
