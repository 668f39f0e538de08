"""/api/v1/links: people are let into the dashboard and turned out; a link is shown once, when it is made."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.engine import entrances
from prunella.web.access import Rules, Sent, Told
from prunella.web.api.paging import Out, Time, unknown
from prunella.web.api.routing import Rooms


class LinkIn(BaseModel):
    """A link that is wanted."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Told, Field(min_length=1, max_length=100)]
    role: Literal["VIEWER", "OPERATIONS", "ADMIN"] = "VIEWER"
    ttl_s: Annotated[float, Field(ge=60, le=30 * 86_400)] = 86_400.0


class LinkOut(Out):
    """A link that was made."""

    name: str
    role: str
    expires_at: Time
    address: str


class TurnedOutOut(Out):
    """What was ended."""

    name: str
    sessions: int
    links: int


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/links", tags=["links"])

    @routes.post("", status_code=201, summary="Make a link that signs somebody in, once")
    async def make_link(caller: Rules, wish: Annotated[LinkIn, Depends(Sent(LinkIn))]) -> LinkOut:
        life = timedelta(seconds=wish.ttl_s)
        shown, ends = await entrances.new_link(app.parts, wish.name, wish.role, life, by=caller.name)
        address = f"{app.settings.public_url}/login?token={shown}"
        return LinkOut(name=wish.name.strip(), role=wish.role, expires_at=ends.isoformat(), address=address)

    @routes.delete("/{name:path}", summary="End a person's sessions and unopened links")
    async def turn_out(caller: Rules, name: str) -> TurnedOutOut:
        ended = await entrances.turn_out(app.parts, name, by=caller.name)
        if ended is None:
            raise unknown("person", name)
        return TurnedOutOut(name=name, sessions=ended[0], links=ended[1])

    return routes
