"""/api/v1/secrets: named secrets go in and never come out."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.services import SecretRef
from prunella.engine import people
from prunella.web.access import Rules, Sent
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, from_list, unknown
from prunella.web.api.routing import Rooms

Name = Annotated[str, Path(min_length=1, max_length=500)]


class SecretIn(BaseModel):
    """A value for `secret://NAME`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"value": "what only two may know"}]})

    value: Annotated[str, Field(min_length=1, max_length=65_536)]


class StoredOut(Out):
    """Whether a secret is stored."""

    name: str
    stored: bool


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/secrets", tags=["secrets"])

    @routes.get("", summary="List names of secrets")
    async def list_secrets(_: Rules, limit: Limit = PAGE, cursor: Cursor = None) -> Page[str]:
        async with app.store.transaction() as tx:
            names = await tx.credentials.secret_names()
        page, next_cursor = from_list(names, limit, cursor, str)
        return Page(items=page, next_cursor=next_cursor)

    @routes.put("/{name:path}", summary="Store a secret")
    async def put_secret(caller: Rules, given: Annotated[SecretIn, Depends(Sent(SecretIn))], name: Name) -> StoredOut:
        await people.put_secret(app.parts, app.vault.sealed(SecretRef(name), given.value), name, by=caller.name)
        return StoredOut(name=name, stored=True)

    @routes.delete("/{name:path}", summary="Forget a secret")
    async def drop_secret(caller: Rules, name: Name) -> StoredOut:
        if not await people.drop_secret(app.parts, name, by=caller.name):
            raise unknown("secret", name)
        return StoredOut(name=name, stored=False)

    return routes
