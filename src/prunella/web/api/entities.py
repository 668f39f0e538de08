"""/api/v1/entities: what is looked after, and what is stuck."""

from __future__ import annotations

from prunella.app import App
from prunella.engine import entities
from prunella.engine.entities import StuckOne
from prunella.web.access import Acts
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, from_list
from prunella.web.api.routing import ASKS_YOURS, Rooms
from prunella.web.api.self_healing import must_be_entity


class EntityOut(Out):
    """Something whose states are looked after."""

    name: str
    procedure: str
    database: str | None


class StuckOut(Out):
    """One thing that stays in its state for too long."""

    key: int | str
    issue: str
    status: str
    stuck_minutes: int
    remedy: str
    message: str

    @classmethod
    def of(cls, one: StuckOne) -> StuckOut:
        """Spell a thing that is stuck."""
        return cls(
            key=one.key,
            issue=one.issue,
            status=one.status,
            stuck_minutes=one.minutes,
            remedy=one.remedy,
            message=one.message,
        )


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/entities", tags=["entities"])

    @routes.get("", summary="List what is looked after")
    async def list_entities(_: Acts, limit: Limit = PAGE, cursor: Cursor = None) -> Page[EntityOut]:
        known = [
            EntityOut(name=ready.entity.name, procedure=ready.name, database=ready.policy.database)
            for ready in app.parts.procedures.values()
            if ready.entity is not None
        ]
        page, next_cursor = from_list(known, limit, cursor, lambda one: one.name)
        return Page(items=page, next_cursor=next_cursor)

    @routes.get("/{entity}/stuck", summary="List what is stuck", responses=ASKS_YOURS)
    async def stuck(_: Acts, entity: str, limit: Limit = PAGE, cursor: Cursor = None) -> Page[StuckOut]:
        found = await entities.stuck(app.parts, must_be_entity(app, entity))
        page, next_cursor = from_list(found, limit, cursor, lambda one: f"{one.issue} {one.key}")
        return Page(items=[StuckOut.of(one) for one in page], next_cursor=next_cursor)

    return routes
