"""/api/v1/keys: API keys of programs; what a key looks like is answered once, when it is made."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.records import ApiKey
from prunella.engine import entrances
from prunella.web.access import Rules, Sent
from prunella.web.api.paging import spell_time, unknown
from prunella.web.auth import Role


class KeyIn(BaseModel):
    """A key that is wanted."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role
    expires_at: AwareDatetime | None = None


def router(app: App) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/keys", tags=["keys"])

    @routes.get("")
    async def list_keys(_: Rules) -> JSONResponse:
        async with app.store.transaction() as tx:
            found = await tx.entrances.keys()
        return JSONResponse({"items": [key_json(one) for one in found], "next_cursor": None})

    @routes.post("", status_code=201)
    async def make_key(caller: Rules, wish: Annotated[KeyIn, Depends(Sent(KeyIn))]) -> JSONResponse:
        key, shown = await entrances.new_key(app.parts, wish.name, wish.role, wish.expires_at, by=caller.name)
        return JSONResponse(key_json(key) | {"key": shown}, status_code=201)

    @routes.delete("/{key_id}")
    async def revoke_key(caller: Rules, key_id: str) -> JSONResponse:
        ended = await entrances.revoke_key(app.parts, key_id, by=caller.name)
        if ended is None:
            raise unknown("key", key_id)
        return JSONResponse(key_json(ended))

    return routes


def key_json(key: ApiKey) -> dict[str, Any]:
    """Spell a key, without anything that opens a door."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "created_at": spell_time(key.created_at),
        "created_by": key.created_by,
        "expires_at": spell_time(key.expires_at),
        "revoked_at": spell_time(key.revoked_at),
        "revoked_by": key.revoked_by,
        "used_at": spell_time(key.used_at),
    }
