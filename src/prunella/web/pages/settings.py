"""Settings as they stand, keys of programs, who looks, versions and licences. Shows; only keys can be changed here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prunella import __version__
from prunella.app import App
from prunella.core.errors import InvalidInput
from prunella.core.records import ApiKey
from prunella.engine import entrances
from prunella.web.access import Reads, Rules
from prunella.web.auth import Caller, Role, form_of
from prunella.web.pages.forms import Refusal, back_saying, show, tried
from prunella.web.pages.frame import STATIC, Frame
from prunella.web.problems import Problem

_PACKAGES = ("fastapi", "starlette", "uvicorn", "jinja2", "SQLAlchemy", "psycopg", "procrastinate", "httpx2")
_NAME_CHARS_MAX = 100
_DAYS_MAX = 3650


def add_routes(routes: APIRouter, app: App, frame: Frame) -> None:
    """Add the page to those that are there."""

    @routes.get("/settings")
    async def settings(caller: Reads, request: Request) -> Response:
        return await _page(app, frame, request, caller)

    @routes.post("/settings/keys")
    async def make_key(caller: Rules, request: Request) -> Response:
        came = await tried(_made(app, caller, await form_of(request)))
        if isinstance(came, Refusal):
            return await _page(app, frame, request, caller, refusal=came)
        return await _page(app, frame, request, caller, came)

    @routes.post("/settings/keys/{key_id}/revoke")
    async def revoke_key(caller: Rules, request: Request, key_id: str) -> Response:
        revoked = await entrances.revoke_key(app.parts, key_id, by=caller.name)
        if revoked is None:
            raise Problem(404, "Unknown key", f"there is no key {key_id[:100]!r}")
        return back_saying(request, caller, "/settings", f"The key of {revoked.name} opens nothing any more.")


async def _made(app: App, caller: Caller, form: Mapping[str, str]) -> tuple[ApiKey, str]:
    name, role, days = form.get("name", "").strip(), form.get("role", ""), form.get("days", "").strip()
    if not 0 < len(name) <= _NAME_CHARS_MAX:
        raise InvalidInput(f"a key needs a name of at most {_NAME_CHARS_MAX} letters; say which program has it")
    if role not in [one.value for one in Role]:
        raise InvalidInput(f"there is no role {role[:50]!r}; allowed: {', '.join(Role)}")
    if days and not (days.isdecimal() and len(days) < 5 and 0 < int(days) <= _DAYS_MAX):
        raise InvalidInput(f"a key is good for 1 to {_DAYS_MAX} days, or, left empty, until it is revoked")
    until = app.parts.clock.now() + timedelta(days=int(days)) if days else None
    return await entrances.new_key(app.parts, name, role, until, by=caller.name)


async def _page(
    app: App,
    frame: Frame,
    request: Request,
    caller: Caller,
    made: tuple[ApiKey, str] | None = None,
    refusal: Refusal | None = None,
) -> Response:
    keys: list[ApiKey] = []
    if caller.role is Role.ADMIN:
        async with app.store.transaction() as tx:
            keys = await tx.entrances.keys()
    return await show(
        frame,
        request,
        "settings.html",
        caller=caller,
        refusal=refusal,
        lines=app.settings.effective() if caller.role is not Role.VIEWER else [],
        warnings=app.settings.warnings if caller.role is not Role.VIEWER else (),
        keys=sorted(keys, key=lambda key: (key.revoked_at is not None, key.name)),
        made=made,
        roles=[role.value for role in Role],
        versions=versions(),
        revision=await app.store.revision(),
        kind=app.settings.database_url.partition(":")[0].partition("+")[0],
        licences=licences(),
    )


@cache
def versions() -> dict[str, str]:
    """Return what is installed, and in which version."""
    found = {"prunella": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def licences() -> dict[str, str]:
    """Return the licences of what the pages ship with."""
    return {path.stem: path.read_text() for path in sorted((STATIC / "vendor").glob("*.LICENSE"))}
