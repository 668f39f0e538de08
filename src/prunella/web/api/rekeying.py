"""/api/v1/secrets/rotate: seal anew what older keys sealed; says how much, and never what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.engine import rekeying
from prunella.web.access import Rules, Sent
from prunella.web.api.paging import Out
from prunella.web.api.routing import Rooms

Word = Annotated[str, Field(max_length=1000)]


class RotateIn(BaseModel):
    """Where to go on, and whether to count only."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"after": [], "dry": True}]})

    after: Annotated[list[Word], Field(max_length=3)] = []
    dry: bool = False


class RotatedOut(Out):
    """What a stretch of rows held; `next` is where to go on, and empty at the end."""

    key: str
    looked: int
    older: int
    sealed: int
    unreadable: list[str]
    next: list[str]


def router(app: App) -> Rooms:
    """Return the route."""
    routes = Rooms(prefix="/api/v1/secrets", tags=["secrets"])

    @routes.post("/rotate", summary="Seal anew, under the newest key, the next stretch of what older keys sealed")
    async def rotate(caller: Rules, given: Annotated[RotateIn, Depends(Sent(RotateIn))]) -> RotatedOut:
        keys = app.vault.keys
        found = await rekeying.reseal(app.parts, keys, given.after, by=caller.name, dry=given.dry)
        return RotatedOut(
            key=keys.id,
            looked=found.looked,
            older=found.older,
            sealed=found.sealed,
            unreadable=list(found.unreadable),
            next=list(found.next),
        )

    return routes
