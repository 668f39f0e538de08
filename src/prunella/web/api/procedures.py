"""/api/v1/procedures: what runs by itself, when, and what its last run came to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import BaseModel, ConfigDict

from prunella.app import App
from prunella.core.procedures import EndIdleRemedy, PluginCheck, PluginRemedy
from prunella.core.records import Level
from prunella.engine import orders
from prunella.engine.gatekeeper import Answer
from prunella.engine.ready import MANUAL, Ready
from prunella.engine.sweep import Swept
from prunella.web.access import Acts, Reads, Sent, Why
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Time, from_list, spell_time
from prunella.web.api.routing import ASKS_YOURS, Rooms
from prunella.web.api.runs import RunOut
from prunella.web.problems import Problem


class RunIn(BaseModel):
    """How a procedure shall run."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"dry_run": True}]})

    dry_run: bool = False


class ScheduleOut(Out):
    """When something runs."""

    every_s: float | None
    cron: str | None


class RoundOut(Out):
    """What every deployment does by itself."""

    name: str
    schedule: ScheduleOut
    last_run: Time | None
    next_run: Time | None
    runs: int
    failures: int
    last_result: dict[str, Any] | None


class ProcedureOut(RoundOut):
    """A procedure with what its schedule remembers; rows of the user's tables are never in it."""

    id: str | None
    database: str | None
    check: str | None
    remedy: str | None
    level: Level
    paused_by: str | None

    @classmethod
    def of(cls, ready: Ready, row: Mapping[str, Any] | None, next_run: str | None) -> ProcedureOut:
        """Spell a procedure."""
        policy, known = ready.policy, row or {}
        check = policy.check.name if isinstance(policy.check, PluginCheck) else _sort(policy.check)
        remedy = policy.remedy.name if isinstance(policy.remedy, PluginRemedy) else _sort(policy.remedy)
        return cls(
            name=ready.name,
            id=policy.id,
            database=policy.database,
            check=check,
            remedy=remedy or ", ".join(_ladder(ready)) or None,
            level=policy.level,
            schedule=ScheduleOut(every_s=policy.every_s, cron=policy.cron),
            last_run=spell_time(known.get("last_started_at")),
            next_run=next_run,
            paused_by=known.get("paused_by"),
            runs=known.get("runs", 0),
            failures=known.get("failures", 0),
            last_result=known.get("last_result"),
        )


class ProceduresOut(Page[ProcedureOut]):
    """Procedures, and the rounds that every deployment makes."""

    rounds: list[RoundOut]


class VerdictOut(Out):
    """What the rules said."""

    answer: Answer
    reason: str
    until: Time | None


class SweptOut(Out):
    """What a run came to, or would come to."""

    procedure: str
    dry_run: bool
    found: int
    healed: int
    failed: int
    resolved: int
    escalated: int
    verdict: VerdictOut | None
    plan: dict[str, Any] | None
    waiting: dict[str, str]
    runs: list[RunOut]

    @classmethod
    def of(cls, name: str, swept: Swept, *, dry_run: bool) -> SweptOut:
        """Spell what a run came to."""
        verdict = None
        if swept.verdict is not None:
            until = spell_time(swept.verdict.until)
            verdict = VerdictOut(answer=swept.verdict.answer, reason=swept.verdict.reason, until=until)
        return cls(
            procedure=name,
            dry_run=dry_run,
            found=swept.found,
            healed=swept.healed,
            failed=swept.failed,
            resolved=swept.resolved,
            escalated=swept.escalated,
            verdict=verdict,
            plan=swept.plan,
            waiting={str(key): why for key, why in swept.waiting.items()},
            runs=[RunOut.of(one) for one in swept.runs],
        )


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/procedures", tags=["procedures"])

    @routes.get("", summary="List procedures by name, and the rounds of every deployment")
    async def list_procedures(_: Reads, limit: Limit = PAGE, cursor: Cursor = None) -> ProceduresOut:
        page, next_cursor = from_list(await _procedures(app), limit, cursor, lambda one: one.name)
        return ProceduresOut(items=page, next_cursor=next_cursor, rounds=await _rounds(app))

    @routes.get("/{name}", summary="Show a procedure")
    async def read_procedure(_: Reads, name: str) -> ProcedureOut:
        _must_be_procedure(app, name)
        return next(one for one in await _procedures(app) if one.name == name)

    @routes.post("/{name}/run", summary="Run a procedure now, or tell what a run would do", responses=ASKS_YOURS)
    async def run_procedure(caller: Acts, wish: Annotated[RunIn, Depends(Sent(RunIn))], name: str) -> SweptOut:
        _must_be_procedure(app, name)
        if wish.dry_run:
            return SweptOut.of(name, await orders.dry_run(app.parts, name), dry_run=True)
        return SweptOut.of(name, await orders.run_now(app.parts, name, by=caller.name), dry_run=False)

    @routes.post("/{name}/{act}", summary="Pause or resume a procedure")
    async def act_on_procedure(caller: Acts, why: Why, name: str, act: Literal["pause", "resume"]) -> ProcedureOut:
        _must_be_procedure(app, name)
        change = orders.pause if act == "pause" else orders.resume
        await change(app.parts, name, by=caller.name, reason=why.reason)
        return next(one for one in await _procedures(app) if one.name == name)

    return routes


def _ladder(ready: Ready) -> list[str]:
    """Name the remedies that an entity's rules name; others may be asked for, and are none of its own."""
    if ready.entity is None:
        return sorted(ready.remedies)
    return sorted({rule.remedy for rule in ready.entity.stuck.values()} | ({ready.give_up} - {MANUAL}))


async def _procedures(app: App) -> list[ProcedureOut]:
    async with app.store.transaction() as tx:
        rows = {row["name"]: row for row in await tx.procedures.all()}
    return [
        ProcedureOut.of(ready, rows.get(name), _next_run(app, name, rows.get(name)))
        for name, ready in app.parts.procedures.items()
    ]


async def _rounds(app: App) -> list[RoundOut]:
    """Return what every deployment does by itself: the scan, retention, and a probe per service."""
    async with app.store.transaction() as tx:
        rows = {row["name"]: row for row in await tx.procedures.all()}
    return [
        RoundOut(
            name=name,
            schedule=ScheduleOut(every_s=one.every_s, cron=one.cron),
            last_run=spell_time(row.get("last_started_at")),
            next_run=_next_run(app, name, rows.get(name)),
            runs=row.get("runs", 0),
            failures=row.get("failures", 0),
            last_result=row.get("last_result"),
        )
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
