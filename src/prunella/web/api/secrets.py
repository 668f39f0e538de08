"""/api/v1/secrets: named secrets go in and never come out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.services import SecretRef
from prunella.engine import people
from prunella.web.access import Rules, Sent
from prunella.web.api.paging import unknown


class SecretIn(BaseModel):
    """A value for `secret://NAME`."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[str, Field(min_length=1, max_length=65_536)]


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/secrets", tags=["secrets"])

    @routes.get("")
    async def list_secrets(_: Rules) -> JSONResponse:
        async with app.store.transaction() as tx:
            return JSONResponse({"items": await tx.credentials.secret_names(), "next_cursor": None})

    @routes.put("/{name:path}")
    async def put_secret(caller: Rules, given: Annotated[SecretIn, Depends(Sent(SecretIn))], name: str) -> JSONResponse:
        await people.put_secret(app.parts, app.vault.sealed(SecretRef(name), given.value), name, by=caller.name)
        return JSONResponse({"name": name, "stored": True})

    @routes.delete("/{name:path}")
    async def drop_secret(caller: Rules, name: str) -> JSONResponse:
        if not await people.drop_secret(app.parts, name, by=caller.name):
            raise unknown("secret", name)
        return JSONResponse({"name": name, "stored": False})

    return routes
