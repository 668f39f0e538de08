"""/api/v1/self-healing: document D's routes, with its answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.records import Severity
from prunella.engine import entities, figures, inbox, orders
from prunella.engine.inbox import Told
from prunella.engine.ready import Ready
from prunella.web.access import Acts, Reads, Sent
from prunella.web.api.paging import Out, Time, spell_time, unknown
from prunella.web.api.routing import ASKS_YOURS, Rooms
from prunella.web.problems import Problem

_ENTITY = "order"
"""What document D speaks of; others are named by ?entity=."""
_DAYS = 7

Entity = Annotated[str, Query(min_length=1, max_length=200)]
Days = Annotated[int, Query(ge=1, le=365)]
Limit = Annotated[int, Query(ge=1, le=500)]
Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class HealIn(BaseModel):
    """What somebody wants done; what is left out is as the entity's rule says."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"issueType": "STUCK_PENDING", "recoveryAction": "REASSIGN_VENDOR"}]},
    )

    issueType: Word | None = None  # noqa: N815, document D's spelling
    recoveryAction: Word | None = None  # noqa: N815


class StuckOrderOut(Out):
    """An order that is stuck."""

    order_id: int | str
    issue_type: str
    stuck_minutes: int
    recommended_action: str


class StuckOrdersOut(Out):
    """Every order that is stuck."""

    success: Literal[True] = True
    count: int
    stuckOrders: list[StuckOrderOut]  # noqa: N815, document D's spelling


class HealedOut(Out):
    """What came of a wish to heal."""

    success: bool
    healing_id: str | None
    order_id: int | str
    issue_type: str
    recovery_action: str
    status: Annotated[str, Field(json_schema_extra={"enum": ["SUCCESS", "FAILED", "IN_PROGRESS", "MANUAL"]})]
    new_status: str | None
    message: str

    @classmethod
    def of(cls, done: entities.Healing) -> HealedOut:
        """Spell what came of it."""
        return cls(
            success=done.status != "FAILED",
            healing_id=done.id,
            order_id=done.key,
            issue_type=done.issue,
            recovery_action=done.action,
            status=done.status,
            new_status=done.new_status,
            message=done.message,
        )


class CycleOut(Out):
    """What a cycle came to."""

    healed: int
    failed: int


class CycledOut(Out):
    """That a cycle was run."""

    success: Literal[True] = True
    result: CycleOut


class NotificationOut(Out):
    """A notice, as document D spells it."""

    notification_id: str
    type: str
    severity: Severity
    title: str
    message: str
    order_id: int | str | None
    healing_id: str | None
    incident_id: str | None
    link: str | None
    delivery: dict[str, str]
    created_at: Time
    acknowledged_at: Time | None

    @classmethod
    def of(cls, told: Told) -> NotificationOut:
        """Spell a notice."""
        one = told.notification
        return cls(
            notification_id=one.id,
            type=one.kind,
            severity=one.severity,
            title=one.title,
            message="; ".join(f"{name}: {value}" for name, value in one.facts),
            order_id=_as_key(one.resource),
            healing_id=one.run_id,
            incident_id=one.incident_id,
            link=one.link,
            delivery=dict(told.delivery),
            created_at=one.created_at.isoformat(),
            acknowledged_at=spell_time(one.acknowledged_at),
        )


class NotificationsOut(Out):
    """What people were told."""

    success: Literal[True] = True
    count: int
    notifications: list[NotificationOut]


class AcknowledgedOut(Out):
    """That somebody has seen a notice."""

    success: Literal[True] = True
    notification_id: str
    acknowledged_at: Time | None
    acknowledged_by: str | None


class StatisticsOut(Out):
    """Figures by issue and action."""

    success: Literal[True] = True
    days: int
    statistics: list[dict[str, Any]]


class KpisOut(Out):
    """Document D's targets with their values."""

    success: Literal[True] = True
    days: int
    kpis: list[dict[str, Any]]


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/self-healing", tags=["self-healing"])
    _entity_routes(routes, app)
    _notice_routes(routes, app)

    @routes.get("/statistics", summary="Count what was healed, by issue and action")
    async def statistics(_: Reads, days: Days = _DAYS) -> StatisticsOut:
        return StatisticsOut(days=days, statistics=await figures.statistics(app.parts, days))

    @routes.get("/kpis", summary="Tell which targets are met")
    async def kpis(_: Reads, days: Days = _DAYS) -> KpisOut:
        return KpisOut(days=days, kpis=await figures.kpis(app.parts, days))

    return routes


def _entity_routes(routes: Rooms, app: App) -> None:
    @routes.get("/stuck-orders", summary="List what is stuck", responses=ASKS_YOURS)
    async def stuck_orders(_: Acts, entity: Entity = _ENTITY) -> StuckOrdersOut:
        found = [
            StuckOrderOut(
                order_id=one.key,
                issue_type=one.issue,
                stuck_minutes=one.minutes,
                recommended_action=one.remedy.upper(),
            )
            for one in await entities.stuck(app.parts, must_be_entity(app, entity))
        ]
        return StuckOrdersOut(count=len(found), stuckOrders=found)

    @routes.post("/heal/{order_id:path}", summary="Heal one order", responses=ASKS_YOURS)
    async def heal(
        caller: Acts, wish: Annotated[HealIn, Depends(Sent(HealIn))], order_id: str, entity: Entity = _ENTITY
    ) -> HealedOut:
        ready = must_be_entity(app, entity)
        done = await entities.heal(
            app.parts, ready, order_id, issue=wish.issueType, action=wish.recoveryAction, by=caller.name
        )
        if done is None:
            raise unknown(entity, order_id)
        return HealedOut.of(done)

    @routes.post("/run-cycle", summary="Heal what is stuck now", responses=ASKS_YOURS)
    async def run_cycle(caller: Acts, entity: Entity = _ENTITY) -> CycledOut:
        swept = await orders.run_now(app.parts, must_be_entity(app, entity).name, by=caller.name)
        return CycledOut(result=CycleOut(healed=swept.healed, failed=swept.failed))


def _notice_routes(routes: Rooms, app: App) -> None:
    @routes.get("/notifications", summary="List what waits for somebody's eyes")
    async def notifications(
        _: Acts, everything: Annotated[bool, Query(alias="all")] = False, limit: Limit = 100
    ) -> NotificationsOut:
        kinds = () if everything else inbox.DOCUMENTED
        told = await inbox.pending(app.parts, kinds=kinds, everything=everything, most=limit)
        return NotificationsOut(count=len(told), notifications=[NotificationOut.of(one) for one in told])

    @routes.post("/notifications/{notification_id}/acknowledge", summary="Note that somebody has seen it")
    async def acknowledge(caller: Acts, notification_id: str) -> AcknowledgedOut:
        return await acknowledged(app, notification_id, by=caller.name)


async def acknowledged(app: App, notification_id: str, *, by: str) -> AcknowledgedOut:
    """Acknowledge a notice, and tell so; 404 where there is none."""
    seen = await inbox.acknowledge(app.parts, notification_id, by=by)
    if seen is None:
        raise unknown("notification", notification_id)
    return AcknowledgedOut(
        notification_id=seen.id, acknowledged_at=spell_time(seen.acknowledged_at), acknowledged_by=seen.acknowledged_by
    )


def must_be_entity(app: App, name: str) -> Ready:
    """Return the procedure that looks after an entity, or answer 404."""
    found = entities.ready_of(app.parts, name)
    if found is None:
        known = sorted(one.entity.name for one in app.parts.procedures.values() if one.entity is not None)
        raise Problem(404, "Unknown entity", f"there is no entity {name[:100]!r}; known: {', '.join(known) or 'none'}")
    return found


def _as_key(resource: str | None) -> int | str | None:
    """Write what looks like a number as one: a notice keeps the text alone."""
    is_number = resource is not None and resource.isdecimal() and resource == str(int(resource))
    return int(resource) if is_number and resource is not None else resource
