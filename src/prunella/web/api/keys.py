"""/api/v1/keys: API keys of programs; what a key looks like is answered once, when it is made."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from prunella.app import App
from prunella.core.records import ApiKey
from prunella.engine import entrances
from prunella.web.access import Rules, Sent, Told
from prunella.web.api.events import Moment
from prunella.web.api.paging import PAGE, Cursor, Limit, Out, Page, Time, from_list, spell_time, unknown
from prunella.web.api.routing import Rooms
from prunella.web.auth import Role


class KeyIn(BaseModel):
    """A key that is wanted."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "ci", "role": "OPERATIONS", "expires_at": None}]}
    )

    name: Annotated[Told, Field(min_length=1, max_length=100)]
    role: Role
    expires_at: Moment | None = None


class KeyOut(Out):
    """A key, without anything that opens a door."""

    id: str
    name: str
    role: Role
    created_at: Time
    created_by: str
    expires_at: Time | None
    revoked_at: Time | None
    revoked_by: str | None
    used_at: Time | None

    @classmethod
    def of(cls, key: ApiKey) -> KeyOut:
        """Spell a key."""
        return cls(**_facts(key))


class NewKeyOut(KeyOut):
    """A key that was just made."""

    key: Annotated[str, Field(description="Shown this once.")]


def router(app: App) -> Rooms:
    """Return the routes."""
    routes = Rooms(prefix="/api/v1/keys", tags=["keys"])

    @routes.get("", summary="List keys, oldest first")
    async def list_keys(_: Rules, limit: Limit = PAGE, cursor: Cursor = None) -> Page[KeyOut]:
        async with app.store.transaction() as tx:
            found = await tx.entrances.keys()
        page, next_cursor = from_list(found, limit, cursor, lambda one: one.id)
        return Page(items=[KeyOut.of(one) for one in page], next_cursor=next_cursor)

    @routes.post("", status_code=201, summary="Make a key")
    async def make_key(caller: Rules, wish: Annotated[KeyIn, Depends(Sent(KeyIn))]) -> NewKeyOut:
        key, shown = await entrances.new_key(app.parts, wish.name, wish.role, wish.expires_at, by=caller.name)
        return NewKeyOut(**_facts(key), key=shown)

    @routes.delete("/{key_id}", summary="End a key")
    async def revoke_key(caller: Rules, key_id: str) -> KeyOut:
        ended = await entrances.revoke_key(app.parts, key_id, by=caller.name)
        if ended is None:
            raise unknown("key", key_id)
        return KeyOut.of(ended)

    return routes


def _facts(key: ApiKey) -> dict[str, Any]:
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
