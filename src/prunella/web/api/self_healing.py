"""/api/v1/self-healing: document D's routes, with its answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.engine import entities, figures, inbox, orders
from prunella.engine.inbox import Told
from prunella.engine.ready import Ready
from prunella.web.access import Acts, Reads, Sent
from prunella.web.problems import Problem

_ENTITY = "order"
"""What document D speaks of; others are named by ?entity=."""
_DAYS = 7

Entity = Annotated[str, Query(min_length=1, max_length=200)]
Days = Annotated[int, Query(ge=1, le=365)]
Limit = Annotated[int, Query(ge=1, le=500)]
Word = Annotated[str, Field(min_length=1, max_length=200)]


class HealIn(BaseModel):
    """What somebody wants done; what is left out is as the entity's rule says."""

    model_config = ConfigDict(extra="forbid")

    issueType: Word | None = None  # noqa: N815, document D's spelling
    recoveryAction: Word | None = None  # noqa: N815


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/self-healing", tags=["self-healing"])
    _entity_routes(routes, app)
    _notice_routes(routes, app)

    @routes.get("/statistics")
    async def statistics(_: Reads, days: Days = _DAYS) -> JSONResponse:
        found = await figures.statistics(app.parts, days)
        return JSONResponse({"success": True, "days": days, "statistics": found})

    @routes.get("/kpis")
    async def kpis(_: Reads, days: Days = _DAYS) -> JSONResponse:
        return JSONResponse({"success": True, "days": days, "kpis": await figures.kpis(app.parts, days)})

    return routes


def _entity_routes(routes: APIRouter, app: App) -> None:
    @routes.get("/stuck-orders")
    async def stuck_orders(_: Acts, entity: Entity = _ENTITY) -> JSONResponse:
        found = [
            {
                "order_id": one.key,
                "issue_type": one.issue,
                "stuck_minutes": one.minutes,
                "recommended_action": one.remedy.upper(),
            }
            for one in await entities.stuck(app.parts, must_be_entity(app, entity))
        ]
        return JSONResponse({"success": True, "count": len(found), "stuckOrders": found})

    @routes.post("/heal/{order_id:path}")
    async def heal(
        caller: Acts, wish: Annotated[HealIn, Depends(Sent(HealIn))], order_id: str, entity: Entity = _ENTITY
    ) -> JSONResponse:
        ready = must_be_entity(app, entity)
        done = await entities.heal(
            app.parts, ready, order_id, issue=wish.issueType, action=wish.recoveryAction, by=caller.name
        )
        if done is None:
            raise Problem(404, f"Unknown {entity}", f"there is no {entity} {order_id[:100]!r}")
        return JSONResponse(
            {
                "success": done.status != "FAILED",
                "healing_id": done.id,
                "order_id": done.key,
                "issue_type": done.issue,
                "recovery_action": done.action,
                "status": done.status,
                "new_status": done.new_status,
                "message": done.message,
            }
        )

    @routes.post("/run-cycle")
    async def run_cycle(caller: Acts, entity: Entity = _ENTITY) -> JSONResponse:
        swept = await orders.run_now(app.parts, must_be_entity(app, entity).name, by=caller.name)
        return JSONResponse({"success": True, "result": {"healed": swept.healed, "failed": swept.failed}})


def _notice_routes(routes: APIRouter, app: App) -> None:
    @routes.get("/notifications")
    async def notifications(
        _: Acts, everything: Annotated[bool, Query(alias="all")] = False, limit: Limit = 100
    ) -> JSONResponse:
        kinds = () if everything else inbox.DOCUMENTED
        told = await inbox.pending(app.parts, kinds=kinds, everything=everything, most=limit)
        found = [notification_json(one) for one in told]
        return JSONResponse({"success": True, "count": len(found), "notifications": found})

    @routes.post("/notifications/{notification_id}/acknowledge")
    async def acknowledge(caller: Acts, notification_id: str) -> JSONResponse:
        seen = await inbox.acknowledge(app.parts, notification_id, by=caller.name)
        if seen is None:
            raise Problem(404, "Unknown notification", f"there is no notification {notification_id[:100]!r}")
        body = {"notification_id": seen.id, "acknowledged_at": _time(seen.acknowledged_at)}
        return JSONResponse({"success": True, **body, "acknowledged_by": seen.acknowledged_by})


def must_be_entity(app: App, name: str) -> Ready:
    """Return the procedure that looks after an entity, or answer 404."""
    found = entities.ready_of(app.parts, name)
    if found is None:
        known = sorted(one.entity.name for one in app.parts.procedures.values() if one.entity is not None)
        raise Problem(404, "Unknown entity", f"there is no entity {name[:100]!r}; known: {', '.join(known) or 'none'}")
    return found


def notification_json(told: Told) -> dict[str, Any]:
    """Spell a notice as document D does."""
    one = told.notification
    return {
        "notification_id": one.id,
        "type": one.kind,
        "severity": one.severity.value,
        "title": one.title,
        "message": "; ".join(f"{name}: {value}" for name, value in one.facts),
        "order_id": _as_key(one.resource),
        "healing_id": one.run_id,
        "incident_id": one.incident_id,
        "link": one.link,
        "delivery": dict(told.delivery),
        "created_at": _time(one.created_at),
        "acknowledged_at": _time(one.acknowledged_at),
    }


def _as_key(resource: str | None) -> int | str | None:
    """Write what looks like a number as one: a notice keeps the text alone."""
    is_number = resource is not None and resource.isdecimal() and resource == str(int(resource))
    return int(resource) if is_number and resource is not None else resource


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
