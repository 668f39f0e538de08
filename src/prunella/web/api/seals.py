"""/api/v1/audit/verify: whether the audit is as it was written."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from prunella.app import App
from prunella.engine import seals
from prunella.web.access import Acts
from prunella.web.api.paging import spell_time
from prunella.web.problems import Problem

_NOTED = re.compile(r"([1-9][0-9]{0,8}):([0-9a-f]{64})")


def router(app: App) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/api/v1/audit", tags=["audit"])

    @routes.get("/verify", summary="Compare every entry with its seal, and every seal with the one before")
    async def verify_audit(_: Acts, noted: str | None = None) -> JSONResponse:
        return JSONResponse(spell(await seals.verify(app.parts, _seal(noted) if noted else None)))

    return routes


def _seal(text: str) -> tuple[int, str]:
    match = _NOTED.fullmatch(text)
    if match is None:
        detail = "write it as the log or an earlier look showed it: NUMBER:DIGEST, 64 hexadecimal digits"
        raise Problem(422, "This is no seal", errors=[{"pointer": "/noted", "detail": detail}])
    return int(match[1]), match[2]


def spell(found: seals.Checked) -> dict[str, Any]:
    """Spell what was found; `noted` is what to keep elsewhere for the next look."""
    last = found.last
    return {
        "ok": found.broken is None,
        "seals": found.seals,
        "entries": found.entries,
        "forgotten": found.forgotten,
        "unsealed": found.unsealed,
        "broken": None if found.broken is None else {"seal": found.broken, "why": found.why},
        "last": last and {"number": last.number, "digest": last.digest, "sealed_at": spell_time(last.sealed_at)},
        "noted": last and f"{last.number}:{last.digest}",
    }
